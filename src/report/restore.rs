//! `runs.json`, and a whole [`ResultSet`] from the files of a report.
//!
//! In: the folder `results/<manifest name>/`, as committed. Out: the set that it was rendered from. Invariant:
//! `read` after `render` is the identity; nothing else is consulted.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::ReportError;
use super::long;
use super::result::{ResultSet, RunResult, State};
use super::scores;

const RUNS: &str = "runs.json";

/// The key that says that runs of several classes are mixed.
const MIX: &str = "mix_classes";

/// The key that says how many scores there are. Without it there are no files of them, or they are of an earlier report.
const SCORES: &str = "scores";

/// The version of the files' format; a reader refuses others.
const FORMAT: u64 = 1;

/// Writes all that the long tables do not hold.
pub fn write_runs(set: &ResultSet) -> Vec<u8> {
    let object = |pairs: &[(String, Value)]| -> Value { Value::Object(pairs.iter().cloned().collect()) };
    let runs: Vec<Value> = set
        .runs
        .iter()
        .map(|run| {
            json!({
                "id": run.id,
                "label": run.label,
                "state": run.state.name(),
                "step": run.step,
                "reason": run.reason,
                "axes": object(&run.axes),
                "config": object(&run.config),
                "done": run.done,
            })
        })
        .collect();
    let mut document = json!({
        "format": FORMAT,
        "manifest": set.manifest,
        "title": set.title,
        "question": set.question,
    });
    // Only where it changes something, so that reports of one class are what they always were.
    if set.mix_classes {
        document[MIX] = true.into();
    }
    if !set.scores.is_empty() {
        document[SCORES] = set.scores.len().into();
    }
    document["runs"] = Value::Array(runs);
    let mut text = format!("{document:#}");
    text.push('\n');
    text.into_bytes()
}

/// Restores the set from the files that [`super::render`] made of it.
pub fn read(dir: &Path) -> Result<ResultSet, ReportError> {
    let (mut set, scores) = read_runs(&text(dir, RUNS)?)?;
    let metrics = long::read_rows("metrics.csv", &text(dir, "metrics.csv")?)?;
    let evals = long::read_rows("evals.csv", &text(dir, "evals.csv")?)?;
    set.overlaps = long::read_overlaps("jaccard.csv", &text(dir, "jaccard.csv")?)?;
    set.scores = scores::read(scores, |file| text(dir, file))?;
    let place = |set: &ResultSet, file, label: &str| {
        set.runs.iter().position(|run| run.label == label).ok_or_else(|| ReportError::Malformed {
            file,
            line: 0,
            what: format!("run `{label}` is not in {RUNS}"),
        })
    };
    for (label, row) in metrics {
        let index = place(&set, "metrics.csv", &label)?;
        set.runs[index].metrics.push(row);
    }
    for (label, row) in evals {
        let index = place(&set, "evals.csv", &label)?;
        set.runs[index].evals.push(row);
    }
    let mix = set.mix_classes;
    Ok(set.with_mix_classes(mix))
}

/// Whether the report in this folder mixes runs of several classes; without a report that can be read it does not.
pub fn mixes_classes(dir: &Path) -> bool {
    let document = text(dir, RUNS).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    document.is_some_and(|document| mixes(&document))
}

fn mixes(document: &Value) -> bool {
    document.get(MIX).and_then(Value::as_bool) == Some(true)
}

fn text(dir: &Path, file: &str) -> Result<String, ReportError> {
    let path = dir.join(file);
    std::fs::read_to_string(&path).map_err(|source| ReportError::Unreadable { path, source })
}

/// The set without what the tables hold, and how many scores they hold.
fn read_runs(text: &str) -> Result<(ResultSet, u64), ReportError> {
    let malformed = |line, what: String| ReportError::Malformed { file: RUNS, line, what };
    let document: Value =
        serde_json::from_str(text).map_err(|error| malformed(error.line(), error.to_string()))?;
    let format = document.get("format").and_then(Value::as_u64);
    if format != Some(FORMAT) {
        return Err(malformed(0, format!("format {format:?} is not {FORMAT}")));
    }
    let word = |value: &Value, key: &str| -> Result<String, ReportError> {
        value
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| malformed(0, format!("`{key}` is missing or not text")))
    };
    let pairs = |value: &Value, key: &str| -> Result<Vec<(String, Value)>, ReportError> {
        value
            .get(key)
            .and_then(Value::as_object)
            .map(|object: &Map<String, Value>| object.clone().into_iter().collect())
            .ok_or_else(|| malformed(0, format!("`{key}` is missing or not an object")))
    };
    let present = |value: &Value, key: &str| value.get(key).filter(|found| !found.is_null()).cloned();
    let runs = document
        .get("runs")
        .and_then(Value::as_array)
        .ok_or_else(|| malformed(0, "`runs` is missing or not a list".to_owned()))?
        .iter()
        .map(|run| {
            let state = word(run, "state")?;
            Ok(RunResult {
                id: word(run, "id")?,
                label: word(run, "label")?,
                axes: pairs(run, "axes")?,
                config: pairs(run, "config")?,
                state: State::parse(&state)
                    .ok_or_else(|| malformed(0, format!("`{state}` is not a run's state")))?,
                step: present(run, "step").and_then(|step| step.as_u64()),
                reason: present(run, "reason").and_then(|reason| reason.as_str().map(str::to_owned)),
                metrics: Vec::new(),
                evals: Vec::new(),
                done: present(run, "done"),
            })
        })
        .collect::<Result<Vec<_>, ReportError>>()?;
    let scores = document.get(SCORES).and_then(Value::as_u64).unwrap_or(0);
    let set = ResultSet {
        title: word(&document, "title")?,
        question: word(&document, "question")?,
        manifest: word(&document, "manifest")?,
        runs,
        overlaps: Vec::new(),
        scores: Vec::new(),
        mix_classes: mixes(&document),
    };
    Ok((set, scores))
}
