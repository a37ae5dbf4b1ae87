//! Tokens to a formula: sums, products, quotients, powers, roots and functions, as they are written.
//!
//! What is not understood, or could be read in two ways, is no formula: `1/2x`, `\sqrt25`, words. The depth is bounded, so
//! that no input exhausts the stack.

use super::lex::{Decimal, Token};
use super::rational::Ratio;
use super::words;

/// A formula as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A number without a sign.
    Number(Ratio),
    /// A letter, with its subscript and primes.
    Symbol(String),
    /// The imaginary unit.
    Imaginary,
    /// Terms.
    Sum(Vec<Expr>),
    /// The other sign.
    Negative(Box<Expr>),
    /// Factors.
    Product(Vec<Expr>),
    /// One over the other.
    Quotient(Box<Expr>, Box<Expr>),
    /// The first to the power of the second.
    Power(Box<Expr>, Box<Expr>),
    /// A root, by its index.
    Root(u32, Box<Expr>),
    /// Anything with a name and arguments.
    Call(String, Vec<Expr>),
}

/// How deep formulas may be nested.
const DEEPEST: usize = 24;

/// The formula that the tokens are, all of them.
pub fn formula(tokens: &[Token]) -> Option<Expr> {
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: false };
    let sum = parser.sum()?;
    (parser.at == tokens.len()).then_some(sum)
}

/// The number that a decimal is; one that is too long is known by its digits.
pub(super) fn number(decimal: &Decimal) -> Expr {
    match Ratio::decimal(&decimal.before, &decimal.after, &decimal.repeating) {
        Some(value) => Expr::Number(value),
        None => Expr::Symbol(format!(
            "{}.{}({})",
            decimal.before.trim_start_matches('0'),
            if decimal.repeating.is_empty() { decimal.after.trim_end_matches('0') } else { &decimal.after },
            decimal.repeating
        )),
    }
}

/// The place in the tokens.
pub(super) struct Parser<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    depth: usize,
    /// Whether a `|` closes something.
    bars: bool,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn ahead(&self, count: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + count)
    }

    pub(super) fn mark(&self) -> Option<char> {
        if let Some(Token::Mark(c)) = self.peek() { Some(*c) } else { None }
    }

    fn eat(&mut self, token: &Token) -> Option<()> {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found.then_some(())
    }

    /// What stands inside of brackets, with no `|` of the outside.
    pub(super) fn inside(&mut self, close: &Token) -> Option<Expr> {
        let outer = std::mem::replace(&mut self.bars, *close == Token::Mark('|'));
        let sum = self.sum();
        self.bars = outer;
        let sum = sum?;
        self.eat(close)?;
        Some(sum)
    }

    fn sum(&mut self) -> Option<Expr> {
        let mut terms = Vec::new();
        loop {
            let negative = match self.mark() {
                Some(sign @ ('+' | '-')) => {
                    self.at += 1;
                    sign == '-'
                }
                _ if terms.is_empty() => false,
                _ => break,
            };
            let term = self.product()?;
            terms.push(if negative { Expr::Negative(Box::new(term)) } else { term });
        }
        if terms.len() == 1 { terms.pop() } else { Some(Expr::Sum(terms)) }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut factors = vec![self.factor()?];
        // Whether the last factor was divided by: `1/2x` could mean two things.
        let mut divided = false;
        loop {
            match self.mark() {
                Some('*') => {
                    self.at += 1;
                    factors.push(self.signed()?);
                    divided = false;
                }
                Some('/') => {
                    self.at += 1;
                    let bottom = self.signed()?;
                    let top = product(std::mem::take(&mut factors));
                    factors.push(Expr::Quotient(Box::new(top), Box::new(bottom)));
                    divided = true;
                }
                _ if !self.starts_factor() => break,
                _ if divided => return None,
                _ => {
                    // Two numbers side by side are no product.
                    if matches!(self.peek(), Some(Token::Number(_))) && ends_in_digit(factors.last()) {
                        return None;
                    }
                    factors.push(self.factor()?);
                }
            }
        }
        Some(product(factors))
    }

    /// A factor behind a sign of operation: `2 \cdot -3`.
    fn signed(&mut self) -> Option<Expr> {
        if self.mark() == Some('-') {
            self.at += 1;
            return Some(Expr::Negative(Box::new(self.factor()?)));
        }
        self.factor()
    }

    pub(super) fn starts_factor(&self) -> bool {
        match self.peek() {
            None => false,
            Some(Token::Mark('|')) => !self.bars,
            Some(Token::Open(c)) => *c != '[',
            Some(token) => matches!(
                token,
                Token::Number(_)
                    | Token::Letter(_)
                    | Token::Run(_)
                    | Token::Text(_)
                    | Token::Command(_)
                    | Token::Begin
                    | Token::Degree
            ),
        }
    }

    pub(super) fn factor(&mut self) -> Option<Expr> {
        let mut base = self.base()?;
        loop {
            match self.mark() {
                Some('^') => {
                    self.at += 1;
                    base = Expr::Power(Box::new(base), Box::new(self.exponent()?));
                    // A second exponent needs brackets.
                    if self.mark() == Some('^') {
                        return None;
                    }
                }
                Some('!') => {
                    self.at += 1;
                    base = Expr::Call("!".to_owned(), vec![base]);
                }
                _ => return Some(base),
            }
        }
    }

    pub(super) fn exponent(&mut self) -> Option<Expr> {
        if self.mark() == Some('-') {
            self.at += 1;
            return Some(Expr::Negative(Box::new(self.argument()?)));
        }
        self.argument()
    }

    /// What an exponent or a command applies to: a group, or the next token alone. A number is taken as a whole: `x^10` is
    /// written for the tenth power, whatever TeX prints.
    pub(super) fn argument(&mut self) -> Option<Expr> {
        match self.peek()? {
            Token::Number(decimal) => {
                self.at += 1;
                Some(number(decimal))
            }
            // `x^ab`: TeX raises the a alone.
            Token::Run(_) => None,
            _ => self.base(),
        }
    }

    /// Likewise, with the digits of a number apart: `\frac12`. Gives the digits that are left over back.
    pub(super) fn digit(&mut self, rest: &mut Option<String>) -> Option<Expr> {
        let digits = match (rest.take(), self.peek()) {
            (Some(rest), _) => rest,
            (None, Some(Token::Number(decimal))) if decimal.is_whole() => {
                self.at += 1;
                decimal.before.clone()
            }
            _ => return self.argument(),
        };
        let (first, others) = digits.split_at_checked(1)?;
        *rest = (!others.is_empty()).then(|| others.to_owned());
        Some(Expr::Number(Ratio::decimal(first, "", "")?))
    }

    /// The one place through which everything nests.
    fn base(&mut self) -> Option<Expr> {
        if self.depth == DEEPEST {
            return None;
        }
        self.depth += 1;
        let base = self.thing();
        self.depth -= 1;
        base
    }

    fn thing(&mut self) -> Option<Expr> {
        let token = self.peek()?;
        self.at += 1;
        match token {
            Token::Number(decimal) => self.numeral(decimal),
            Token::Letter('i') if self.mark() != Some('_') => Some(Expr::Imaginary),
            Token::Letter(c) => self.letter(*c),
            Token::Text(word) => {
                let mut letters = word.chars();
                let (first, second) = (letters.next()?, letters.next());
                if second.is_none() { self.letter(first) } else { self.call(words::function(word)?) }
            }
            Token::Run(run) => self.run(run),
            Token::Degree => Some(Expr::Symbol("°".to_owned())),
            Token::Begin => self.inside(&Token::End),
            Token::Open('(') => self.inside(&Token::Close(')')),
            Token::Open('⌊') => self.wrapped("floor", '⌋'),
            Token::Open('⌈') => self.wrapped("ceil", '⌉'),
            Token::Mark('|') => Some(Expr::Call("abs".to_owned(), vec![self.inside(&Token::Mark('|'))?])),
            Token::Command(name) => self.command(name),
            _ => None,
        }
    }

    fn wrapped(&mut self, name: &str, close: char) -> Option<Expr> {
        Some(Expr::Call(name.to_owned(), vec![self.inside(&Token::Close(close))?]))
    }
}

pub(super) fn product(mut factors: Vec<Expr>) -> Expr {
    match (factors.len(), factors.pop()) {
        (1, Some(factor)) => factor,
        (_, last) => {
            factors.extend(last);
            Expr::Product(factors)
        }
    }
}

/// Whether a number behind it would be read as part of it.
fn ends_in_digit(factor: Option<&Expr>) -> bool {
    match factor {
        Some(Expr::Number(_)) => true,
        Some(Expr::Power(_, exponent)) => ends_in_digit(Some(exponent)),
        _ => false,
    }
}
