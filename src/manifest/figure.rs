//! `[[figure]]` blocks: what the report draws.

use std::collections::BTreeSet;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::fields::{self, Fields};
use super::selector::Selector;
use super::source::{Issue, Source, Span, nearest};

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
    /// Where the metric is written, when it is.
    pub metric_span: Option<Span>,
    /// Where the step is written, when it is.
    pub step_span: Option<Span>,
}

impl Measure {
    /// The score at the last step.
    fn score() -> Self {
        Self { metric: SCORE.to_owned(), at_step: None, metric_span: None, step_span: None }
    }
}

/// What every step of training is measured by: the columns of `metrics.csv` but `step`.
pub const TRAINING: [&str; 24] = [
    "reward/mean",
    "reward/std",
    "groups/zero_variance",
    "loss",
    "entropy",
    "kl/base",
    "clip_share",
    "length/mean",
    "length/max",
    "truncated",
    "lr",
    "grad_norm/dense",
    "grad_norm/masked",
    "grad_share/masked",
    "update/l2",
    "update/linf",
    "update/changed_fp32",
    "update/changed_bf16",
    "update/changed_1e-5",
    "rollout_seconds",
    "train_seconds",
    "rollout_tokens_per_second",
    "train_tokens_per_second",
    "peak_memory_bytes",
];

/// What every evaluation is measured by: columns of `evals.csv`, behind `eval/` or `eval/NAME/`.
pub const EVALUATION: [&str; 6] = ["score", "stderr", "examples", "perfect", "length", "truncated"];

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
    let mut measure = Measure::score();
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
    let mut measure = Measure { metric_span: fields.place("metric"), ..Measure::score() };
    if let Some(metric) = fields.text("metric") {
        if let Err(help) = known(&metric) {
            fields.issue("metric", format!("there is no `metric` = \"{metric}\""), &help);
        }
        measure.metric = metric;
    }
    if at_a_step {
        let step = fields.whole("at_step");
        measure.at_step = step.map(|step| u32::try_from(step).unwrap_or(u32::MAX));
        measure.step_span = fields.place("at_step");
    }
    measure
}

/// Whether a column exists; if not, which does. Whether a run has the evaluation is another question.
fn known(metric: &str) -> Result<(), String> {
    let evaluation = metric.strip_prefix("eval/").map(|rest| rest.rsplit_once('/').unwrap_or(("", rest)));
    let exists = match evaluation {
        // What a task measures beside its reward is known when it has measured it.
        Some((table, column)) => {
            EVALUATION.contains(&column) || table == "rewards" || table.ends_with("/rewards")
        }
        None => {
            TRAINING.contains(&metric) || metric.strip_prefix("rewards/").is_some_and(|part| !part.is_empty())
        }
    };
    if exists {
        return Ok(());
    }
    if let Some((name, column)) = evaluation {
        let table = if name.is_empty() { "eval".to_owned() } else { format!("eval/{name}") };
        let meant = nearest(column, EVALUATION).map(|column| format!("did you mean \"{table}/{column}\"?"));
        return Err(meant.unwrap_or_else(|| format!("an evaluation has {}", EVALUATION.join(", "))));
    }
    let scores = ["eval/score"];
    let mean = TRAINING.into_iter().find(|column| column.strip_suffix("/mean") == Some(metric));
    let meant = mean.or_else(|| nearest(metric, TRAINING.into_iter().chain(scores)));
    let all = || format!("training has {}; evaluations have eval/score and others", TRAINING.join(", "));
    Err(meant.map_or_else(all, |name| format!("did you mean \"{name}\"?")))
}
