//! Tokens back to text: the names of what is looked at no further, and the last resort of the comparison.

use super::lex::Token;

/// The tokens as one line of text, the same for every way to write them. Capitals count.
pub fn plain(tokens: &[Token]) -> String {
    let mut text = String::new();
    let mut number = false;
    for (at, token) in tokens.iter().enumerate() {
        // Braces around one sign print nothing and change nothing; around several, `\sqrt{xy}`, they do.
        let lone = |at: usize| match &tokens[at] {
            Token::Number(number) => number.before.len() == 1 && number.is_whole(),
            token => matches!(token, Token::Letter(_) | Token::Command(_) | Token::Mark(_)),
        };
        let closes = |at: usize| tokens.get(at) == Some(&Token::End);
        let opens = |at: Option<usize>| at.is_some_and(|at| tokens[at] == Token::Begin);
        let small = match token {
            Token::Begin => closes(at + 1) || (closes(at + 2) && lone(at + 1)),
            Token::End => opens(at.checked_sub(1)) || (opens(at.checked_sub(2)) && lone(at - 1)),
            _ => false,
        };
        if !small {
            push(&mut text, token, number);
            number = matches!(token, Token::Number(_));
        }
    }
    text
}

/// Likewise, for words: capitals do not count in text, in long words and where all is words.
pub fn words(tokens: &[Token]) -> String {
    let letters = |token: &Token| match token {
        Token::Text(word) | Token::Run(word) => word.chars().count(),
        Token::Letter(_) => 1,
        _ => 0,
    };
    let worded = |token: &Token| letters(token) > 0 || matches!(token, Token::Mark('-' | '\'' | '.' | '/'));
    let all = tokens.iter().all(worded) && tokens.iter().any(|token| letters(token) >= 4 || is_word(token));
    let lowered = tokens.iter().map(|token| match token {
        Token::Text(word) if all || word.chars().nth(1).is_some() => Token::Text(word.to_lowercase()),
        Token::Run(word) if all || word.chars().nth(3).is_some() => Token::Text(word.to_lowercase()),
        Token::Letter(c) if all && tokens.len() > 1 => Token::Text(c.to_lowercase().collect()),
        other => other.clone(),
    });
    plain(&lowered.collect::<Vec<_>>())
}

/// Whether letters are a word, and no product of letters.
fn is_word(token: &Token) -> bool {
    match token {
        Token::Text(word) => word.chars().nth(1).is_some(),
        Token::Run(run) => super::words::is_word(run),
        _ => false,
    }
}

fn push(text: &mut String, token: &Token, after_number: bool) {
    match token {
        Token::Number(number) => {
            // Two numbers side by side stay two.
            if after_number {
                text.push(' ');
            }
            text.push_str(&number.before);
            if !number.is_whole() {
                text.push('.');
                text.push_str(&number.after);
            }
            if !number.repeating.is_empty() {
                text.push('(');
                text.push_str(&number.repeating);
                text.push(')');
            }
        }
        Token::Letter(c) | Token::Mark(c) | Token::Money(c) | Token::Open(c) | Token::Close(c) => {
            text.push(*c);
        }
        Token::Run(word) | Token::Text(word) => text.push_str(word),
        Token::Command(name) => {
            text.push_str(name);
            text.push(' ');
        }
        // Told from the brackets of sets.
        Token::Begin => text.push('\u{2}'),
        Token::End => text.push('\u{3}'),
        Token::Env(name) => {
            text.push_str("\\begin ");
            text.push_str(name);
            text.push(' ');
        }
        Token::EndEnv => text.push_str("\\end "),
        Token::Row => text.push_str("\\\\"),
        Token::Cell => text.push('&'),
        Token::Degree => text.push('°'),
        Token::Percent => text.push('%'),
    }
}
