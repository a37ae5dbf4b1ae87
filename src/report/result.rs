//! What a report is made of: plain values, and nothing that is not in the committed files.
//!
//! Invariant: a [`ResultSet`] is normal: rows hold no null cells (absent and null are the same thing: missing), and
//! every derived file is a pure function of it. [`super::read`] restores it from those files exactly.

use serde_json::Value;

use super::masks::Overlap;
use super::scores::ScoresRecord;
use crate::store::class_of_run;

/// The class of a finished run whose results do not say in which class it was made.
pub const UNKNOWN_CLASS: &str = "-";

/// One line of a run's metrics or evaluations.
pub type Row = serde_json::Map<String, Value>;

/// The results of one manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultSet {
    /// The manifest's title.
    pub title: String,
    /// The question that it asks.
    pub question: String,
    /// Its name: the path below `manifests/` without `.toml`.
    pub manifest: String,
    /// Every run of the plan, in plan order, finished or not.
    pub runs: Vec<RunResult>,
    /// Every pair of distinct masks of one model, in plan order.
    pub overlaps: Vec<Overlap>,
    /// The distinct scores that the store has, in plan order.
    pub scores: Vec<ScoresRecord>,
    /// Whether runs of different classes are shown as if they were of one, see [`super::classes`]. Normally false, and
    /// always where there is nothing to mix.
    pub mix_classes: bool,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Finished, its completion marker written.
    Done,
    /// Stopped by a failure of its own.
    Failed,
    /// Interrupted after a checkpoint.
    Resumable,
    /// Not started, or lost before its first checkpoint.
    Pending,
}

impl State {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Resumable, Self::Pending];

    /// The word that files and tables use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Resumable => "resumable",
            Self::Pending => "pending",
        }
    }

    /// The state of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One run: what it was asked, how far it came, what it measured.
#[derive(Clone, Debug, PartialEq)]
pub struct RunResult {
    /// The run's identity, 64 hex digits.
    pub id: String,
    /// Its readable name, unique in the plan.
    pub label: String,
    /// The settings that tables and charts show, by dotted key: `mask.type`, `mask.sparsity`, `mask.seed`,
    /// `optimizer.lr` where they apply, and every other key that varies in the grid.
    pub axes: Vec<(String, Value)>,
    /// The complete configuration, by dotted key.
    pub config: Vec<(String, Value)>,
    /// How far it came.
    pub state: State,
    /// The last step it reached, where that is known.
    pub step: Option<u64>,
    /// Why it failed: class and message.
    pub reason: Option<String>,
    /// One row a training step.
    pub metrics: Vec<Row>,
    /// One row an evaluation.
    pub evals: Vec<Row>,
    /// What the completion marker says: digests, the verdict on the invariant.
    pub done: Option<Value>,
}

impl RunResult {
    /// The first 12 digits of the id.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// A reported setting.
    pub fn axis(&self, key: &str) -> Option<&Value> {
        self.axes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The learning rate.
    pub fn lr(&self) -> Option<f64> {
        self.axis("optimizer.lr").and_then(Value::as_f64)
    }

    /// The score of the base model: the evaluation at step 0.
    pub fn base_score(&self) -> Option<f64> {
        self.base_number("eval/score")
    }

    /// A column of the evaluation at step 0.
    pub fn base_number(&self, column: &str) -> Option<f64> {
        let row = self.evals.iter().find(|row| row.get("step").and_then(Value::as_u64) == Some(0))?;
        number(row, column)
    }

    /// A column of the last evaluation of a finished run that has it.
    pub fn final_number(&self, column: &str) -> Option<f64> {
        if self.state != State::Done {
            return None;
        }
        self.evals.iter().rev().find_map(|row| number(row, column))
    }

    /// The last evaluation of a finished run. An unfinished run has no final score.
    pub fn final_eval(&self) -> Option<&Row> {
        if self.state != State::Done {
            return None;
        }
        self.evals.iter().rev().find(|row| number(row, "eval/score").is_some())
    }

    /// The score of the last evaluation of a finished run.
    pub fn final_score(&self) -> Option<f64> {
        self.final_eval().and_then(|row| number(row, "eval/score"))
    }

    /// The standard error of that score.
    pub fn final_stderr(&self) -> Option<f64> {
        self.final_eval().and_then(|row| number(row, "eval/stderr"))
    }

    /// The stored verdict on the central invariant (everything outside the mask is bit-identical to the base).
    ///
    /// `done.invariant` is an object with a boolean `holds`, a boolean, or a word.
    pub fn invariant(&self) -> Option<String> {
        let word = |holds: bool| if holds { "holds" } else { "broken" }.to_owned();
        match self.done.as_ref()?.get("invariant")? {
            Value::String(text) => Some(text.clone()),
            Value::Bool(holds) => Some(word(*holds)),
            Value::Object(fields) => fields.get("holds").and_then(Value::as_bool).map(word),
            _ => None,
        }
    }

    /// The class of a finished run: the short id, ids joined by `+` where it crossed classes, [`UNKNOWN_CLASS`] where its
    /// results do not say. An unfinished run has none.
    pub fn class(&self) -> Option<String> {
        let known = || self.done.as_ref().and_then(class_of_run);
        (self.state == State::Done).then(|| known().unwrap_or_else(|| UNKNOWN_CLASS.to_owned()))
    }

    /// The points `(step, column)` of `rows`, finite ones only, in step order.
    pub fn series(rows: &[Row], column: &str) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> =
            rows.iter().filter_map(|row| Some((number(row, "step")?, number(row, column)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }
}

/// A finite number of a row.
pub fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column).and_then(Value::as_f64).filter(|value| value.is_finite())
}

impl ResultSet {
    /// Drops null cells, which mean the same as absent ones, and a wish to mix where there is nothing to mix.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        for run in &mut self.runs {
            for row in run.metrics.iter_mut().chain(&mut run.evals) {
                row.retain(|_, cell| !cell.is_null());
            }
            run.axes.retain(|(_, value)| !value.is_null());
            run.done = run.done.take().filter(|value| !value.is_null());
        }
        for row in self.scores.iter_mut().flat_map(ScoresRecord::rows) {
            row.retain(|_, cell| !cell.is_null());
        }
        let mix = self.mix_classes;
        self.with_mix_classes(mix)
    }

    /// Runs in a state.
    pub fn count(&self, state: State) -> usize {
        self.runs.iter().filter(|run| run.state == state).count()
    }

    /// `PARTIAL n/m` when some run is not finished.
    pub fn partial(&self) -> Option<String> {
        let done = self.count(State::Done);
        (done < self.runs.len()).then(|| format!("PARTIAL {done}/{}", self.runs.len()))
    }
}
