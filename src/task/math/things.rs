//! The things that formulas are made of: numbers, letters, functions, and the commands that take arguments.

use super::lex::{Decimal, Token};
use super::rational::Ratio;
use super::syntax::{Expr, Parser, number, product};
use super::words;

impl Parser<'_> {
    /// A number, a mixed number, or one in another base.
    pub(super) fn numeral(&mut self, decimal: &Decimal) -> Option<Expr> {
        if self.mark() == Some('_') && decimal.is_whole() {
            self.at += 1;
            let base = self.argument()?;
            let Expr::Number(base) = base else { return None };
            let digits = decimal.before.trim_start_matches('0');
            return match base.as_small()? {
                10 => Some(number(decimal)),
                base => Some(Expr::Symbol(format!("{digits} in base {base}"))),
            };
        }
        if decimal.is_whole()
            && let Some((part, next)) = self.proper_fraction()
        {
            self.at = next;
            let whole = Ratio::decimal(&decimal.before, "", "")?;
            return Some(Expr::Number(whole.plus(part)?));
        }
        Some(number(decimal))
    }

    /// The fraction of a mixed number, `\frac{1}{2}` or `1/2`: of two integers, less than 1. With where it ends.
    fn proper_fraction(&self) -> Option<(Ratio, usize)> {
        let digits = |at: usize| match self.tokens.get(at)? {
            Token::Number(decimal) => decimal.is_whole().then_some((decimal.before.as_str(), at + 1)),
            Token::Begin => match (self.tokens.get(at + 1)?, self.tokens.get(at + 2)?) {
                (Token::Number(decimal), Token::End) => {
                    decimal.is_whole().then_some((decimal.before.as_str(), at + 3))
                }
                _ => None,
            },
            _ => None,
        };
        let (top, bottom, next) = match self.peek()? {
            Token::Command(name) if name == "\\frac" => {
                let (top, middle) = digits(self.at + 1)?;
                match (self.tokens.get(self.at + 1)?, top.len()) {
                    // `\frac12`, and `\frac1{19}`.
                    (Token::Number(_), 2) => (&top[..1], &top[1..], middle),
                    (Token::Number(_), 3..) => return None,
                    _ => {
                        let (bottom, next) = digits(middle)?;
                        let braced = matches!(self.tokens.get(middle), Some(Token::Begin));
                        (top, if braced || bottom.len() == 1 { bottom } else { return None }, next)
                    }
                }
            }
            Token::Number(_) if self.ahead(1) == Some(&Token::Mark('/')) => {
                let ((top, _), (bottom, next)) = (digits(self.at)?, digits(self.at + 2)?);
                (top, bottom, next)
            }
            _ => return None,
        };
        let number = |text: &str| text.parse::<i128>().ok();
        let (top, bottom) = (number(top)?, number(bottom)?);
        // `2\frac{1}{2}^2` is anyone's guess.
        let proper = 0 < top && top < bottom && self.tokens.get(next) != Some(&Token::Mark('^'));
        Some((Ratio::new(top, bottom).filter(|_| proper)?, next))
    }

    /// A letter with what hangs on it. `f(x)` is a function's value; other letters before brackets are factors.
    pub(super) fn letter(&mut self, c: char) -> Option<Expr> {
        let name = self.tail(c.to_string())?;
        if matches!(c, 'f' | 'g' | 'h') && self.peek() == Some(&Token::Open('(')) {
            self.at += 1;
            return Some(Expr::Call(name, vec![self.inside(&Token::Close(')'))?]));
        }
        Some(Expr::Symbol(name))
    }

    /// The subscript and the primes of a letter.
    fn tail(&mut self, mut name: String) -> Option<String> {
        if self.mark() == Some('_') {
            self.at += 1;
            let start = self.at;
            self.argument()?;
            let written = match &self.tokens[start..self.at] {
                [Token::Begin, inside @ .., Token::End] => inside,
                other => other,
            };
            name.push('_');
            name.push_str(&super::render::plain(written));
        }
        while self.mark() == Some('\'') {
            self.at += 1;
            name.push('\'');
        }
        Some(name)
    }

    /// Letters in a row: a function, the name of a segment, or a short product.
    pub(super) fn run(&mut self, run: &str) -> Option<Expr> {
        if let Some(name) = words::function(run) {
            return self.call(name);
        }
        if !run.is_ascii() || run.len() > 3 || words::is_word(run) {
            return None;
        }
        if run.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Some(Expr::Symbol(self.tail(run.to_owned())?));
        }
        let mut factors = Vec::new();
        for (at, c) in run.char_indices() {
            factors.push(match c {
                'i' => Expr::Imaginary,
                // What follows hangs on the last letter.
                _ if at + 1 == run.len() => self.letter(c)?,
                _ => Expr::Symbol(c.to_string()),
            });
        }
        // An exponent as well: `xy^2` is x times the square of y.
        if self.mark() == Some('^') {
            self.at += 1;
            let exponent = self.exponent()?;
            let last = factors.pop()?;
            factors.push(Expr::Power(Box::new(last), Box::new(exponent)));
            if self.mark() == Some('^') {
                return None;
            }
        }
        Some(product(factors))
    }

    pub(super) fn command(&mut self, name: &str) -> Option<Expr> {
        match name {
            "\\frac" => {
                let mut rest = None;
                let (top, bottom) = (self.digit(&mut rest)?, self.digit(&mut rest)?);
                let quotient = Expr::Quotient(Box::new(top), Box::new(bottom));
                // `\frac123`: the 3 is a factor to TeX, and a slip to everyone else.
                if rest.is_some() { None } else { Some(quotient) }
            }
            "\\binom" => {
                let mut rest = None;
                let pair = vec![self.digit(&mut rest)?, self.digit(&mut rest)?];
                if rest.is_some() { None } else { Some(Expr::Call("binom".to_owned(), pair)) }
            }
            "\\sqrt" => self.root(),
            _ if words::function(name).is_some() => self.call(words::function(name)?),
            _ if words::is_quantity(name) => {
                let name = self.tail(name.to_owned())?;
                Some(Expr::Symbol(name))
            }
            _ => None,
        }
    }

    fn root(&mut self) -> Option<Expr> {
        let mut index = 2;
        if let (Some(Token::Open('[')), Some(Token::Number(number)), Some(Token::Close(']'))) =
            (self.peek(), self.ahead(1), self.ahead(2))
        {
            index =
                number.before.parse().ok().filter(|index| number.is_whole() && (2..=20).contains(index))?;
            self.at += 3;
        }
        let argument = if let Some(Token::Number(decimal)) = self.peek() {
            // `\sqrt25` prints the root of 2 before a 5.
            if !decimal.is_whole() || decimal.before.len() > 1 {
                return None;
            }
            self.at += 1;
            number(decimal)
        } else {
            self.argument()?
        };
        Some(Expr::Root(index, Box::new(argument)))
    }

    /// A function: its base, its exponent, and the product behind it.
    pub(super) fn call(&mut self, name: &str) -> Option<Expr> {
        let mut name = name.to_owned();
        let mut exponent = None;
        if self.mark() == Some('_') {
            let full = self.tail(name)?;
            name = full;
        }
        if self.mark() == Some('^') {
            self.at += 1;
            let power = self.exponent()?;
            let inverse = power == Expr::Negative(Box::new(Expr::Number(Ratio::ONE)));
            if inverse && matches!(name.as_str(), "sin" | "cos" | "tan") {
                name = format!("arc{name}");
            } else if inverse {
                return None;
            } else {
                exponent = Some(power);
            }
        }
        let argument = match self.peek()? {
            Token::Open('(') => {
                self.at += 1;
                self.inside(&Token::Close(')'))?
            }
            Token::Begin => self.argument()?,
            _ => {
                let mut factors = Vec::new();
                while self.starts_factor() && (factors.is_empty() || !self.starts_function()) {
                    if matches!(self.peek(), Some(Token::Open(_))) && !factors.is_empty() {
                        // `\sin x (y)` could be either.
                        return None;
                    }
                    factors.push(self.factor()?);
                }
                if factors.is_empty() {
                    return None;
                }
                product(factors)
            }
        };
        let call = Expr::Call(name, vec![argument]);
        Some(match exponent {
            Some(power) => Expr::Power(Box::new(call), Box::new(power)),
            None => call,
        })
    }

    fn starts_function(&self) -> bool {
        match self.peek() {
            Some(Token::Command(name) | Token::Run(name) | Token::Text(name)) => {
                words::function(name).is_some()
            }
            _ => false,
        }
    }
}
