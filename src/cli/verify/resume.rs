//! `tickets verify resume MANIFEST --run RUN --at 3,7`: does an interrupted run equal an uninterrupted one, on this machine?
//!
//! In: a run and the steps after which it is interrupted. The run is executed once straight through; once killed (SIGKILL)
//! after each of the steps in turn; once paused, as by Ctrl-C, after each in turn; each time it goes on from what it had
//! saved. Out: for each way whether rows, final files and digests are equal, or the first difference.

use std::fmt::Write as _;
use std::io::Write;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{Program, details, say, told, word};
use crate::cli::args::ManifestArgs;
use crate::cli::short;
use crate::execute::{Again, Ended, ExecuteError, PlannedStop, Requests, StopHow, Verdict};
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, Plan};
use crate::store::{Scratch, Store};

/// Arguments of `tickets verify resume`.
#[derive(Args, Clone, Debug)]
pub struct ResumeArgs {
    /// Manifest, overrides, results
    #[command(flatten)]
    pub common: ManifestArgs,
    /// The run: its label, or the beginning of its id
    #[arg(long, value_name = "RUN")]
    pub run: String,
    /// The steps after which it is interrupted, as in 3,7
    #[arg(long, value_name = "STEPS", required = true, value_delimiter = ',')]
    pub at: Vec<u32>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Leave the scratch folder, and say where it is
    #[arg(long)]
    pub keep: bool,
}

/// A way in which the run was executed.
struct Way {
    how: StopHow,
    /// The step that it went on from, for each interruption.
    saved: Vec<Option<u32>>,
    verdict: Verdict,
}

/// The command.
///
/// # Errors
/// When the manifest, the run, a step or the results folder cannot be used, or the run fails without any interruption.
pub fn resume(args: &ResumeArgs, program: &Program, out: &mut dyn Write) -> Result<Code, Failure> {
    let common = &args.common;
    let plan = plan::expand(manifest::load(&common.manifest, &common.overrides())?)?;
    let wanted = plan.find(&args.run)?.id.clone();
    let run = plan.runs.iter().position(|run| run.id == wanted).unwrap_or(0);
    let at = steps(&args.at, plan.runs[run].config.grpo.steps, &plan.runs[run].label)?;
    let store = Store::open_read_only(&common.results)?;
    let requests = Requests::from_signals(false).map_err(ExecuteError::Signals)?;
    let options = program.options(&plan, (&common.set, common.no_env), &requests);
    let again = Again { plan: &plan, run, options: &options, say: &say };
    let mut scratch = store.scratch()?;
    if args.keep {
        scratch.keep();
    }
    let Some(ways) = ways(&again, &store, &scratch, &at)? else {
        return Ok(Code::Interrupted);
    };
    let equal = ways.iter().all(|way| way.verdict == Verdict::Equal);
    let kept = args.keep.then(|| scratch.folder().display().to_string());
    let text = if args.json {
        as_json(&plan, run, &at, &ways, kept.as_deref())
    } else {
        as_text(&plan, run, &at, &ways, kept.as_deref())
    };
    let _ = out.write_all(text.as_bytes());
    Ok(if equal { Code::Ok } else { Code::RunsFailed })
}

/// The steps in their order, each once.
fn steps(asked: &[u32], most: u32, label: &str) -> Result<Vec<u32>, Failure> {
    if let Some(step) = asked.iter().find(|step| !(1..=most).contains(*step)) {
        let error = format!("--at {step}: run {label} has {most} steps");
        return Err(Failure::new(Code::Usage, error, Some(format!("name steps from 1 to {most}"))));
    }
    let mut steps = asked.to_vec();
    steps.sort_unstable();
    steps.dedup();
    Ok(steps)
}

/// Executes the run in every way; `None` when the user does not want to wait for it.
fn ways(again: &Again, store: &Store, scratch: &Scratch, at: &[u32]) -> Result<Option<Vec<Way>>, Failure> {
    eprintln!("executing {} straight through", again.spec().label);
    let straight = scratch.store("straight")?;
    again.prepare(&straight, store)?;
    match again.execute(&straight, &[])? {
        Ended::Finished(_) => {}
        Ended::Interrupted => return Ok(None),
        Ended::Failed(failure) => {
            let hint = failure.hint.clone();
            let error = format!("run {} fails without any interruption: {failure}", again.spec().label);
            return Err(Failure::new(Code::RunsFailed, error, hint));
        }
    }
    let mut ways = Vec::new();
    for how in [StopHow::Killed, StopHow::Paused] {
        eprintln!("executing {}, {} after step {}", again.spec().label, how.name(), list(at));
        let bed = scratch.store(how.name())?;
        again.prepare(&bed, &straight)?;
        let stops = at.iter().map(|after| PlannedStop { how, after: *after }).collect::<Vec<_>>();
        let (saved, verdict) = match again.execute(&bed, &stops)? {
            Ended::Finished(saved) => (saved, again.compare(&straight, &bed)?.verdict),
            Ended::Failed(failure) => (Vec::new(), Verdict::Failed(failure)),
            Ended::Interrupted => return Ok(None),
        };
        ways.push(Way { how, saved, verdict });
    }
    Ok(Some(ways))
}

fn list(at: &[u32]) -> String {
    at.iter().map(u32::to_string).collect::<Vec<_>>().join(", then ")
}

fn as_text(plan: &Plan, run: usize, at: &[u32], ways: &[Way], kept: Option<&str>) -> String {
    let spec = &plan.runs[run];
    let (id, steps) = (short(spec.id.as_str()), spec.config.grpo.steps);
    let mut text = format!("run {id} ({} of {}), {steps} steps\n\n", spec.label, plan.manifest.name);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["execution", "went on from", "compared with straight through"]);
    for Way { how, saved, verdict } in ways {
        let from = |step: &Option<u32>| step.map_or_else(|| "the base".to_owned(), |step| step.to_string());
        let from = saved.iter().map(from).collect::<Vec<_>>().join(", ");
        table.add_row([format!("{} after {}", how.name(), list(at)), from, told(verdict)]);
    }
    let _ = writeln!(text, "{table}");
    let equal = ways.iter().filter(|way| way.verdict == Verdict::Equal).count();
    let _ = if equal == ways.len() {
        writeln!(
            text,
            "interrupted and resumed equals uninterrupted: rows, final files and digests, bit for bit"
        )
    } else {
        let (differ, all) = (ways.len() - equal, ways.len());
        writeln!(text, "{differ} of {all} interrupted executions do not equal the uninterrupted one")
    };
    if let Some(kept) = kept {
        let _ = writeln!(text, "kept: {kept}");
    }
    text
}

fn as_json(plan: &Plan, run: usize, at: &[u32], ways: &[Way], kept: Option<&str>) -> String {
    let spec = &plan.runs[run];
    let way = |way: &Way| {
        let (difference, failure) = details(&way.verdict);
        let stops = at.iter().zip(&way.saved).map(|(after, from)| json!({ "after": after, "from": from }));
        json!({ "how": way.how.name(), "stops": stops.collect::<Vec<_>>(), "result": word(&way.verdict),
                "difference": difference, "failure": failure })
    };
    let equal = ways.iter().all(|way| way.verdict == Verdict::Equal);
    let ways = ways.iter().map(way).collect::<Vec<Value>>();
    let object = json!({ "run": spec.id.as_str(), "label": spec.label, "manifest": plan.manifest.name,
                         "steps": spec.config.grpo.steps, "at": at, "equal": equal, "executions": ways,
                         "kept": kept });
    format!("{object:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lie_within_the_run() {
        assert_eq!(steps(&[7, 3, 7], 10, "x").unwrap(), [3, 7]);
        assert_eq!(steps(&[1, 10], 10, "x").unwrap(), [1, 10]);
        for outside in [0, 11] {
            let failure = steps(&[3, outside], 10, "x").unwrap_err();
            assert_eq!(failure.code, Code::Usage);
            assert_eq!(failure.hint.as_deref(), Some("name steps from 1 to 10"));
        }
    }
}
