//! Issues drawn with their lines underlined, as the command line shows them.
//!
//! In: issues. Out: text of bounded length, whatever the source: lines and spans that are too long are cut.

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

use super::source::{Issue, Source, Span};

/// The most characters of a line that are shown.
const MOST_WIDE: usize = 160;
/// How many of them stand before what is underlined.
const BEFORE: usize = 60;
/// The most lines that are underlined.
const MOST_HIGH: usize = 8;

/// Draws issues with the source text underlined, one block each, with colours when asked.
pub fn render(issues: &[Issue], color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
    let mut out = String::new();
    for (index, issue) in issues.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let drawn = Drawn { issue, lines: Lines::around(&issue.source, &issue.span) };
        if handler.render_report(&mut out, &drawn).is_err() {
            out.push_str(&issue.to_string());
            out.push('\n');
        }
    }
    out
}

/// An issue with its lines, as miette draws it.
#[derive(Debug)]
struct Drawn<'a> {
    issue: &'a Issue,
    lines: Lines,
}

impl std::fmt::Display for Drawn<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.issue.text)
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn help(&self) -> Option<Box<dyn std::fmt::Display + '_>> {
        miette::Diagnostic::help(self.issue)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.lines)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = SourceSpan::from(self.lines.span.clone());
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(None, span))))
    }
}

/// The lines of a place and one on either side, each of bounded length.
#[derive(Debug)]
struct Lines {
    name: String,
    text: String,
    /// What is underlined, in `text`.
    span: Span,
    /// The number of the first line, from 0.
    first: usize,
    /// Where the place begins in its own line, in characters from 0.
    column: usize,
}

impl Lines {
    fn around(source: &Source, span: &Span) -> Self {
        let whole = source.text.as_str();
        let start = floor(whole, span.start);
        let end = floor(whole, span.end).max(start);
        let end = whole[start..end].match_indices('\n').nth(MOST_HIGH).map_or(end, |(at, _)| start + at);
        let line_start = |at: usize| whole[..at].rfind('\n').map_or(0, |found| found + 1);
        let line_end = |at: usize| whole[at..].find('\n').map_or(whole.len(), |found| at + found);
        let own = line_start(start);
        let from = if own > 0 { line_start(own - 1) } else { own };
        let last = line_end(floor(whole, end.saturating_sub(1)).max(start));
        let to = if last + 1 < whole.len() { line_end(last + 1) } else { last };

        let mut text = String::new();
        let (mut marked, mut at) = (0..0, from);
        for line in whole[from..to].split('\n') {
            let (stop, begin) = (at + line.len(), text.len());
            let (first, shown) = if at == own { window(line, start - at) } else { window(line, 0) };
            // Where a byte of the line is in what is shown of it.
            let place = |byte: usize| begin + byte.clamp(first, first + shown.len()) - first;
            if (at..=stop).contains(&start) && at == own {
                marked.start = place(start - at);
            }
            if (at..=stop).contains(&end) {
                marked.end = place(end - at);
            }
            text.push_str(shown);
            text.push('\n');
            at = stop + 1;
        }
        if to == whole.len() && !whole.ends_with('\n') {
            text.pop();
        }
        marked.end = marked.end.max(marked.start);
        let (line, column) = source.position(start);
        let first = line - 1 - usize::from(own > 0);
        Self { name: source.name.clone(), text, span: marked, first, column: column - 1 }
    }
}

/// The nearest start of a character at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The part of a line that is shown when a byte of it matters, and where it begins.
fn window(line: &str, matters: usize) -> (usize, &str) {
    let place = |from: usize, count: usize| {
        line[from..].char_indices().nth(count).map_or(line.len(), |(at, _)| from + at)
    };
    if place(0, MOST_WIDE) == line.len() {
        return (0, line);
    }
    let first = line[..matters].char_indices().rev().nth(BEFORE).map_or(0, |(at, _)| at);
    (first, &line[first..place(first, MOST_WIDE)])
}

impl SourceCode for Lines {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.read_span(span, before, after)?;
        let inside = *found.span();
        let column = if inside.offset() == self.span.start { self.column } else { found.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            found.data(),
            inside,
            found.line() + self.first,
            column,
            found.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn drawn(text: &str, span: Span) -> String {
        let source = Arc::new(Source { name: "m.toml".into(), text: text.into() });
        render(&[Issue::new(&source, &span, "wrong")], false)
    }

    #[test]
    fn long_lines_are_cut_around_what_is_wrong() {
        let text = format!("a = 1\n{}é!{}\nb = 2\n", "x".repeat(1_000_000), "y".repeat(1_000_000));
        let at = 6 + 1_000_000;
        let found = drawn(&text, at..at + 2);
        assert!(found.contains("╭─[m.toml:2:1000001]"), "{found}");
        let shown = found.lines().find(|line| line.starts_with(" 2 │ ")).expect("the line");
        assert_eq!(shown.matches('x').count(), BEFORE + 1, "{found}");
        assert!(
            shown.contains("xé!y") && found.contains(" 1 │ a = 1") && found.contains(" 3 │ b = 2"),
            "{found}"
        );
        let under =
            found.lines().find(|line| line.contains('─') && line.starts_with("   ·")).expect("underlined");
        assert_eq!(under.chars().position(|c| c == '─'), shown.chars().position(|c| c == 'é'), "{found}");
        assert!(found.len() < 2000);
    }

    #[test]
    fn tall_spans_and_ends_are_cut_too() {
        let tall = format!("a = [\n{}]\n", "line\n".repeat(100_000));
        let found = drawn(&tall, 4..tall.len() - 1);
        assert!(found.lines().count() < 20 && found.contains("[m.toml:1:5]"), "{found}");
        for (text, span) in
            [("", 0..0), ("x", 1..1), ("x\n", 2..2), ("é", 1..2), ("a\nb", 0..99), ("\n\n\n", 1..3)]
        {
            assert!(drawn(text, span.clone()).contains("wrong"), "{text:?} {span:?}");
        }
    }
}
