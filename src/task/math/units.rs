//! Units: what stands behind a number, or the currency before it.

use std::borrow::Cow;

use super::lex::Token;
use super::words;

/// The tokens without their unit, and its name in one spelling, such as `cm^2`, `degree`, `percent` or `dollar`.
///
/// Text behind something with a value is a unit whatever it says; letters of a formula are one only if they are known as a
/// unit and stand behind a number. When there is more behind, such as another number, nothing is taken off.
pub fn strip(tokens: &[Token]) -> (Cow<'_, [Token]>, Option<String>) {
    let money = |c: char| match c {
        '£' => "pound sterling",
        '€' => "euro",
        _ => "dollar",
    };
    match tokens {
        [Token::Money(c), rest @ ..] if !rest.is_empty() => (rest.into(), Some(money(*c).to_owned())),
        [Token::Mark('-'), Token::Money(c), rest @ ..] if !rest.is_empty() => {
            let negative = [&[Token::Mark('-')], rest].concat();
            (negative.into(), Some(money(*c).to_owned()))
        }
        _ => {
            let unit = (1..tokens.len()).find(|at| starts_unit(tokens, *at));
            let name = unit.and_then(|at| name(&tokens[at..], money).map(|name| (at, name)));
            match name {
                Some((at, name)) => (tokens[..at].into(), Some(name)),
                None => (tokens.into(), None),
            }
        }
    }
}

fn starts_unit(tokens: &[Token], at: usize) -> bool {
    let valued = matches!(tokens[at - 1], Token::Number(_) | Token::End | Token::Close(_))
        || matches!(&tokens[at - 1], Token::Command(name) if words::is_quantity(name));
    let last = at + 1 == tokens.len();
    match &tokens[at] {
        // Minutes, not a minimum.
        Token::Text(word) | Token::Run(word) if word == "min" && last => valued,
        Token::Text(word) if words::function(word).is_some() || !words::is_unit(word) => false,
        Token::Text(word) => {
            valued || (word.chars().count() > 1 && matches!(tokens[at - 1], Token::Letter(_)))
        }
        Token::Run(run) => valued && words::is_typed_unit(run),
        Token::Degree | Token::Percent | Token::Money(_) => true,
        _ => false,
    }
}

/// The name of a unit, when the tokens are nothing else.
fn name(tokens: &[Token], money: impl Fn(char) -> &'static str) -> Option<String> {
    let mut name = String::new();
    // What a word such as `square` says about the next one.
    let mut power = "";
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Text(word) if !words::is_unit(word) => return None,
            Token::Text(word) | Token::Run(word) => match words::unit(word).as_str() {
                "square" => power = "^2",
                "cubic" => power = "^3",
                "per" => name.push('/'),
                unit => {
                    name.push_str(unit);
                    name.push_str(std::mem::take(&mut power));
                }
            },
            Token::Degree => name.push_str("degree"),
            Token::Percent => name.push_str("percent"),
            Token::Money(c) => name.push_str(money(*c)),
            Token::Mark('.' | '*') => {}
            Token::Mark('/') => name.push('/'),
            Token::Mark('^') => {
                let (digits, length) = match &tokens[at..] {
                    [Token::Number(number), ..] => (number.before.clone(), 1),
                    [Token::Begin, Token::Number(number), Token::End, ..] => (number.before.clone(), 3),
                    [Token::Begin, Token::Mark('-'), Token::Number(number), Token::End, ..] => {
                        (format!("-{}", number.before), 4)
                    }
                    _ => return None,
                };
                name.push('^');
                name.push_str(&digits);
                at += length;
            }
            _ => return None,
        }
    }
    Some(name)
}
