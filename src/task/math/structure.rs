//! What an answer is: a formula, a tuple, an interval, a set, a list, a matrix, an equation, or words.
//!
//! Every text is something, in the end words. The units that were taken off stand beside it. Lists are read where commas,
//! `and` or `or` separate; brackets tell tuples and intervals; a sign `\pm` makes two of what it stands in.

use std::collections::BTreeSet;

use super::brackets::{is_balanced, is_wrapped, outside, outside_sets, split, trimmed};
use super::evaluate::{Formula, evaluate};
use super::lex::Token;
use super::polynomial::{Poly, Work};
use super::render;
use super::syntax::formula;
use super::{compare, units};

/// An answer, read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A number or an expression.
    Formula(Formula),
    /// Without end; whether to below.
    Infinity(bool),
    /// Brackets with something between commas.
    Sequence(char, char, Vec<Value>),
    /// A set, or a list without brackets: the order does not count.
    Bag(Vec<Value>),
    /// Sets put together by one operation.
    Combined(char, Vec<Value>),
    /// Rows of a matrix, and whether it is a determinant.
    Matrix(bool, Vec<Vec<Value>>),
    /// What a name stands for, by which sign, and the equation where there is one.
    Labelled(Label, Box<Value>),
    /// An equation of several unknowns: this is zero, whatever it is multiplied by.
    Equation(Poly),
    /// Another equation, or an inequation: its sign and both sides.
    Sides(char, Box<Value>, Box<Value>),
    /// This is above zero, or not below it.
    Inequality(bool, Poly),
    /// Something with its unit, where an answer has several units.
    Measured(String, Box<Value>),
    /// Text.
    Words(String),
}

/// The left side of `x = 5` or `x \in [1, 2]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// As it is written.
    pub name: String,
    /// `=`, `∈`, or `<` where an inequality was read as an interval.
    pub sign: char,
    /// The equation, when it has several unknowns.
    pub equation: Option<Poly>,
}

/// The most items of a list, a tuple or a set.
const MOST_ITEMS: usize = 64;
/// How deep they may be nested.
const DEEPEST: usize = 12;

/// What reads an answer.
#[derive(Debug)]
pub struct Reader {
    /// The units that were taken off.
    pub units: BTreeSet<String>,
    pub(super) work: Work,
    depth: usize,
    /// Whether units stay where they are.
    measured: bool,
}

/// What an answer is, and its unit; where it has several, they are in the answer.
pub fn read(tokens: &[Token]) -> (Value, BTreeSet<String>) {
    for measured in [false, true] {
        let mut reader = Reader { units: BTreeSet::new(), work: Work::default(), depth: 0, measured };
        match is_balanced(tokens).then(|| reader.answer(tokens)).flatten() {
            None => break,
            Some(value) if reader.units.len() <= 1 => return (value, reader.units),
            // `5 cm, 3 m` is not `5 m, 3 cm`.
            Some(_) => {}
        }
    }
    (Value::Words(render::words(trimmed(tokens))), BTreeSet::new())
}

impl Reader {
    /// An answer as a whole: one item or several.
    fn answer(&mut self, tokens: &[Token]) -> Option<Value> {
        let is_word = |token: &Token, word: &str| matches!(token, Token::Text(text) | Token::Run(text) if text.eq_ignore_ascii_case(word));
        let tokens = trimmed(tokens);
        let separates = |token: &Token| {
            matches!(token, Token::Mark(',' | ';')) || is_word(token, "and") || is_word(token, "or")
        };
        let either =
            outside(tokens).filter(|(_, token)| separates(token)).all(|(_, token)| is_word(token, "or"));
        let pieces = split(tokens, separates).into_iter().filter(|piece| !piece.is_empty());
        let values = self.items(pieces.collect())?;
        let mut values = label_all(values);
        if values.len() == 1 {
            return values.pop();
        }
        let bounds = |value: &Value| matches!(value, Value::Labelled(Label { sign: '<', .. }, _));
        if values.iter().any(bounds) {
            // `x > 1 and x < 3` is no list of answers.
            return if either && values.iter().all(bounds) { union(values) } else { None };
        }
        match shared_label(&values) {
            None => Some(Value::Bag(values)),
            Some(label) => {
                let inner = values.into_iter().map(|value| match value {
                    Value::Labelled(_, inner) => *inner,
                    other => other,
                });
                Some(Value::Labelled(label, Box::new(Value::Bag(inner.collect()))))
            }
        }
    }

    /// Items between separators, with `\pm` written out.
    fn items(&mut self, pieces: Vec<&[Token]>) -> Option<Vec<Value>> {
        if pieces.len() > MOST_ITEMS || pieces.is_empty() {
            return None;
        }
        let mut values = Vec::new();
        for piece in pieces {
            let signs = |sign: char| outside_sets(piece).filter(|token| **token == Token::Mark(sign)).count();
            match (signs('±'), signs('∓')) {
                (0, 0) => values.push(self.item(piece)),
                // Upper signs, then lower signs.
                (0 | 1, 0 | 1) => {
                    for (plus, minus) in [('+', '-'), ('-', '+')] {
                        let sign = |token: &Token| match token {
                            Token::Mark('±') => Token::Mark(plus),
                            Token::Mark('∓') => Token::Mark(minus),
                            other => other.clone(),
                        };
                        values.push(self.item(&piece.iter().map(sign).collect::<Vec<_>>()));
                    }
                }
                _ => values.push(Value::Words(render::words(piece))),
            }
        }
        Some(values)
    }

    /// One item; what is nothing else is words.
    pub(super) fn item(&mut self, tokens: &[Token]) -> Value {
        let tokens = trimmed(tokens);
        self.depth += 1;
        let value = if self.depth > DEEPEST { None } else { self.structured(tokens) };
        self.depth -= 1;
        value.unwrap_or_else(|| Value::Words(render::words(tokens)))
    }

    fn structured(&mut self, tokens: &[Token]) -> Option<Value> {
        let relates = |token: &Token| matches!(token, Token::Mark('=' | '<' | '>' | '≤' | '≥' | '≠' | '∈'));
        if outside(tokens).any(|(_, token)| relates(token)) {
            return self.relation(tokens);
        }
        let combines = |token: &Token| matches!(token, Token::Mark('∪' | '∩' | '∖'));
        let mut marks: Vec<char> = outside(tokens)
            .filter_map(|(_, token)| if let Token::Mark(c) = token { Some(*c) } else { None })
            .filter(|c| combines(&Token::Mark(*c)))
            .collect();
        let count = marks.len();
        marks.dedup();
        if let [mark] = marks[..] {
            let parts = split(tokens, combines);
            let several = mark == '∖' && count > 1;
            if several || parts.len() > MOST_ITEMS || parts.iter().any(|part| part.is_empty()) {
                return None;
            }
            return Some(Value::Combined(mark, parts.into_iter().map(|part| self.item(part)).collect()));
        }
        if !marks.is_empty() {
            return None;
        }
        let (bare, unit) = units::strip(tokens);
        let value = self.bare(&bare)?;
        if matches!(value, Value::Words(_)) && unit.is_some() {
            return None;
        }
        match unit {
            Some(unit) if self.measured => Some(Value::Measured(unit, Box::new(value))),
            unit => {
                self.units.extend(unit);
                Some(value)
            }
        }
    }

    /// An item without its unit.
    fn bare(&mut self, tokens: &[Token]) -> Option<Value> {
        let infinite = |token: &Token| matches!(token, Token::Command(name) if name == "\\infty");
        match tokens {
            [end] | [Token::Mark('+'), end] if infinite(end) => return Some(Value::Infinity(false)),
            [Token::Mark('-'), end] if infinite(end) => return Some(Value::Infinity(true)),
            [Token::Command(name)] if name == "\\emptyset" => return Some(Value::Bag(Vec::new())),
            [Token::Command(name), rest @ ..] if name == "\\mathbb" => {
                let ends = [true, false].map(Value::Infinity).to_vec();
                let real = trimmed(rest) == [Token::Letter('R')];
                return real.then_some(Value::Sequence('(', ')', ends));
            }
            [Token::Open(open), inside @ .., Token::Close(close)] if is_wrapped(tokens) => {
                return self.bracketed(*open, inside, *close, tokens);
            }
            [.., Token::EndEnv] => return self.matrix(tokens),
            _ => {}
        }
        // Without end is no number to calculate with.
        if tokens.iter().any(infinite) {
            return None;
        }
        evaluate(&formula(tokens)?, &self.work).map(Value::Formula)
    }

    fn bracketed(&mut self, open: char, inside: &[Token], close: char, whole: &[Token]) -> Option<Value> {
        let pieces = split(inside, |token| matches!(token, Token::Mark(',' | ';')));
        match (open, close) {
            ('{', '}') if inside.is_empty() => Some(Value::Bag(Vec::new())),
            ('{', '}') => self.set(inside, pieces),
            ('(' | '[', ')' | ']') if pieces.len() > 1 => {
                // A sign that stands for two makes no tuple of three.
                let values: Vec<Value> = self.components(pieces)?;
                Some(Value::Sequence(open, close, values))
            }
            ('(', ')') => Some(self.item(inside)).filter(|value| !matches!(value, Value::Words(_))),
            ('[', ']') if matches!(inside, [Token::Env(_), .., Token::EndEnv]) => self.matrix(inside),
            ('⟨', '⟩') => Some(Value::Sequence(open, close, self.components(pieces)?)),
            ('⌊', '⌋') | ('⌈', '⌉') => evaluate(&formula(whole)?, &self.work).map(Value::Formula),
            _ => None,
        }
    }

    fn components(&mut self, pieces: Vec<&[Token]>) -> Option<Vec<Value>> {
        let fits = pieces.len() <= MOST_ITEMS && pieces.iter().all(|piece| !piece.is_empty());
        fits.then(|| pieces.into_iter().map(|piece| self.item(piece)).collect())
    }

    /// A set by its elements, each once, or by a condition on one letter.
    fn set(&mut self, inside: &[Token], pieces: Vec<&[Token]>) -> Option<Value> {
        let bar = |token: &Token| matches!(token, Token::Mark('|' | ':'));
        if let [left, condition] = split(inside, bar)[..] {
            let domain = split(left, |token| *token == Token::Mark('∈'));
            let Value::Labelled(label, value) = self.item(condition) else { return None };
            let same = domain.first().is_some_and(|name| render::plain(name) == label.name);
            return same.then_some(*value);
        }
        let mut elements: Vec<Value> = Vec::new();
        for value in self.items(pieces)? {
            if !elements.iter().any(|known| compare::same(known, &value, &self.work)) {
                elements.push(value);
            }
        }
        Some(Value::Bag(elements))
    }

    /// A matrix, or a number times one.
    fn matrix(&mut self, tokens: &[Token]) -> Option<Value> {
        let start = outside(tokens).position(|(_, token)| matches!(token, Token::Env(_)))?;
        let start = outside(tokens).nth(start)?.0;
        let [Token::Env(name), inside @ .., Token::EndEnv] = &tokens[start..] else { return None };
        if !is_wrapped(&tokens[start..]) {
            return None;
        }
        let determinant = match name.as_str() {
            "pmatrix" | "bmatrix" | "matrix" | "smallmatrix" | "Bmatrix" | "array" => false,
            "vmatrix" => true,
            _ => return None,
        };
        let mut rows = split(inside, |token| *token == Token::Row);
        if rows.last().is_some_and(|row| row.is_empty()) {
            rows.pop();
        }
        let mut values = Vec::new();
        for row in rows {
            values.push(self.components(split(row, |token| *token == Token::Cell))?);
        }
        let factor = match &tokens[..start] {
            [] => return Some(Value::Matrix(determinant, values)),
            [Token::Mark('-')] => vec![Token::Mark('-'), Token::Number(super::lex::Decimal::one())],
            [factor @ .., Token::Mark('*')] | factor => factor.to_vec(),
        };
        if determinant {
            return None;
        }
        let factor = evaluate(&formula(&factor)?, &self.work)?;
        for value in values.iter_mut().flatten() {
            let Value::Formula(entry) = value else { return None };
            *value = Value::Formula(entry.times(&factor, &self.work)?);
        }
        Some(Value::Matrix(false, values))
    }
}

/// `x = 1, 2`: the label of the first item is that of those behind it that have none.
fn label_all(values: Vec<Value>) -> Vec<Value> {
    let first = match values.first() {
        Some(Value::Labelled(label, _)) if label.sign == '=' => label.clone(),
        _ => return values,
    };
    let label = |value: Value| match value {
        Value::Formula(_) | Value::Sequence(..) => {
            Value::Labelled(Label { equation: None, ..first.clone() }, Box::new(value))
        }
        other => other,
    };
    values.into_iter().map(label).collect()
}

/// The label of all values, if all have one and the same.
fn shared_label(values: &[Value]) -> Option<Label> {
    let labels: Option<Vec<&Label>> = values
        .iter()
        .map(|value| if let Value::Labelled(label, _) = value { Some(label) } else { None })
        .collect();
    let labels = labels?;
    let (first, rest) = labels.split_first()?;
    let same = rest.iter().all(|label| label.name == first.name);
    same.then(|| Label { equation: None, ..(*first).clone() })
}

/// `x < 1 or x > 3`.
fn union(values: Vec<Value>) -> Option<Value> {
    let label = shared_label(&values)?;
    let parts = values.into_iter().filter_map(|value| match value {
        Value::Labelled(_, inner) => Some(*inner),
        _ => None,
    });
    Some(Value::Labelled(label, Box::new(Value::Combined('∪', parts.collect()))))
}
