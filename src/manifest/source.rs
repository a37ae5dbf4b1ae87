//! Source texts and the issues found in them.
//!
//! In: manifest text, or one override as the user wrote it. Out: [`Issue`]s that point into it by byte range.
//! Invariant: every issue about something that a user wrote carries the text where it was written.

use std::ops::Range;
use std::sync::Arc;

/// A byte range of a [`Source`].
pub type Span = Range<usize>;

/// A text that settings come from: a file, an environment variable, a `--set` argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As it is shown: a path, `environment`, `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Line and column of a byte offset, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }

    /// The text of a span, on one line and at most 60 characters long.
    pub fn excerpt(&self, span: &Span) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() > 60 { line.chars().take(57).chain("...".chars()).collect() } else { line }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What is wrong: a lowercase fragment that names the key and the value.
    pub text: String,
    /// Where it was written.
    pub source: Arc<Source>,
    /// The offending bytes.
    pub span: Span,
    /// What is allowed, or the likely intention.
    pub help: Option<String>,
    /// The keys that it is about, or that were probably meant: what else is said about them may only follow from it.
    pub keys: Vec<&'static str>,
}

impl Issue {
    /// An issue at a place.
    pub fn new(source: &Arc<Source>, span: &Span, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: Arc::clone(source),
            span: span.clone(),
            help: None,
            keys: Vec::new(),
        }
    }

    /// The same issue with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same issue about keys.
    #[must_use]
    pub fn about(mut self, keys: &[&'static str]) -> Self {
        self.keys.extend(keys);
        self
    }

    /// `file:line:column` of the issue.
    pub fn place(&self) -> String {
        let (line, column) = self.source.position(self.span.start);
        format!("{}:{line}:{column}", self.source.name)
    }
}

impl std::fmt::Display for Issue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.place(), self.text)
    }
}

impl std::error::Error for Issue {}

impl miette::Diagnostic for Issue {
    fn help(&self) -> Option<Box<dyn std::fmt::Display + '_>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }
}

/// A whole number with commas between its thousands.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of a thing, such as `1 value` or `2,000 values`.
pub fn counted(number: u128, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// The candidate closest to a misspelt name, when one is close enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(name);
    candidates
        .into_iter()
        .map(|candidate| {
            let whole = strsim::jaro_winkler(name, candidate);
            let tail = strsim::jaro_winkler(&wanted, &last(candidate));
            // The last segment is what people misspell; the table is what they forget.
            let levels = name.matches('.').count().abs_diff(candidate.matches('.').count());
            (0.4 * whole + 0.6 * tail - 0.05 * levels as f64, candidate)
        })
        .filter(|(score, _)| *score > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0).then_with(|| right.1.cmp(left.1)))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source { name: "m".into(), text: "a = 1\nké = 2\n".into() };
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(6), (2, 1));
        // `k` is one byte and `é` two: byte 9 is the third character of line 2.
        assert_eq!(source.position(9), (2, 3));
        assert_eq!(source.position(999), (3, 1));
    }

    #[test]
    fn counts_are_grouped() {
        let shown = [0, 1, 999, 1000, 1_234_567].map(|n| counted(n, "run"));
        assert_eq!(shown, ["0 runs", "1 run", "999 runs", "1,000 runs", "1,234,567 runs"]);
    }

    #[test]
    fn nearest_is_close_or_nothing() {
        let keys = ["optimizer.lr", "optimizer.eps", "grpo.group_size", "mask.sparsity"];
        assert_eq!(nearest("optimizer.lrr", keys), Some("optimizer.lr"));
        assert_eq!(nearest("grpo.groupsize", keys), Some("grpo.group_size"));
        assert_eq!(nearest("sparsity", keys), Some("mask.sparsity"));
        assert_eq!(nearest("zzz", keys), None);
    }
}
