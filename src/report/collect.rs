//! From a plan and a store to a [`ResultSet`].
//!
//! In: the runs of a plan, and whatever the store holds of them. Out: plain values. Invariant: nothing is computed that
//! the store could have told, every run of the plan is there, and the store is only read.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::error::ReportError;
use super::overlap::{MaskIndices, all_pairs};
use super::put;
use super::result::{ResultSet, RunResult, State, number};
use super::series::plain;
use crate::plan::settings;
use crate::plan::{Plan, RunSpec};
use crate::store::{Artifact, RunState, Stage, Store, StoreError};

/// The file of a mask artifact.
const MASK_FILE: &str = "mask.safetensors";

/// The settings that every report shows where they apply.
const SHOWN: [&str; 4] = ["mask.type", "mask.sparsity", "mask.seed", "optimizer.lr"];

/// Collects what is known of every run of the plan.
pub fn collect(plan: &Plan, store: &Store) -> Result<ResultSet, ReportError> {
    let runs = plan.runs.iter().map(|run| result(run, store)).collect::<Result<Vec<_>, _>>()?;
    Ok(ResultSet {
        title: plan.manifest.title.clone(),
        question: plan.manifest.question.clone(),
        manifest: plan.manifest.name.clone(),
        overlaps: all_pairs(&masks(plan, store)?),
        runs,
        mix_classes: false,
    }
    .normalised())
}

fn stored(error: StoreError) -> ReportError {
    ReportError::Store(Box::new(error))
}

fn result(run: &RunSpec, store: &Store) -> Result<RunResult, ReportError> {
    let id = run.id.to_string();
    let state = store.run_state(&id).map_err(stored)?;
    let rows = store.run_rows(&id).map_err(stored)?;
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

/// The distinct masks that the store holds, in plan order. Full runs have none.
fn masks(plan: &Plan, store: &Store) -> Result<Vec<MaskIndices>, ReportError> {
    let mut ids: Vec<(&str, String)> = Vec::new();
    for run in &plan.runs {
        if let Some(id) = run.stages.mask.as_deref()
            && !ids.iter().any(|(known, _)| *known == id)
        {
            ids.push((id, mask_name(run)));
        }
    }
    let names: Vec<String> = ids.iter().map(|(_, name)| name.clone()).collect();
    let mut masks = Vec::new();
    for (id, name) in &mut ids {
        // Masks that differ in what a name does not say (an estimator, a rounding, the base) are told apart by id.
        if names.iter().filter(|other| *other == name).count() > 1 {
            put(name, format_args!("-{}", &id[..6.min(id.len())]));
        }
        if let Some(artifact) = store.artifact(Stage::Mask, id).map_err(stored)? {
            masks.push(read_mask(&artifact, id, name)?);
        }
    }
    Ok(masks)
}

/// For example `random-0.99-s0`.
fn mask_name(run: &RunSpec) -> String {
    let config = settings(&run.config);
    let value = |key: &str| config.iter().find(|(known, _)| known == key).map(|(_, value)| plain(value));
    let mut name = value("mask.type").unwrap_or_default();
    if let Some(sparsity) = value("mask.sparsity") {
        put(&mut name, format_args!("-{sparsity}"));
    }
    if let Some(seed) = value("mask.seed") {
        put(&mut name, format_args!("-s{seed}"));
    }
    name
}

fn read_mask(artifact: &Artifact, id: &str, name: &str) -> Result<MaskIndices, ReportError> {
    let wrong = |what: String| ReportError::Mask { id: id.to_owned(), name: name.to_owned(), what };
    let bytes = artifact.read(MASK_FILE).map_err(stored)?;
    let tensors = parse(&bytes).map_err(wrong)?;
    let count = |key: &str| {
        artifact
            .meta()
            .get(key)
            .and_then(Value::as_u64)
            .ok_or_else(|| wrong(format!("its record has no `{key}`")))
    };
    let (active, total) = (count("active")?, count("total")?);
    let found: u64 = tensors.values().map(|indices| indices.len() as u64).sum();
    if found != active {
        return Err(wrong(format!("its record says {active} active entries, {MASK_FILE} has {found}")));
    }
    Ok(MaskIndices { name: name.to_owned(), tensors, active, total })
}

/// The sorted flat indices of each tensor of a mask file.
fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Vec<i32>>, String> {
    let file = Path::new(MASK_FILE).display();
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| format!("{file}: {error}"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in parsed.iter() {
        if view.dtype() != Dtype::I32 {
            return Err(format!("{file}: tensor {name} is {:?}, not I32", view.dtype()));
        }
        let words = view.data().as_chunks::<4>().0;
        let indices: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
        if !indices.is_sorted_by(|before, after| before < after) {
            return Err(format!("{file}: the indices of tensor {name} do not ascend"));
        }
        tensors.insert(name.to_owned(), indices);
    }
    Ok(tensors)
}
