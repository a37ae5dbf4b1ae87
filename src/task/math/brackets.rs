//! Brackets among tokens: what is inside of them, what is outside, and where they end.

use super::lex::Token;

/// Whether every bracket is closed by one of its kind.
pub fn is_balanced(tokens: &[Token]) -> bool {
    let mut open = Vec::new();
    let matches = |token: &Token, close: &Token| match (token, close) {
        (Token::Begin, Token::End)
        | (Token::Env(_), Token::EndEnv)
        | (Token::Open('(' | '['), Token::Close(')' | ']')) => true,
        (Token::Open(open), Token::Close(close)) => {
            matches!((open, close), ('{', '}') | ('⟨', '⟩') | ('⌊', '⌋') | ('⌈', '⌉'))
        }
        _ => false,
    };
    for token in tokens {
        match token {
            Token::Begin | Token::Env(_) | Token::Open(_) => open.push(token),
            Token::End | Token::EndEnv | Token::Close(_)
                if !open.pop().is_some_and(|opened| matches(opened, token)) =>
            {
                return false;
            }
            _ => {}
        }
    }
    open.is_empty()
}

/// The places outside of all brackets, with their tokens.
pub fn outside(tokens: &[Token]) -> impl Iterator<Item = (usize, &Token)> {
    let mut depth = 0_usize;
    tokens.iter().enumerate().filter(move |(_, token)| match token {
        Token::Begin | Token::Env(_) | Token::Open(_) => {
            depth += 1;
            depth == 1
        }
        Token::End | Token::EndEnv | Token::Close(_) => {
            depth = depth.saturating_sub(1);
            depth == 0
        }
        _ => depth == 0,
    })
}

/// The tokens that are in no set, whose elements have signs of their own.
pub fn outside_sets(tokens: &[Token]) -> impl Iterator<Item = &Token> {
    let mut depth = 0_usize;
    tokens.iter().filter(move |token| {
        match token {
            Token::Open('{') => depth += 1,
            Token::Close('}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

/// The pieces between the tokens outside of brackets that separate.
pub fn split(tokens: &[Token], separates: impl Fn(&Token) -> bool) -> Vec<&[Token]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, _) in outside(tokens).filter(|(_, token)| separates(token)) {
        pieces.push(&tokens[start..at]);
        start = at + 1;
    }
    pieces.push(&tokens[start..]);
    pieces
}

/// Without full stops at the end, and without braces around the whole.
pub fn trimmed(mut tokens: &[Token]) -> &[Token] {
    loop {
        if let [rest @ .., Token::Mark('.')] = tokens {
            tokens = rest;
        } else if let ([Token::Begin, inside @ .., Token::End], true) = (tokens, is_wrapped(tokens)) {
            tokens = inside;
        } else {
            return tokens;
        }
    }
}

/// Whether the first bracket is closed by the last one.
pub fn is_wrapped(tokens: &[Token]) -> bool {
    outside(tokens).skip(1).map(|(at, _)| at).next() == tokens.len().checked_sub(1) && tokens.len() > 1
}
