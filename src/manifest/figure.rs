//! `[[figure]]` blocks: what the report draws.

use std::collections::BTreeSet;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::fields::{self, Fields};
use super::selector::Selector;
use super::source::{Issue, Source, Span};

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name, and that of its files.
    pub id: String,
    /// What it shows.
    pub kind: FigureKind,
    /// Its heading, when it is not the kind's own.
    pub title: Option<String>,
    /// The values that it shows.
    pub measure: Measure,
    /// The runs that it shows: those that any of these selects; all when there is none.
    pub runs: Vec<Selector>,
    /// Where it stands.
    pub span: Span,
    /// The text that it stands in.
    pub source: Arc<Source>,
}

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// The metric over the steps, one line a run.
    Curves,
    /// The metric at a step over the learning rate, one line per mask.
    LrSweep,
    /// The best metric at a step over the density of the mask.
    Density,
    /// The overlaps of the masks.
    Jaccard,
    /// The metric at a step, as a table.
    Table,
}

/// A column of the results, at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// A column of `metrics.csv` or `evals.csv`.
    pub metric: String,
    /// The step; `None` is the last.
    pub at_step: Option<u32>,
}

/// The metric that is meant when none is said.
pub const SCORE: &str = "eval/score";

pub(super) const KINDS: [(&str, FigureKind); 5] = [
    ("curves", FigureKind::Curves),
    ("lr_sweep", FigureKind::LrSweep),
    ("density", FigureKind::Density),
    ("jaccard", FigureKind::Jaccard),
    ("table", FigureKind::Table),
];

impl FigureKind {
    /// The kind as a manifest spells it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Reads the value of `figure`.
pub(super) fn read_all(
    value: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    issues: &mut Vec<Issue>,
) -> Vec<Figure> {
    let figures = fields::blocks(value, "figure", source, issues, |fields| read(fields, source));
    refuse_twins(figures.iter().map(|figure| (&figure.id, &figure.span)), "figure", source, issues);
    figures
}

/// Says which ids stand twice.
pub(super) fn refuse_twins<'b>(
    ids: impl Iterator<Item = (&'b String, &'b Span)>,
    what: &str,
    source: &Arc<Source>,
    issues: &mut Vec<Issue>,
) {
    let mut seen = BTreeSet::new();
    for (id, span) in ids {
        // File systems that ignore case hold one file for both.
        if !seen.insert(id.to_lowercase()) {
            let issue = Issue::new(source, span, format!("there are two {what}s with the id \"{id}\""));
            issues.push(issue.help("ids are names: give each its own"));
        }
    }
}

fn read(fields: &mut Fields<'_, '_, '_>, source: &Arc<Source>) -> Option<Figure> {
    let id = fields.id();
    let kind = fields.word("kind", &KINDS.map(|(name, _)| name));
    let kind = kind.and_then(|name| KINDS.iter().find(|(known, _)| *known == name));
    let title = fields.text("title");
    let runs = fields.selectors("runs");
    let kind = kind?.1;
    let mut measure = Measure { metric: SCORE.to_owned(), at_step: None };
    if kind != FigureKind::Jaccard {
        measure = read_measure(fields, kind != FigureKind::Curves);
    }
    Some(Figure {
        id: id?,
        kind,
        title,
        measure,
        runs,
        span: fields.span.clone(),
        source: Arc::clone(source),
    })
}

/// `metric` and, where it makes sense, `at_step`.
pub(super) fn read_measure(fields: &mut Fields<'_, '_, '_>, at_a_step: bool) -> Measure {
    let metric = fields.text("metric").unwrap_or_else(|| SCORE.to_owned());
    let at_step = if at_a_step { fields.whole("at_step") } else { None };
    Measure { metric, at_step: at_step.map(|step| u32::try_from(step).unwrap_or(u32::MAX)) }
}
