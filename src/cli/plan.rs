//! `tickets plan`: the runs of a manifest before anything is run. It writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use super::args::ManifestArgs;
use crate::exit::{Code, Failure};
use crate::plan::{Plan, RunSpec};
use crate::store::{RunState, Store, StoreError};

/// Arguments of `plan`.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// Which manifest
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The state of a run, as the store derives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateView {
    /// `pending`, `resumable`, `failed` or `done`.
    pub state: String,
    /// The step that a resumable or failed run got to.
    pub step: Option<u32>,
    /// Why it is in that state, or what `sweep` would do; may be empty.
    pub reason: String,
}

impl StateView {
    /// Of a run, as its files say.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn of(store: &Store, run: &RunSpec) -> Result<Self, StoreError> {
        let state = store.run_state(run.id.as_str())?;
        let (step, reason) = match &state {
            RunState::Pending => (None, "not started".to_owned()),
            RunState::Resumable { step } => (Some(*step), format!("goes on from step {step}")),
            RunState::Failed { class, step, message } => (*step, format!("{class}: {message}")),
            RunState::Done => (Some(run.config.grpo.steps), "finished".to_owned()),
        };
        Ok(Self { state: state.name().to_owned(), step, reason })
    }

    /// Of a run that the store knows nothing about.
    pub fn pending() -> Self {
        Self { state: "pending".into(), step: None, reason: String::new() }
    }
}

/// The whole output of the command; `states` are those of `plan.runs`, in order.
pub fn print(plan: &Plan, states: &[StateView], json: bool) -> String {
    if json { print_json(plan, states) } else { print_table(plan, states) }
}

fn pairs<'p>(plan: &'p Plan, states: &'p [StateView]) -> impl Iterator<Item = (&'p RunSpec, StateView)> {
    let states = states.iter().cloned().chain(std::iter::repeat_with(StateView::pending));
    plan.runs.iter().zip(states)
}

fn print_json(plan: &Plan, states: &[StateView]) -> String {
    let runs = pairs(plan, states).map(|(run, state)| {
        let axes = run.axes.iter().cloned().collect::<Map<_, _>>();
        json!({
            "id": run.id.as_str(),
            "label": run.label,
            "axes": axes,
            "state": state.state,
            "step": state.step,
            "reason": state.reason,
            "stages": {
                "base": run.stages.base,
                "scores": run.stages.scores,
                "mask": run.stages.mask,
                "train": run.stages.train,
            },
        })
    });
    let overrides = plan
        .manifest
        .overridden()
        .into_iter()
        .map(|found| json!({ "key": found.key, "value": found.value, "origin": found.origin }));
    let object = json!({
        "title": plan.manifest.title,
        "question": plan.manifest.question,
        "manifest": plan.manifest.name,
        "path": plan.manifest.path.display().to_string(),
        "axes": plan.axes,
        "merged": plan.merged,
        "overrides": overrides.collect::<Vec<_>>(),
        "runs": runs.collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn print_table(plan: &Plan, states: &[StateView]) -> String {
    let mut out = String::new();
    let manifest = &plan.manifest;
    put(&mut out, format_args!("{}", manifest.title));
    if !manifest.question.is_empty() {
        put(&mut out, format_args!("{}", manifest.question));
    }
    put(&mut out, format_args!("{}\n", manifest.path.display()));

    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec!["run".to_owned()];
    header.extend(plan.axes.iter().cloned());
    header.extend(["id", "state", "step", "reason"].map(str::to_owned));
    table.set_header(header);
    let mut counts = BTreeMap::<String, usize>::new();
    for (run, state) in pairs(plan, states) {
        let mut row = vec![run.label.clone()];
        row.extend(plan.axes.iter().map(|key| {
            let value = run.axes.iter().find(|(axis, _)| axis == key);
            value.map_or_else(|| "·".to_owned(), |(_, value)| cell(value))
        }));
        row.extend([run.id.short().to_owned(), state.state.clone()]);
        row.extend([state.step.map_or_else(String::new, |step| step.to_string()), state.reason]);
        table.add_row(row);
        *counts.entry(state.state).or_default() += 1;
    }
    put(&mut out, format_args!("{table}\n"));

    let states =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
    let merged = match plan.merged {
        0 => String::new(),
        1 => "; 1 point of the grid equals another and was merged".to_owned(),
        n => format!("; {n} points of the grid equal others and were merged"),
    };
    let runs = if plan.runs.len() == 1 { "run" } else { "runs" };
    put(&mut out, format_args!("{} {runs}: {states}{merged}", plan.runs.len()));
    for found in manifest.overridden() {
        put(&mut out, format_args!("override: {} = {} ({})", found.key, found.value, found.origin));
    }
    out
}

/// A value of an axis in a table.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), crate::manifest::short_number)
        }
        other => other.to_string(),
    }
}

/// Appends a line. Writing to a String cannot fail.
fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a String takes everything");
}

/// The command: derives the states and prints.
///
/// # Errors
/// When the manifest, the plan or the results folder cannot be used.
pub fn plan(args: &PlanArgs, out: &mut dyn std::io::Write) -> Result<Code, Failure> {
    let common = &args.manifest;
    let plan = crate::plan::expand(crate::manifest::load(&common.manifest, &common.overrides())?)?;
    let store = Store::open_read_only(&common.results)?;
    let states = plan.runs.iter().map(|run| StateView::of(&store, run)).collect::<Result<Vec<_>, _>>()?;
    let _ = out.write_all(print(&plan, &states, args.json).as_bytes());
    Ok(Code::Ok)
}
