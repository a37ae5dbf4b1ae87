//! `tickets sweep MANIFEST`: does what is missing of a grid, then writes the report.
//!
//! In: a manifest and a results folder, in which others may be at work. Out: finished runs, the report, closing lines on
//! stdout. Exit codes: 0 complete (also when nothing was left to do), 5 the folder cannot be used or its disk is too small, 6 some run failed, 7 the
//! device is not there, 99 stopped on request; the same command goes on in each case.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::ManifestArgs;
use super::inputs;
use super::space::preflight;
use crate::execute::{self, ExecuteError, FailedRun, Requests, SweepOptions, SweepSummary};
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, Plan};
use crate::store::{RunState, Store, StoreError};

/// Arguments of `tickets sweep`.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// Manifest, overrides, results
    #[command(flatten)]
    pub common: ManifestArgs,
    /// How the grid is worked through
    #[command(flatten)]
    pub grid: GridArgs,
}

/// How a grid is worked through.
#[derive(Args, Clone, Debug)]
pub struct GridArgs {
    /// Runs at the same time; 0 chooses: cores / threads on a CPU, one on each GPU
    #[arg(long, value_name = "N")]
    pub jobs: Option<u32>,
    /// Try runs again that failed with `nan` or `bad-config` (others are tried again anyway)
    #[arg(long)]
    pub retry: bool,
    /// Start although the disk seems too small: a sweep pauses when it is full, and nothing is lost
    #[arg(long)]
    pub no_preflight: bool,
}

/// What `sweep` needs from rooms that it does not know.
pub struct SweepHooks<'a> {
    /// Writes the report and says where it is.
    pub report: &'a dyn Fn(&Plan, &Store) -> Result<PathBuf, Failure>,
    /// The GPUs that the runs of a plan will use.
    pub gpus: Gpus<'a>,
}

/// Finds the GPUs that the runs of a plan will use.
pub type Gpus<'a> = &'a dyn Fn(&Plan) -> Result<Vec<String>, Failure>;

/// The command.
///
/// # Errors
/// When the manifest, the plan or the results folder cannot be used, or the report cannot be written.
pub fn sweep(args: &SweepArgs, hooks: &SweepHooks, out: &mut dyn Write) -> Result<Code, Failure> {
    let Worked { plan, store, requests, code, .. } =
        work_through(&args.common, &args.grid, hooks.gpus, true, out)?;
    if requests.level() < 2 {
        match (hooks.report)(&plan, &store) {
            Ok(path) => say(out, &format!("report: {}", path.display())),
            // What happened to the runs weighs more than what happened to the report.
            Err(failure) if code != Code::Ok => say(out, &failure.to_string()),
            Err(failure) => {
                if something_is_left(&plan, &store)? {
                    say(out, "a damaged result was moved aside: the same command makes it again");
                }
                return Err(failure);
            }
        }
    }
    Ok(code)
}

/// A grid that was worked through, as far as it went.
pub(super) struct Worked {
    pub plan: Plan,
    pub store: Store,
    pub requests: Requests,
    pub summary: SweepSummary,
    pub code: Code,
}

/// Works through a grid and says what came of it. With `wait` it stays until runs at which others are at work are complete.
///
/// # Errors
/// When the manifest, the plan, the results folder or the device cannot be used.
pub(super) fn work_through(
    common: &ManifestArgs,
    grid: &GridArgs,
    gpus: Gpus,
    wait: bool,
    out: &mut dyn Write,
) -> Result<Worked, Failure> {
    let plan = plan::expand(manifest::load(&common.manifest, &common.overrides())?)?;
    inputs::check(&plan)?;
    let store = Store::open(&common.results)?;
    let requests = Requests::from_signals(false).map_err(ExecuteError::Signals)?;
    inputs::fetch(&plan, &store, &requests, out)?;
    // A finished grid needs no device.
    let gpus = if something_is_left(&plan, &store)? { gpus(&plan)? } else { Vec::new() };
    if !grid.no_preflight {
        preflight(&plan, &store, grid.retry, execute::jobs(&plan, grid.jobs.unwrap_or(0), gpus.len()))?;
    }
    let options = SweepOptions {
        program: own_program(),
        arguments: vec!["stage".into()],
        manifest: plan.manifest.path.clone(),
        set: common.set.clone(),
        env: !common.no_env,
        jobs: grid.jobs.unwrap_or(0),
        gpus,
        retry: grid.retry,
        wait,
        requests: requests.clone(),
    };
    let mut ui = execute::for_terminal();
    let summary = execute::sweep(&plan, &store, &options, ui.as_mut())?;
    say(out, &closing(&plan.manifest.name, &summary));
    for name in store.quarantined()? {
        say(out, &format!("in quarantine: {}", store.layout().quarantine().join(name).display()));
    }
    let code = code(&summary);
    Ok(Worked { plan, store, requests, summary, code })
}

fn something_is_left(plan: &Plan, store: &Store) -> Result<bool, StoreError> {
    for run in &plan.runs {
        if store.run_state(run.id.as_str())? != RunState::Done {
            return Ok(true);
        }
    }
    Ok(false)
}

/// This very program, even when the file on the disk has been replaced by a newer build meanwhile.
pub(super) fn own_program() -> PathBuf {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { itself } else { std::env::current_exe().unwrap_or(itself) }
}

/// How the sweep ends.
pub(crate) fn code(summary: &SweepSummary) -> Code {
    if summary.interrupted || !summary.paused.is_empty() {
        Code::Interrupted
    } else if summary.is_complete() && summary.failed.is_empty() {
        Code::Ok
    } else if summary.disk_full {
        Code::Store
    } else {
        Code::RunsFailed
    }
}

/// What is said at the end.
pub(crate) fn closing(name: &str, summary: &SweepSummary) -> String {
    let SweepSummary {
        total,
        before,
        finished,
        elsewhere,
        held,
        failed,
        paused,
        left,
        interrupted,
        disk_full,
    } = summary;
    if before.len() == *total && failed.is_empty() {
        return format!("{name}: all {total} runs are done already; nothing was left to do");
    }
    let done = before.len() + finished.len() + elsewhere.len();
    let mut head = vec![format!("{done} of {total} runs done")];
    if !before.is_empty() {
        head.push(format!("{} of them before", before.len()));
    }
    if !elsewhere.is_empty() {
        head.push(format!("{} of them by other workers", elsewhere.len()));
    }
    let counts = [
        (failed.len(), "failed"),
        (paused.len(), "paused"),
        (held.len(), "under way elsewhere"),
        (left.len(), "not started"),
    ];
    for (count, what) in counts {
        if count > 0 {
            head.push(format!("{count} {what}"));
        }
    }
    let mut lines = vec![format!("{name}: {}", head.join(", "))];
    lines.extend(failures(failed));
    for (label, step) in paused {
        lines.push(match step {
            Some(step) => format!("  paused: {label}, {step} steps are saved"),
            None => format!("  stopped: {label}, before its first checkpoint"),
        });
    }
    lines.extend(held.iter().map(|(label, holder)| format!("  under way: {label}, {holder}")));
    if *disk_full {
        lines.push("the disk is full, so no more runs were started; nothing is damaged".to_owned());
    }
    let by_itself = failed.iter().filter(|run| run.failure.class.retried_by_itself()).count();
    if *interrupted || !paused.is_empty() || !left.is_empty() || by_itself > 0 {
        lines.push("the same command goes on from here".to_owned());
    }
    if failed.len() > by_itself {
        lines.push("runs that failed with nan or bad-config are tried again with --retry".to_owned());
    }
    lines.join("\n")
}

/// The failures; runs that share a cause share an entry.
fn failures(failed: &[FailedRun]) -> Vec<String> {
    let mut groups: Vec<(&FailedRun, Vec<&str>)> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for run in failed {
        match &run.because_of {
            Some(stage) => {
                let index = *known.entry(stage).or_insert(groups.len());
                if index == groups.len() {
                    groups.push((run, Vec::new()));
                }
                groups[index].1.push(&run.label);
            }
            None => groups.push((run, Vec::new())),
        }
    }
    let mut lines = Vec::new();
    for (run, dependents) in groups {
        let subject = run.because_of.as_ref().unwrap_or(&run.label);
        let earlier = if run.earlier { " (in an earlier sweep)" } else { "" };
        lines.push(format!("  failed{earlier}: {subject}: {}", run.failure));
        if !dependents.is_empty() {
            lines.push(format!("    needed by: {}", dependents.join(", ")));
        }
        if let Some(hint) = &run.failure.hint {
            lines.push(format!("    hint: {hint}"));
        }
        if let Some(log) = &run.log {
            lines.push(format!("    log: {}", Path::display(log)));
        }
    }
    lines
}

fn say(out: &mut dyn Write, text: &str) {
    // A reader that closed the pipe does not undo what was done.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::{FailureClass, StageFailure};

    fn failed(label: &str, class: FailureClass, because_of: Option<&str>) -> FailedRun {
        FailedRun {
            id: "0f".into(),
            label: label.into(),
            failure: StageFailure::new(class, "loss is NaN").at(3),
            because_of: because_of.map(str::to_owned),
            earlier: false,
            log: Some("log.txt".into()),
        }
    }

    #[test]
    fn a_complete_grid_says_so() {
        let summary =
            SweepSummary { total: 2, before: vec!["a".into(), "b".into()], ..SweepSummary::default() };
        assert_eq!(closing("x", &summary), "x: all 2 runs are done already; nothing was left to do");
        assert_eq!(code(&summary), Code::Ok);
    }

    #[test]
    fn failures_are_told_once_per_cause_with_what_to_do() {
        let summary = SweepSummary {
            total: 4,
            finished: vec!["a".into()],
            failed: vec![
                failed("b", FailureClass::Nan, None),
                failed("c", FailureClass::Oom, Some("scores 0f")),
                failed("d", FailureClass::Oom, Some("scores 0f")),
            ],
            ..SweepSummary::default()
        };
        assert_eq!(code(&summary), Code::RunsFailed);
        assert_eq!(
            closing("x", &summary),
            "x: 1 of 4 runs done, 3 failed\n  failed: b: nan at step 3: loss is NaN\n    log: log.txt\n  \
             failed: scores 0f: oom at step 3: loss is NaN\n    needed by: c, d\n    log: log.txt\n\
             the same command goes on from here\nruns that failed with nan or bad-config are tried again with --retry"
        );
    }

    #[test]
    fn an_interrupted_sweep_says_how_to_go_on() {
        let summary = SweepSummary {
            total: 3,
            before: vec!["a".into()],
            paused: vec![("b".into(), Some(4))],
            left: vec!["c".into()],
            interrupted: true,
            ..SweepSummary::default()
        };
        assert_eq!(code(&summary), Code::Interrupted);
        assert_eq!(
            closing("x", &summary),
            "x: 1 of 3 runs done, 1 of them before, 1 paused, 1 not started\n  paused: b, 4 steps are saved\nthe same command goes on from here"
        );
    }
}
