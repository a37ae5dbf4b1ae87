//! `tickets status MANIFEST`: the state of every run of a grid, in one table.
//!
//! In: a manifest and a results folder. Out: label, id, state, steps, as text or JSON. Nothing is changed.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::args::ManifestArgs;
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, RunSpec};
use crate::store::{RunState, Store};

/// Arguments of `tickets status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Manifest, overrides, results
    #[command(flatten)]
    pub common: ManifestArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The command.
///
/// # Errors
/// When the manifest cannot be planned or the results cannot be read.
pub fn status(args: &StatusArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.common.manifest, &args.common.overrides())?)?;
    let store = Store::open_read_only(&args.common.results)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut runs = Vec::new();
    for run in &plan.runs {
        let (state, entry) = describe(&store, run)?;
        *counts.entry(state).or_default() += 1;
        runs.push(entry);
    }
    let text = if args.json {
        format!("{:#}", json!({"manifest": plan.manifest.name, "counts": counts, "runs": runs}))
    } else {
        let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        format!("{}\n{}: {}", table(&runs), plan.manifest.name, counts.join(", "))
    };
    let _ = writeln!(out, "{text}");
    Ok(Code::Ok)
}

/// One run's state. The step is that of the last row: rows after the last checkpoint are repeated on resume.
fn describe(store: &Store, run: &RunSpec) -> Result<(&'static str, Value), Failure> {
    let id = run.id.to_string();
    let state = store.run_state(&id)?;
    let rows = store.run_rows(&id)?;
    let written = rows.metrics.last().and_then(|row| row.get("step")).and_then(Value::as_u64);
    let (class, message) = match &state {
        RunState::Failed { class, message, .. } => (Some(class.clone()), Some(message.clone())),
        _ => (None, None),
    };
    let entry = json!({
        "id": id, "label": run.label, "state": state.name(), "step": written.unwrap_or(0), "steps": run.config.grpo.steps,
        "saved_step": state.step(), "class": class, "message": message,
    });
    Ok((state.name(), entry))
}

fn table(runs: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["run", "id", "state", "step", ""]);
    for run in runs {
        let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
        let why = match (&run["class"], &run["saved_step"]) {
            (Value::String(class), _) => format!("{class}: {}", text("message")),
            (_, Value::Number(step)) => format!("goes on from step {step}"),
            _ => String::new(),
        };
        let short = text("id").get(..12).unwrap_or_default().to_owned();
        table.add_row([
            text("label"),
            short,
            text("state"),
            format!("{}/{}", run["step"], run["steps"]),
            why,
        ]);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
