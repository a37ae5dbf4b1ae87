//! Equations and inequalities: what a name stands for, a relation between unknowns, or an interval.

use super::brackets::{outside, split};
use super::lex::Token;
use super::polynomial::{Fraction, Poly};
use super::render;
use super::structure::{Label, Reader, Value};
use super::syntax::{Expr, formula};
use super::words;

impl Reader {
    /// An item with a relation in it.
    pub(super) fn relation(&mut self, tokens: &[Token]) -> Option<Value> {
        let sign = |token: &Token| match token {
            Token::Mark(c @ ('=' | '<' | '>' | '≤' | '≥' | '≠' | '∈')) => Some(*c),
            _ => None,
        };
        let signs: Vec<char> = outside(tokens).filter_map(|(_, token)| sign(token)).collect();
        let sides = split(tokens, |token| sign(token).is_some());
        if sides.iter().any(|side| side.is_empty()) {
            return None;
        }
        match (&signs[..], &sides[..]) {
            (['='], [left, right]) => Some(self.equation(left, right)),
            (['∈'], [left, right]) => {
                let label = Label { name: name(left)?, sign: '∈', equation: None };
                Some(Value::Labelled(label, Box::new(self.item(right))))
            }
            (['≠'], [left, right]) => {
                let (left, right) = (self.item(left), self.item(right));
                Some(Value::Sides('≠', Box::new(left), Box::new(right)))
            }
            _ if signs.iter().all(|sign| "<≤".contains(*sign)) => self.inequality(&signs, &sides),
            _ if signs.iter().all(|sign| ">≥".contains(*sign)) => {
                let signs: Vec<char> =
                    signs.iter().rev().map(|c| if *c == '>' { '<' } else { '≤' }).collect();
                let sides: Vec<&[Token]> = sides.into_iter().rev().collect();
                self.inequality(&signs, &sides)
            }
            _ => None,
        }
    }

    fn equation(&mut self, left: &[Token], right: &[Token]) -> Value {
        // `5 = x` says what `x = 5` says.
        for (left, right) in [(left, right), (right, left)] {
            if let Some(name) = name(left).filter(|_| !mentions(right, left)) {
                let value = self.item(right);
                let symbol = symbol(left).map(|symbol| Fraction::of(Poly::name(&symbol)));
                let equation = symbol.and_then(|symbol| self.zero(&symbol, value_of(&value)?));
                let label = Label { name, sign: '=', equation };
                return Value::Labelled(label, Box::new(value));
            }
        }
        let (left, right) = (self.item(left), self.item(right));
        let equation = value_of(&left).zip(value_of(&right)).and_then(|(left, right)| self.zero(left, right));
        match equation {
            Some(zero) => Value::Equation(zero),
            None => Value::Sides('=', Box::new(left), Box::new(right)),
        }
    }

    /// What is zero when both sides are equal, with 1 as its leading coefficient; only for several unknowns. An equation of
    /// one unknown is solved or it is not: `2x = 10` is not the answer `x = 5`.
    fn zero(&self, left: &Fraction, right: &Fraction) -> Option<Poly> {
        let difference = left.plus(&right.negated()?, &self.work)?;
        let zero = difference.top().cleared(&self.work)?;
        if unknowns(&zero) < 2 { None } else { zero.scaled(zero.leading().inverse()?) }
    }

    /// Sides in rising order.
    fn inequality(&mut self, signs: &[char], sides: &[&[Token]]) -> Option<Value> {
        let open = |sign: char| if sign == '<' { '(' } else { '[' };
        let close = |sign: char| if sign == '<' { ')' } else { ']' };
        let interval = |name: String, ends: (char, char), values: Vec<Value>| {
            let label = Label { name, sign: '<', equation: None };
            Some(Value::Labelled(label, Box::new(Value::Sequence(ends.0, ends.1, values))))
        };
        let bound = |value: &Value| match value {
            Value::Formula(formula) => formula.value.is_some(),
            other => matches!(other, Value::Infinity(_)),
        };
        match (signs, sides) {
            ([below, above], [least, middle, greatest]) => {
                let name = symbol(middle)?;
                let values = vec![self.item(least), self.item(greatest)];
                let free = !mentions(least, middle) && !mentions(greatest, middle);
                if !free || !values.iter().all(bound) {
                    return None;
                }
                interval(name, (open(*below), close(*above)), values)
            }
            ([sign], [left, right]) => {
                let (smaller, greater) = (self.item(left), self.item(right));
                // Between two unknowns it is a relation, and no interval.
                let fits = |value: &Value| {
                    bound(value) && value_of(value).is_none_or(|value| unknowns(value.top()) == 0)
                };
                if let Some(name) = symbol(left).filter(|_| fits(&greater)) {
                    return interval(name, ('(', close(*sign)), vec![Value::Infinity(true), greater]);
                }
                if let Some(name) = symbol(right).filter(|_| fits(&smaller)) {
                    return interval(name, (open(*sign), ')'), vec![smaller, Value::Infinity(false)]);
                }
                let difference = value_of(&greater)?.plus(&value_of(&smaller)?.negated()?, &self.work)?;
                // A letter below could have either sign, so that nothing may be multiplied out.
                let positive = difference.as_poly()?;
                let leading = positive.leading();
                let size = if leading.is_negative() { leading.negated() } else { leading };
                Some(Value::Inequality(*sign == '<', positive.scaled(size.inverse()?)?))
            }
            _ => None,
        }
    }
}

/// The value of a formula, however it is written.
fn value_of(value: &Value) -> Option<&Fraction> {
    if let Value::Formula(formula) = value { formula.value.as_ref() } else { None }
}

/// How many letters are unknown.
fn unknowns(poly: &Poly) -> usize {
    let mut names: Vec<&str> = poly.names().filter(|name| !matches!(*name, "\\pi" | "e")).collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

/// The one letter that these tokens are.
fn symbol(tokens: &[Token]) -> Option<String> {
    match formula(tokens)? {
        Expr::Symbol(name) if !name.starts_with(|c: char| c.is_ascii_digit()) => Some(name),
        Expr::Imaginary => Some("i".to_owned()),
        _ => None,
    }
}

/// The text of a left side that only names what is on the right: a letter with what hangs on it, `f(x)`, `(x, y)`,
/// `\angle ABC`, words.
fn name(tokens: &[Token]) -> Option<String> {
    let mut heads = 0;
    let mut telling = false;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let below = matches!(before, Some(Token::Mark('_')))
            || (matches!(before, Some(Token::Begin)) && at > 1 && tokens[at - 2] == Token::Mark('_'));
        match token {
            Token::Number(_) if !below => return None,
            Token::Letter(_) if !below => heads += 1,
            Token::Run(run) if !below => {
                let capitals = run.bytes().all(|byte| byte.is_ascii_uppercase());
                if !capitals && words::function(run).is_none() && run.chars().count() < 4 {
                    return None;
                }
                heads += usize::from(capitals);
                telling |= run.chars().count() >= 4;
            }
            Token::Text(_) => telling = true,
            Token::Command(command) => {
                let command = command.as_str();
                if matches!(command, "\\frac" | "\\sqrt" | "\\binom" | "\\infty" | "\\pi" | "\\mathbb") {
                    return None;
                }
                telling |=
                    matches!(command, "\\angle" | "\\overline" | "\\triangle" | "\\overrightarrow" | "\\vec");
                heads += usize::from(words::is_quantity(command));
            }
            // The arguments of a function, or a tuple of letters.
            Token::Open('(') => {
                let inside = split_letters(&tokens[at..])?;
                if at > 0 && inside + at != tokens.len() {
                    return None;
                }
                if at == 0 {
                    return (inside == tokens.len()).then(|| render::plain(tokens));
                }
                heads = heads.max(1);
                break;
            }
            Token::Number(_)
            | Token::Letter(_)
            | Token::Run(_)
            | Token::Begin
            | Token::End
            | Token::Mark('_' | '\'' | '|') => {}
            _ => return None,
        }
    }
    (heads == 1 || telling).then(|| render::plain(tokens))
}

/// The length of brackets with letters and numbers between commas; a number is an argument, `f(2)`.
fn split_letters(tokens: &[Token]) -> Option<usize> {
    let end = tokens.iter().position(|token| *token == Token::Close(')'))?;
    let plain = |token: &Token| {
        matches!(
            token,
            Token::Letter(_)
                | Token::Number(_)
                | Token::Text(_)
                | Token::Command(_)
                | Token::Mark(',' | '_' | '-')
                | Token::Begin
                | Token::End
        )
    };
    tokens[1..end].iter().all(plain).then_some(end + 1)
}

/// Whether the letter at the head of a left side is in the tokens.
fn mentions(tokens: &[Token], left: &[Token]) -> bool {
    let Some(head @ (Token::Letter(_) | Token::Command(_))) = left.first() else { return false };
    let within = |token: &Token| match (token, head) {
        (Token::Run(run), Token::Letter(c)) => run.contains(*c) && run.chars().count() <= 3,
        (token, head) => token == head,
    };
    tokens.iter().any(within)
}
