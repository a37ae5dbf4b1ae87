//! `tickets retry MANIFEST --class nan,oom`: has runs that failed tried again.
//!
//! In: a manifest, classes of failures. Out: those runs count as unfinished, and the next sweep goes on with them from their
//! newest checkpoints. The records of their failures stay with their attempts. Runs at which a worker is are left alone.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::args::ManifestArgs;
use crate::execute::FailureClass;
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan;
use crate::store::{RunState, Standing, Store, run_task};

/// Arguments of `tickets retry`.
#[derive(Args, Clone, Debug)]
pub struct RetryArgs {
    /// Manifest, overrides, results
    #[command(flatten)]
    pub common: ManifestArgs,
    /// Classes of failures, with commas: nan, oom, killed, infra, store, disk-full, bad-config, bad-input; or all
    #[arg(long, value_name = "CLASS", value_delimiter = ',', required_unless_present = "run", value_parser = class)]
    pub class: Vec<Option<FailureClass>>,
    /// Only this run: the beginning of its id, or its label
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Say what would be tried again, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A class by name; `None` for all of them.
fn class(text: &str) -> Result<Option<FailureClass>, String> {
    let names = || FailureClass::ALL.map(FailureClass::name)[..8].join(", ");
    match (text, FailureClass::from_name(text)) {
        ("all", _) => Ok(None),
        // Being asked to stop is no failure.
        (_, Some(class)) if class != FailureClass::Interrupted => Ok(Some(class)),
        _ => Err(format!("one of {}, all", names())),
    }
}

/// The command.
///
/// # Errors
/// When the manifest, the plan or the results cannot be used, or the run is not in the plan.
pub fn retry(args: &RetryArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.common.manifest, &args.common.overrides())?)?;
    let chosen = args.run.as_ref().map(|wanted| plan.find(wanted).map(|run| run.id.clone())).transpose()?;
    let results = &args.common.results;
    let store = if args.dry_run { Store::open_read_only(results)? } else { Store::open(results)? };
    let claims = store.claims()?;
    let now = std::time::SystemTime::now();
    let (mut again, mut kept) = (Vec::new(), Vec::new());
    for run in plan.runs.iter().filter(|run| chosen.as_ref().is_none_or(|id| run.id == *id)) {
        let RunState::Failed { class, step, .. } = store.run_state(run.id.as_str())? else { continue };
        let wanted = args.class.is_empty() || args.class.iter().any(|c| c.is_none_or(|c| c.name() == class));
        let held =
            claims.get(&run_task(run.id.as_str())).is_some_and(|claim| claim.glance(now) == Standing::Held);
        let saved = store.saved_step(run.id.as_str())?;
        let entry = json!({ "id": run.id.as_str(), "label": run.label, "class": class, "step": step, "saved_step": saved });
        if wanted && !held && (args.dry_run || store.forgive(run.id.as_str())?) {
            again.push(entry);
        } else {
            kept.push(entry);
        }
    }
    let text = if args.json {
        format!("{:#}", json!({ "manifest": plan.manifest.name, "retried": again, "left": kept }))
    } else {
        let line = |entry: &serde_json::Value| {
            let from =
                entry["saved_step"].as_u64().map_or("the base".to_owned(), |step| format!("step {step}"));
            format!("  {} ({}), from {from}", super::cell(&entry["label"]), super::cell(&entry["class"]))
        };
        let what = if args.dry_run { "would be tried" } else { "will be tried" };
        let mut lines = vec![format!(
            "{}: {} failed runs {what} again by the next sweep",
            plan.manifest.name,
            again.len()
        )];
        lines.extend(again.iter().map(line));
        if !kept.is_empty() {
            lines.push(format!("{} other failed runs stay as they are", kept.len()));
        }
        lines.join("\n")
    };
    let _ = writeln!(out, "{text}");
    Ok(Code::Ok)
}
