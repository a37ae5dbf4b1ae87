//! LaTeX, or plain text that looks like it, to tokens: whatever only changes how an answer looks is gone.
//!
//! Gone are spaces, dollar signs, `\left` and `\right`, sizes, fonts, the styles of fractions. Numbers are whole, with their
//! thousands separators taken out. Words in `\text{...}` and its kind are [`Token::Text`]. Works in time linear in the text.

use super::words::{self, Meaning};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A number without a sign.
    Number(Decimal),
    /// A letter on its own.
    Letter(char),
    /// Several letters in a row, written as formulas are.
    Run(String),
    /// A word in text mode, or a single letter there.
    Text(String),
    /// A command that is a thing: `\pi`, `\frac`, `\sin`.
    Command(String),
    /// An operator, a relation or a punctuation mark; commands stand as the character that they print.
    Mark(char),
    /// `{` that groups and prints nothing.
    Begin,
    /// `}` of such a group.
    End,
    /// A bracket that prints: `(`, `[`, `{` of sets, `⟨`, `⌊`, `⌈`.
    Open(char),
    /// Its partner: `)`, `]`, `}`, `⟩`, `⌋`, `⌉`.
    Close(char),
    /// `\begin{...}`.
    Env(String),
    /// `\end{...}`.
    EndEnv,
    /// `\\`.
    Row,
    /// `&`.
    Cell,
    /// A degree sign, with or without `^`.
    Degree,
    /// `\%`.
    Percent,
    /// A currency sign.
    Money(char),
}

/// The digits of a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decimal {
    /// Before the point.
    pub before: String,
    /// After it.
    pub after: String,
    /// Those that repeat.
    pub repeating: String,
}

impl Decimal {
    /// One.
    pub fn one() -> Self {
        Self { before: "1".to_owned(), ..Self::default() }
    }

    /// Whether there is nothing but an integer.
    pub fn is_whole(&self) -> bool {
        self.after.is_empty() && self.repeating.is_empty()
    }
}

/// How letters are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Math,
    /// `\mathrm`: words, but `e` and `i` stay what they are.
    Roman,
    Text,
}

/// A group that is open: how it is read, and whether it prints tokens.
struct Group {
    mode: Mode,
    shown: bool,
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
    groups: Vec<Group>,
    /// Printing brackets that are open: there a comma separates, and is no part of a number.
    depth: usize,
}

/// The tokens of a text.
pub fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, tokens: Vec::new(), groups: Vec::new(), depth: 0 };
    while let Some(c) = lexer.rest.chars().next() {
        lexer.step(c);
    }
    join_groups_of_three(lexer.tokens)
}

impl Lexer<'_> {
    fn mode(&self) -> Mode {
        self.groups.last().map_or(Mode::Math, |group| group.mode)
    }

    fn step(&mut self, c: char) {
        if c.is_ascii_digit() || (c == '.' && self.digits_at(1) > 0) {
            return self.number();
        }
        if c == '\\' {
            return self.command();
        }
        if c.is_alphabetic() && words::character(c).is_none() {
            return self.letters();
        }
        let pair = self.rest.get(..2).and_then(words::pair);
        self.rest = &self.rest[pair.map_or(c.len_utf8(), |_| 2)..];
        match c {
            _ if pair.is_some() => self.tokens.extend(pair.map(Token::Mark)),
            '{' => self.begin(self.mode(), true),
            '}' => match self.groups.pop() {
                Some(Group { shown: false, .. }) => {}
                _ => self.tokens.push(Token::End),
            },
            '(' | '[' => self.open(c),
            ')' | ']' => self.close(c),
            '&' => self.tokens.push(Token::Cell),
            '%' => self.tokens.push(Token::Percent),
            '$' | '~' => {}
            _ if c.is_whitespace() || c.is_control() => {}
            _ => match words::character(c) {
                Some(meaning) => self.mean(meaning),
                None => self.tokens.push(Token::Mark(c)),
            },
        }
    }

    fn begin(&mut self, mode: Mode, shown: bool) {
        self.groups.push(Group { mode, shown });
        if shown {
            self.tokens.push(Token::Begin);
        }
    }

    fn open(&mut self, bracket: char) {
        self.depth += 1;
        self.tokens.push(Token::Open(bracket));
    }

    fn close(&mut self, bracket: char) {
        self.depth = self.depth.saturating_sub(1);
        self.tokens.push(Token::Close(bracket));
    }

    /// How many digits stand at a byte of the rest.
    fn digits_at(&self, at: usize) -> usize {
        self.rest
            .as_bytes()
            .get(at..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    }

    fn take(&mut self, bytes: usize) -> String {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken.to_owned()
    }

    /// The length of a thousands separator at the start of the rest, 0 of none. A bare comma is one only outside of brackets.
    fn separator(&self) -> usize {
        let marks = ["{,}", ",\\!", "\\,"];
        let length = marks.iter().find(|mark| self.rest.starts_with(**mark)).map(|mark| mark.len());
        let bare = usize::from(self.depth == 0 && self.rest.starts_with(','));
        let Some(length) = length else { return bare };
        length + self.rest[length..].bytes().take_while(|byte| *byte == b' ').count()
    }

    fn number(&mut self) {
        let mut number = Decimal::default();
        let count = self.digits_at(0);
        number.before = self.take(count);
        if (1..=3).contains(&count) && !number.before.starts_with('0') {
            self.thousands(&mut number.before);
        }
        if self.rest.starts_with('.') {
            let count = self.digits_at(1);
            let repeats = self.rest[1 + count..].starts_with("\\overline{");
            if count > 0 || repeats {
                self.take(1);
                number.after = self.take(count);
            }
            if repeats {
                let count = self.digits_at("\\overline{".len());
                if count > 0 && self.rest["\\overline{".len() + count..].starts_with('}') {
                    self.take("\\overline{".len());
                    number.repeating = self.take(count);
                    self.take(1);
                }
            }
        }
        self.tokens.push(Token::Number(number));
        self.times_ten();
    }

    /// The rest of `1e5`. A sign makes it ambiguous: `2e-1` is a formula as well.
    fn times_ten(&mut self) {
        let count = self.digits_at(1);
        let ends = !self.rest.as_bytes().get(1 + count).is_some_and(u8::is_ascii_alphabetic);
        if self.rest.starts_with(['e', 'E']) && count > 0 && ends && self.mode() == Mode::Math {
            self.take(1);
            let exponent = Decimal { before: self.take(count), ..Decimal::default() };
            let ten = Decimal { before: "10".to_owned(), ..Decimal::default() };
            self.tokens.extend([
                Token::Mark('*'),
                Token::Number(ten),
                Token::Mark('^'),
                Token::Number(exponent),
            ]);
        }
    }

    /// Appends groups of three digits, all that follow or, if the last one has another length, none.
    fn thousands(&mut self, digits: &mut String) {
        let (start, before) = (self.rest, digits.len());
        loop {
            let length = self.separator();
            if length == 0 || self.digits_at(length) == 0 {
                return;
            }
            if self.digits_at(length) != 3 {
                // `1,234,56` is no number with separators.
                self.rest = start;
                digits.truncate(before);
                return;
            }
            self.take(length);
            let group = self.take(3);
            digits.push_str(&group);
        }
    }

    fn letters(&mut self) {
        let is_letter = |c: char| c.is_alphabetic() && words::character(c).is_none();
        let length = self.rest.find(|c| !is_letter(c)).unwrap_or(self.rest.len());
        let run = self.take(length);
        let mode = self.mode();
        let mut letters = run.chars();
        let token = match (letters.next(), letters.next()) {
            (Some(c), None) if mode == Mode::Math || (mode == Mode::Roman && "ei".contains(c)) => {
                Token::Letter(c)
            }
            _ if mode == Mode::Math => match words::typed(&run) {
                Some(command) => Token::Command(command.to_owned()),
                None => Token::Run(run),
            },
            _ => Token::Text(run),
        };
        self.tokens.push(token);
    }

    fn command(&mut self) {
        let name = &self.rest[1..];
        let letters = name.bytes().take_while(u8::is_ascii_alphabetic).count();
        let length = if letters > 0 { letters } else { name.chars().next().map_or(0, char::len_utf8) };
        let name = name[..length].to_owned();
        self.rest = &self.rest[1 + length..];
        match words::command(&name) {
            Meaning::Text => self.font(Mode::Text),
            Meaning::Roman => self.font(Mode::Roman),
            Meaning::Side => {
                let after = self.rest.trim_start();
                // The invisible bracket.
                self.rest = after.strip_prefix('.').unwrap_or(after);
            }
            Meaning::Begins => {
                let name = self.group().unwrap_or_default();
                if name == "array" {
                    self.group();
                }
                self.tokens.push(Token::Env(name));
            }
            Meaning::Ends => {
                self.group();
                self.tokens.push(Token::EndEnv);
            }
            Meaning::Skips => {
                self.group();
            }
            meaning => self.mean(meaning),
        }
    }

    fn mean(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Mark(c) => self.tokens.push(Token::Mark(c)),
            Meaning::Open(c) => self.open(c),
            Meaning::Close(c) => self.close(c),
            Meaning::Row => self.tokens.push(Token::Row),
            Meaning::Percent => self.tokens.push(Token::Percent),
            Meaning::Money(c) => self.tokens.push(Token::Money(c)),
            Meaning::Thing(name) => self.tokens.push(Token::Command(name)),
            Meaning::Raised(digit) => {
                let digit = Decimal { before: digit.to_string(), ..Decimal::default() };
                self.tokens.extend([Token::Mark('^'), Token::Number(digit)]);
            }
            Meaning::Degree => self.degree(),
            Meaning::Nothing
            | Meaning::Text
            | Meaning::Roman
            | Meaning::Side
            | Meaning::Begins
            | Meaning::Ends
            | Meaning::Skips => {}
        }
    }

    /// A degree sign takes its `^`, and the braces around it, away.
    fn degree(&mut self) {
        let braced = self
            .tokens
            .len()
            .checked_sub(2)
            .is_some_and(|at| self.tokens[at..] == [Token::Mark('^'), Token::Begin]);
        if braced && self.rest.trim_start().starts_with('}') {
            self.tokens.truncate(self.tokens.len() - 2);
            self.groups.pop();
            self.rest = &self.rest.trim_start()[1..];
        } else if self.tokens.last() == Some(&Token::Mark('^')) {
            self.tokens.pop();
        }
        self.tokens.push(Token::Degree);
    }

    /// A font: for the group that follows, or for what is left of this one.
    fn font(&mut self, mode: Mode) {
        let after = self.rest.trim_start();
        if let Some(inside) = after.strip_prefix('{') {
            self.rest = inside;
            self.begin(mode, false);
        } else if let Some(group) = self.groups.last_mut() {
            group.mode = mode;
        }
    }

    /// Takes a group of plain characters, such as the name of an environment.
    fn group(&mut self) -> Option<String> {
        let inside = self.rest.trim_start().strip_prefix('{')?;
        let end = inside.find(['{', '}']).filter(|end| inside[*end..].starts_with('}'))?;
        self.rest = &inside[end + 1..];
        Some(inside[..end].trim_end_matches('*').to_owned())
    }
}

/// `1 000 000` is one number, and `1 1/2` is two.
fn join_groups_of_three(tokens: Vec<Token>) -> Vec<Token> {
    let mut joined: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    // Whether the last token is the start of such a number.
    let mut open = false;
    while let Some(token) = tokens.next() {
        let divided = tokens.peek() == Some(&Token::Mark('/'));
        if let (true, Some(Token::Number(left)), Token::Number(right)) = (open, joined.last_mut(), &token)
            && right.before.len() == 3
            && !divided
        {
            left.before.push_str(&right.before);
            left.after.clone_from(&right.after);
            left.repeating.clone_from(&right.repeating);
            open = left.is_whole();
            continue;
        }
        // The 2 of `\log_2 100` starts nothing.
        let bound = matches!(joined.last(), Some(Token::Mark('_' | '^') | Token::Command(_)));
        open = matches!(&token, Token::Number(number)
            if !bound && number.is_whole() && number.before.len() <= 3 && !number.before.starts_with('0'));
        joined.push(token);
    }
    joined
}
