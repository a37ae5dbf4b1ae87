//! `tickets status MANIFEST`: the state of every run of a grid, in one table, once or again and again.
//!
//! In: a manifest and a results folder. Out: label, id, state, steps, who is at it, the time left, as text or JSON. Nothing
//! is changed. Every state is derived from files: results, leases, failures, checkpoints.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::args::ManifestArgs;
use super::plan::duration;
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, Plan, RunSpec};
use crate::store::{Claim, Row, RunState, Stage, Standing, Store, StoreError, run_task, stage_task};

/// Newest steps whose time the rate is taken from.
const RATE_STEPS: usize = 20;

/// Arguments of `tickets status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Manifest, overrides, results
    #[command(flatten)]
    pub common: ManifestArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Go on showing it until every run is done or failed
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks of --watch
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds, requires = "watch")]
    pub every: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 86400".to_owned()),
    }
}

/// The command.
///
/// # Errors
/// When the manifest cannot be planned or the results cannot be read.
pub fn status(args: &StatusArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.common.manifest, &args.common.overrides())?)?;
    let clears = args.watch && std::io::stdout().is_terminal();
    loop {
        let store = Store::open_read_only(&args.common.results)?;
        let shown = survey(&plan, &store)?;
        let text = match (args.json, args.watch) {
            // One object per line, for whoever reads along.
            (true, true) => shown.to_string(),
            (true, false) => format!("{shown:#}"),
            (false, _) => render(&shown),
        };
        let clear = if clears { "\x1b[2J\x1b[H" } else { "" };
        let written = writeln!(out, "{clear}{text}").and_then(|()| out.flush());
        let over = shown["unfinished"].as_u64() == Some(0);
        // Nobody reads any more, or nothing will change.
        if !args.watch || over || written.is_err() {
            return Ok(Code::Ok);
        }
        std::thread::sleep(Duration::from_secs_f64(args.every));
    }
}

/// What is known about the grid and each of its runs.
fn survey(plan: &Plan, store: &Store) -> Result<Value, Failure> {
    let claims = store.claims()?;
    let now = SystemTime::now();
    let mut runs = Vec::new();
    for run in &plan.runs {
        runs.push(Look::at(store, run, &claims, now)?);
    }
    // A run that has no steps of its own yet is expected to be as fast as the others.
    let known: Vec<f64> = runs.iter().filter_map(|run| run.rate).collect();
    let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut left, mut running) = (Some(0.0), 0);
    for run in &mut runs {
        *counts.entry(run.state).or_default() += 1;
        if matches!(run.state, "done" | "failed" | "damaged") {
            continue;
        }
        running += usize::from(run.state == "running");
        let seconds = run.rate.or(mean).map(|rate| rate * (run.steps - run.written.min(run.steps)) as f64);
        run.left = seconds.filter(|_| run.state == "running");
        left = left.zip(seconds).map(|(sum, seconds)| sum + seconds);
    }
    let finished =
        ["done", "failed", "damaged"].iter().map(|state| counts.get(state).unwrap_or(&0)).sum::<usize>();
    let stages = stages(plan, &claims, now);
    let done = runs.iter().filter(|run| run.state == "done").map(|run| run.id.as_str());
    let classes = store.run_classes(done)?;
    for (id, class) in classes.finished {
        if let Some(run) = runs.iter_mut().find(|run| run.id == id) {
            run.made_by = class;
        }
    }
    Ok(json!({
        "manifest": plan.manifest.name,
        "counts": counts,
        "unfinished": runs.len() - finished,
        "eta_seconds": left.map(|left| left / running.max(1) as f64),
        "stages": stages,
        "made_by": classes.majority,
        "runs": runs.iter().map(Look::to_json).collect::<Vec<_>>(),
    }))
}

/// The shared stages that are being made: what, by whom.
fn stages(plan: &Plan, claims: &BTreeMap<String, Claim>, now: SystemTime) -> Vec<Value> {
    let mut tasks: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for run in &plan.runs {
        tasks.insert(stage_task(Stage::Base, &run.stages.base), ("base", &run.stages.base));
        if let Some(id) = &run.stages.scores {
            tasks.insert(stage_task(Stage::Scores, id), ("scores", id));
        }
    }
    let held = tasks.into_iter().filter_map(|(task, what)| Some((what, claims.get(&task)?)));
    held.map(|((stage, id), claim)| json!({ "stage": stage, "id": id, "holder": holder(claim, now) }))
        .collect()
}

fn holder(claim: &Claim, now: SystemTime) -> Value {
    json!({
        "pid": claim.holder.as_ref().map(|holder| holder.pid),
        "host": claim.holder.as_ref().map(|holder| holder.host.as_str()),
        "seconds_since_renewal": claim.age(now).as_secs(),
        "standing": match claim.glance(now) {
            Standing::Held => "held",
            Standing::Dead => "dead",
            Standing::Expired => "expired",
        },
    })
}

/// One run as it is now.
struct Look {
    id: String,
    label: String,
    state: &'static str,
    written: u64,
    steps: u64,
    saved: Option<u32>,
    class: Option<String>,
    message: Option<String>,
    holder: Option<Value>,
    /// Failed attempts so far.
    failures: usize,
    /// The class of build and device that finished it.
    made_by: Option<String>,
    /// Seconds per step.
    rate: Option<f64>,
    /// Seconds until it is done.
    left: Option<f64>,
}

impl Look {
    /// The step is that of the last row: rows after the last checkpoint are repeated on resume.
    fn at(
        store: &Store,
        run: &RunSpec,
        claims: &BTreeMap<String, Claim>,
        now: SystemTime,
    ) -> Result<Self, Failure> {
        let id = run.id.to_string();
        let mut look = Self {
            label: run.label.clone(),
            state: "pending",
            written: 0,
            steps: u64::from(run.config.grpo.steps),
            saved: None,
            class: None,
            message: None,
            holder: None,
            failures: 0,
            made_by: None,
            rate: None,
            left: None,
            id,
        };
        let state = match store.run_state(&look.id) {
            Err(error @ StoreError::Damaged { .. }) => {
                (look.state, look.message) = ("damaged", Some(error.to_string()));
                return Ok(look);
            }
            other => other?,
        };
        look.state = state.name();
        look.saved = state.step();
        look.failures = store.failures(&look.id)?.len();
        if state == RunState::Done {
            look.written = look.steps;
            return Ok(look);
        }
        if let RunState::Failed { class, message, .. } = state {
            (look.class, look.message) = (Some(class), Some(message));
        }
        match store.run_rows(&look.id) {
            Ok(rows) => {
                let last = rows.metrics.last().and_then(|row| row.get("step")?.as_u64());
                look.written = last.unwrap_or(0);
                look.rate = rate(&rows.metrics);
            }
            // Rows of an attempt that is not finished are repeated from its checkpoint.
            Err(error @ StoreError::Damaged { .. }) => look.message = Some(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        if let Some(claim) = claims.get(&run_task(&look.id)) {
            look.holder = Some(holder(claim, now));
            look.state = if claim.glance(now) == Standing::Held { "running" } else { "stale" };
        } else if look.state != "failed"
            && let Some(stage) = awaited(run, claims, now)
        {
            look.state = "blocked";
            look.message = Some(format!("waits for its {stage}"));
        }
        Ok(look)
    }

    fn to_json(&self) -> Value {
        let Self {
            id,
            label,
            state,
            written,
            steps,
            saved,
            class,
            message,
            holder,
            failures,
            made_by,
            rate,
            left,
        } = self;
        json!({
            "id": id, "label": label, "state": state, "step": written, "steps": steps, "saved_step": saved,
            "class": class, "message": message, "failed_attempts": failures, "holder": holder,
            "made_by": made_by, "seconds_per_step": rate, "eta_seconds": left,
        })
    }
}

/// The shared stage that a run waits for, when someone is at it.
fn awaited(run: &RunSpec, claims: &BTreeMap<String, Claim>, now: SystemTime) -> Option<&'static str> {
    let held = |task: String| claims.get(&task).is_some_and(|claim| claim.glance(now) == Standing::Held);
    if held(stage_task(Stage::Base, &run.stages.base)) {
        return Some("base");
    }
    run.stages.scores.as_ref().filter(|id| held(stage_task(Stage::Scores, id))).map(|_| "scores")
}

/// Mean seconds of the newest steps: rollouts and training, evaluations not counted.
fn rate(rows: &[Row]) -> Option<f64> {
    let seconds =
        |row: &Row| Some(row.get("rollout_seconds")?.as_f64()? + row.get("train_seconds")?.as_f64()?);
    let newest: Vec<f64> = rows.iter().rev().take(RATE_STEPS).filter_map(seconds).collect();
    (!newest.is_empty()).then(|| newest.iter().sum::<f64>() / newest.len() as f64)
}

fn render(shown: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["run", "id", "state", "step", "left", ""]);
    for run in shown["runs"].as_array().into_iter().flatten() {
        let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
        let mut why = match (&run["class"], &run["saved_step"]) {
            (Value::String(class), _) => format!("{class}: {}", text("message")),
            (_, Value::Number(step)) if run["state"] != "running" => format!("goes on from step {step}"),
            _ => text("message"),
        };
        if let Value::Object(holder) = &run["holder"] {
            let who = format!("process {} on {}", holder["pid"], super::cell(&holder["host"]));
            let said = match holder["standing"].as_str() {
                Some("dead") => format!("{who} has ended"),
                Some("expired") => format!("{who} gives no sign of life"),
                _ => who,
            };
            why = if why.is_empty() { said } else { format!("{said}; {why}") };
        }
        // A run of another build or kind of machine than most: reports keep it apart.
        if run["state"] == "done" && run["made_by"] != shown["made_by"] {
            why = format!(
                "made by another class (build, device or threads): {}",
                run["made_by"].as_str().unwrap_or("unknown")
            );
        }
        if run["state"] != "failed" && run["failed_attempts"].as_u64() > Some(0) {
            let count = &run["failed_attempts"];
            let s = if *count == 1 { "" } else { "s" };
            let before = format!("{count} failed attempt{s} before");
            why = if why.is_empty() { before } else { format!("{why}; {before}") };
        }
        table.add_row([
            text("label"),
            super::short(&text("id")).to_owned(),
            text("state"),
            format!("{}/{}", run["step"], run["steps"]),
            run["eta_seconds"].as_f64().map_or_else(String::new, duration),
            why,
        ]);
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    for stage in shown["stages"].as_array().into_iter().flatten() {
        let (id, holder) = (super::cell(&stage["id"]), &stage["holder"]);
        let (pid, host) = (&holder["pid"], super::cell(&holder["host"]));
        let what = if holder["standing"] == "held" { "is being made by" } else { "was left by" };
        lines.push(format!(
            "{} {} {what} process {pid} on {host}",
            super::cell(&stage["stage"]),
            super::short(&id)
        ));
    }
    let counts = shown["counts"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(state, count)| format!("{count} {state}")).collect();
    let left = shown["eta_seconds"].as_f64().filter(|seconds| *seconds > 0.0);
    let left = left.map_or_else(String::new, |seconds| format!("; about {} left", duration(seconds)));
    lines.push(format!("{}: {}{left}", super::cell(&shown["manifest"]), counts.join(", ")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_newest_steps() {
        let row = |seconds: f64| -> Row {
            let value = json!({ "step": 1, "rollout_seconds": seconds, "train_seconds": 1.0 });
            serde_json::from_value(value).unwrap()
        };
        let mut rows = vec![row(100.0); 5];
        rows.extend(vec![row(2.0); 20]);
        assert_eq!(rate(&rows), Some(3.0));
        assert_eq!(rate(&[]), None);
    }
}
