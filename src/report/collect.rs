//! From a plan and a store to a [`ResultSet`].
//!
//! In: the runs of a plan, and whatever the store holds of them. Out: plain values. Invariant: nothing is computed that
//! the store could have told, every run of the plan is there, and the store is only read.

use serde_json::Value;

use super::error::ReportError;
use super::masks::{masks, overlaps};
use super::result::{ResultSet, RunResult, State, number};
use super::scores;
use crate::plan::settings;
use crate::plan::{Plan, RunSpec};
use crate::store::{RunState, Store, StoreError, TRANSCRIPTS};

/// The settings that every report shows where they apply.
const SHOWN: [&str; 4] = ["mask.type", "mask.sparsity", "mask.seed", "optimizer.lr"];

/// Collects what is known of every run of the plan.
pub fn collect(plan: &Plan, store: &Store) -> Result<ResultSet, ReportError> {
    let runs = plan.runs.iter().map(|run| result(run, store)).collect::<Result<Vec<_>, _>>()?;
    Ok(ResultSet {
        title: plan.manifest.title.clone(),
        question: plan.manifest.question.clone(),
        manifest: plan.manifest.name.clone(),
        overlaps: overlaps(&masks(plan, store)?),
        scores: scores::collect(plan, store)?,
        runs,
        mix_classes: false,
    }
    .normalised())
}

/// A failure of the store.
pub(super) fn stored(error: StoreError) -> ReportError {
    ReportError::Store(Box::new(error))
}

fn result(run: &RunSpec, store: &Store) -> Result<RunResult, ReportError> {
    let id = run.id.to_string();
    let state = store.run_state(&id).map_err(stored)?;
    let mut rows = store.run_rows(&id).map_err(stored)?;
    // Conversations are for `tickets show`: they are not numbers.
    for row in &mut rows.evals {
        row.remove(TRANSCRIPTS);
    }
    let config = settings(&run.config);
    let shown = config.iter().filter(|(key, _)| SHOWN.contains(&key.as_str())).cloned();
    let mut axes: Vec<(String, Value)> = shown.collect();
    axes.sort_by_key(|(key, _)| SHOWN.iter().position(|shown| shown == key));
    for (key, value) in &run.axes {
        if !axes.iter().any(|(known, _)| known == key) {
            axes.push((key.clone(), value.clone()));
        }
    }
    let last_row = rows
        .metrics
        .iter()
        .chain(&rows.evals)
        .filter_map(|row| number(row, "step"))
        .fold(None, |last, step| Some(last.map_or(step, |last: f64| last.max(step))));
    let last_row = last_row.map(|step| step as u64);
    let (state, step, reason) = match state {
        RunState::Done => (State::Done, last_row, None),
        RunState::Resumable { step } => (State::Resumable, Some(u64::from(step)), None),
        RunState::Failed { class, step, message } => {
            (State::Failed, step.map(u64::from).or(last_row), Some(format!("{class}: {message}")))
        }
        RunState::Pending => (State::Pending, None, None),
    };
    Ok(RunResult {
        id,
        label: run.label.clone(),
        axes,
        config,
        state,
        step,
        reason,
        metrics: rows.metrics,
        evals: rows.evals,
        done: rows.done,
    })
}
