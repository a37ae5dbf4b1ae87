//! `tickets show [MANIFEST] RUN`: all that is known about one run.
//!
//! In: an id prefix, or a label when a manifest is given. Out: state, axes, stages, last rows, digests, the end of the
//! log, as text or as one JSON object. Nothing is changed.

use std::io::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use super::args::LookArgs;
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, RunSpec};
use crate::store::{
    Row, RunRows, RunState, Stage, Standing, Store, StoreError, TRANSCRIPTS, class_of_run,
    reproducible_digest, run_task,
};

/// Lines of the log that are shown.
const LOG_LINES: usize = 10;

/// Arguments of `tickets show`.
#[derive(Args, Clone, Debug)]
#[command(override_usage = "tickets show [OPTIONS] [MANIFEST] RUN")]
pub struct ShowArgs {
    /// The manifest, when the run is named by its label; else the run itself
    #[arg(value_name = "MANIFEST|RUN")]
    pub first: String,
    /// The run: the beginning of its id, or its label in the manifest
    #[arg(value_name = "RUN")]
    pub second: Option<String>,
    /// Print the conversations that the evaluations kept: those of the last one, or those after this step
    #[arg(long, value_name = "STEP", num_args = 0..=1)]
    pub transcripts: Option<Option<u64>>,
    /// Results, overrides, JSON
    #[command(flatten)]
    pub look: LookArgs,
}

/// The command.
///
/// # Errors
/// When there is no such run, or what it has written cannot be read.
pub fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let store = Store::open_read_only(&args.look.results)?;
    let (id, spec) = match &args.second {
        Some(wanted) => {
            let plan = plan::expand(manifest::load(&args.first, &args.look.overrides())?)?;
            let spec = plan.find(wanted)?.clone();
            (spec.id.to_string(), Some(spec))
        }
        None => (store.find_run(&args.first)?, None),
    };
    if let Some(step) = args.transcripts {
        let kept = kept(&store, &id, step)?;
        let text =
            if args.look.json { super::transcripts::lines(&kept) } else { super::transcripts::text(&kept) };
        let _ = out.write_all(text.as_bytes());
        return Ok(Code::Ok);
    }
    let shown = describe(&store, &id, spec.as_ref())?;
    let text = if args.look.json { format!("{shown:#}") } else { render(&shown) };
    let _ = writeln!(out, "{text}");
    Ok(Code::Ok)
}

/// The conversations that the last evaluation of a run kept, or the one after `step` steps.
fn kept(store: &Store, id: &str, step: Option<u64>) -> Result<Vec<Value>, Failure> {
    let rows = store.run_rows(id)?.evals;
    let step_of = |row: &Row| row.get("step").and_then(Value::as_u64);
    let row = match step {
        Some(step) => rows.iter().find(|row| step_of(row) == Some(step)),
        None => rows.last(),
    };
    let row = row.ok_or_else(|| {
        let steps: Vec<String> = rows.iter().filter_map(step_of).map(|step| step.to_string()).collect();
        let hint = match steps.as_slice() {
            [] => "the run has not been evaluated yet".to_owned(),
            steps => format!("it was evaluated after steps {}", steps.join(", ")),
        };
        Failure::new(Code::Usage, format!("run {} has no such evaluation", super::short(id)), Some(hint))
    })?;
    row.get(TRANSCRIPTS).and_then(Value::as_array).cloned().ok_or_else(|| {
        let hint = "results of earlier versions hold none: `tickets chat` makes some of a finished run";
        Failure::new(
            Code::Usage,
            format!("run {} kept no conversations", super::short(id)),
            Some(hint.into()),
        )
    })
}

/// Everything about a run, as JSON.
fn describe(store: &Store, id: &str, spec: Option<&RunSpec>) -> Result<Value, Failure> {
    // A result that does not fit its marker is shown as that; what else is known of the run is shown all the same.
    let (state, damage) = match store.run_state(id) {
        Err(error @ StoreError::Damaged { .. }) => (None, Some(error.to_string())),
        state => (Some(state?), None),
    };
    let (rows, damage) = match store.run_rows(id) {
        Err(error @ StoreError::Damaged { .. }) => (RunRows::default(), damage.or(Some(error.to_string()))),
        rows => (rows?, damage),
    };
    let name = state.as_ref().map_or("damaged", RunState::name);
    let is_done = matches!(state, None | Some(RunState::Done));
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(id));
    if let Some(spec) = spec {
        shown.insert("label".to_owned(), json!(spec.label));
        shown.insert("axes".to_owned(), Value::Object(spec.axes.iter().cloned().collect()));
        shown.insert("steps".to_owned(), json!(spec.config.grpo.steps));
        shown.insert("stages".to_owned(), stages(store, spec)?);
    }
    let settings = match spec {
        Some(spec) => Some(plan::settings(&spec.config).into_iter().collect::<Map<_, _>>().into()),
        None => store.described(id)?.map(|mut record| record["settings"].take()),
    };
    shown.insert("settings".to_owned(), settings.unwrap_or_default());
    shown.insert("state".to_owned(), json!(if damage.is_some() && is_done { "damaged" } else { name }));
    shown.insert("damage".to_owned(), json!(damage));
    shown.insert("step".to_owned(), json!(state.as_ref().and_then(RunState::step)));
    if let Some(RunState::Failed { .. }) = state {
        shown.insert("failure".to_owned(), store.failure(id)?.unwrap_or_default());
    }
    shown.insert("attempt".to_owned(), json!(rows.attempt));
    shown.insert("metrics".to_owned(), summary(&rows.metrics));
    shown.insert("evals".to_owned(), summary(&rows.evals));
    shown.insert("curves".to_owned(), curves(&rows));
    let done = rows.done.unwrap_or_default();
    for key in ["weights_digest", "moments_digest", "invariant"] {
        shown.insert(key.to_owned(), done[key].clone());
    }
    shown.insert("class".to_owned(), json!(class_of_run(&done)));
    shown.insert("done".to_owned(), done);
    shown.insert("attempts".to_owned(), attempts(store, id)?);
    let claim = store.claim(&run_task(id))?;
    let holder = claim.map(|claim| {
        let standing = claim.glance(std::time::SystemTime::now());
        json!({ "who": claim.whose(), "purpose": claim.purpose, "held": standing == Standing::Held })
    });
    shown.insert("holder".to_owned(), json!(holder));
    shown.insert("log".to_owned(), json!(store.log_tail(id, LOG_LINES)?));
    Ok(Value::Object(shown))
}

/// What figures draw of the run: `[step, value]` for each step that has one.
fn curves(rows: &RunRows) -> Value {
    let curve = |rows: &[Row], column: &str| -> Value {
        let point =
            |row: &Row| Some(json!([row.get("step")?, row.get(column).filter(|value| !value.is_null())?]));
        rows.iter().filter_map(point).collect()
    };
    let mut curves = Map::new();
    let scores = rows.evals.iter().flat_map(Row::keys).filter(|column| column.ends_with("/score"));
    let mut scores: Vec<&str> = scores.map(String::as_str).chain(["eval/score"]).collect();
    scores.sort_unstable();
    scores.dedup();
    // Named evaluations take the place of the plain one.
    if scores.len() > 1 {
        scores.retain(|column| *column != "eval/score");
    }
    for column in scores {
        curves.insert(column.to_owned(), curve(&rows.evals, column));
    }
    for column in ["reward/mean", "kl/base"] {
        curves.insert(column.to_owned(), curve(&rows.metrics, column));
    }
    Value::Object(curves)
}

/// A curve on one line: a dozen of its points at most, the last one among them.
fn curve_line(points: &[Value]) -> String {
    let every = points.len().div_ceil(12).max(1);
    let last = points.len().saturating_sub(1);
    let shown = points.iter().enumerate().filter(|(index, _)| (last - index).is_multiple_of(every));
    let texts = shown.map(|(_, point)| format!("{}: {}", point[0], super::cell(&point[1])));
    texts.collect::<Vec<_>>().join("  ")
}

/// Every attempt: what it was made with, and how it failed if it did.
fn attempts(store: &Store, id: &str) -> Result<Value, Failure> {
    let failures = store.failures(id)?;
    let mut attempts = Vec::new();
    for number in 1..store.next_attempt(id)? {
        let provenance = store.provenance(id, number)?;
        let failure = failures.get(&number);
        if provenance.is_some() || failure.is_some() {
            attempts.push(json!({ "attempt": number, "failure": failure, "provenance": provenance }));
        }
    }
    Ok(attempts.into())
}

/// An attempt on one line: when, where, with what, and how it failed.
fn attempt_line(attempt: &Value) -> String {
    let provenance = &attempt["provenance"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let commit = text(&provenance["build"]["commit"]).map(|commit| {
        let dirty = if provenance["build"]["dirty"] == true { " (changed)" } else { "" };
        format!("commit {}{dirty}", super::short(&commit))
    });
    let parts = [
        text(&provenance["host"]["name"]).map(|host| format!("on {host}")),
        text(&provenance["device"]),
        provenance["threads"].as_u64().map(|threads| format!("{threads} threads")),
        text(&provenance["libtorch"]).map(|version| format!("libtorch {version}")),
        text(&provenance["build"]["digest"]).map(|digest| format!("build {}", super::short(&digest))),
        commit,
        text(&attempt["failure"]["class"]).map(|class| {
            format!("failed ({class}): {}", text(&attempt["failure"]["message"]).unwrap_or_default())
        }),
    ];
    format!("{}: {}", attempt["attempt"], parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// The stages that a run stands on: ids, and whether they are there.
fn stages(store: &Store, spec: &RunSpec) -> Result<Value, Failure> {
    let mut stages = Map::new();
    for (name, id) in spec.stages.named() {
        let artifact = Stage::ALL.into_iter().find(|stage| stage.name() == name);
        // A trajectory and its evaluations have no artifact of their own.
        let made = artifact.map(|stage| store.artifact(stage, id)).transpose()?;
        let state = made.as_ref().map(|made| if made.is_some() { "done" } else { "pending" });
        let mut entry = json!({ "id": id, "state": state });
        if let (Some(Stage::Scores), Some(Some(made))) = (artifact, &made) {
            entry["made"] = made.meta().clone();
        }
        stages.insert(name.to_owned(), entry);
    }
    Ok(Value::Object(stages))
}

/// How scores were made, and how far two halves of their data agree on the mask of 1 %. Older ones do not say all of it.
fn scores_lines(made: &Value) -> [String; 2] {
    let word = |key: &str| made[key].as_str().map(str::to_owned);
    let count = |key: &str| made[key].as_u64().map(|count| format!("{count} {key}"));
    let seed = made["seed"].as_u64().map(|seed| format!("seed {seed}"));
    let parts = [word("estimator"), word("measure"), count("episodes"), seed, word("dtype")];
    let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let halves = &made["halves"];
    let overlap =
        halves["overlaps"].as_array().and_then(|all| all.iter().find(|entry| entry["density"] == 0.01));
    let stability = match overlap {
        Some(overlap) => format!(
            "halves of {} and {} episodes share {:.3} of their 1 % (Jaccard; by chance {:.3})",
            halves["episodes"][0],
            halves["episodes"][1],
            overlap["jaccard"].as_f64().unwrap_or_default(),
            overlap["chance"].as_f64().unwrap_or_default()
        ),
        None => "how stable they are is not known".to_owned(),
    };
    [parts, stability]
}

/// Number of rows, the last one, and the digest of their reproducible content.
fn summary(rows: &[Row]) -> Value {
    let mut last = rows.last().cloned();
    if let Some(row) = &mut last {
        row.remove(TRANSCRIPTS);
    }
    json!({"rows": rows.len(), "last": last, "reproducible_digest": reproducible_digest(rows)})
}

/// The same as lines of text.
fn render(shown: &Value) -> String {
    let mut lines = Vec::new();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut line = |name: &str, text: String| lines.push(format!("{name:<15} {text}").trim_end().to_owned());
    for key in ["id", "label"] {
        if let Some(value) = shown.get(key) {
            line(key, plain(value));
        }
    }
    for (key, value) in shown["axes"].as_object().into_iter().flatten() {
        line("axis", format!("{key} = {}", super::cell(value)));
    }
    let step = match (&shown["step"], &shown["steps"]) {
        (Value::Null, _) => String::new(),
        (step, Value::Null) => format!(" at step {step}"),
        (step, steps) => format!(" at step {step} of {steps}"),
    };
    line("state", format!("{}{step}", plain(&shown["state"])));
    if let Some(damage) = shown["damage"].as_str() {
        line("damage", damage.to_owned());
    }
    if let Some(failure) = shown.get("failure") {
        line("failure", format!("{}: {}", plain(&failure["class"]), plain(&failure["message"])));
    }
    if !shown["attempt"].is_null() {
        line("attempt", shown["attempt"].to_string());
    }
    if let Value::Object(holder) = &shown["holder"] {
        let said = if holder["held"] == true { "is at it" } else { "was at it and gives no sign of life" };
        line("holder", format!("{} {said} ({})", plain(&holder["who"]), plain(&holder["purpose"])));
    }
    for attempt in shown["attempts"].as_array().into_iter().flatten() {
        line("made", attempt_line(attempt));
    }
    for (stage, entry) in shown["stages"].as_object().into_iter().flatten() {
        line(
            stage,
            format!(
                "{} {}",
                plain(&entry["id"]).get(..12).unwrap_or_default(),
                entry["state"].as_str().unwrap_or_default()
            ),
        );
        if entry["made"].is_object() {
            for text in scores_lines(&entry["made"]) {
                line("", text);
            }
        }
    }
    for key in ["class", "weights_digest", "moments_digest", "invariant"] {
        if !shown[key].is_null() {
            line(key, plain(&shown[key]));
        }
    }
    for key in ["metrics", "evals"] {
        let rows = &shown[key];
        line(
            key,
            format!("{} rows, reproducible digest {}", rows["rows"], plain(&rows["reproducible_digest"])),
        );
        for (column, value) in rows["last"].as_object().into_iter().flatten() {
            line("", format!("{column} = {}", plain(value)));
        }
    }
    for (column, points) in shown["curves"].as_object().into_iter().flatten() {
        if let Some(points) = points.as_array().filter(|points| !points.is_empty()) {
            line("curve", format!("{column}  {}", curve_line(points)));
        }
    }
    for (key, value) in shown["settings"].as_object().into_iter().flatten() {
        line("setting", format!("{key} = {}", super::cell(value).replace('\n', "\\n")));
    }
    for entry in shown["log"].as_array().into_iter().flatten() {
        line("log", plain(entry));
    }
    lines.join("\n")
}
