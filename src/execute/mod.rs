//! The executor: does what a plan needs, in worker processes, and knows no tensor.
//!
//! In: a plan, the store, how many workers. Out: finished runs in the store and a summary. Every stage runs in a process
//! of its own, so that one that crashes or is killed for memory takes nothing else with it. Any number of sweeps may work
//! in one store, on one machine or several: the worker of a stage holds its lease, the others do something else or wait.
//! Invariants: a shared stage is computed once; one failed run does not stop the others; what is complete is never
//! repeated; after a request to stop nothing new is started.
//!
//! Which failed runs a sweep tries again: when it begins, all but those of the classes `nan` and `bad-config`, which would
//! fail in the same way; these too when `retry` is set. While it works, as often as `exec.retries` says for the class,
//! counted over all workers. Every retry goes on from the newest checkpoint.

mod child;
mod difference;
mod ends;
mod error;
mod event;
mod graph;
mod keeper;
mod progress;
mod reuse;
mod schedule;
mod signals;
mod trainer;
mod verify;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

pub use child::End;
pub use error::ExecuteError;
pub use event::{Event, Message, Wire};
pub use graph::Task;
pub use progress::{Bars, Lines, Progress, Silent, for_terminal};
pub use reuse::{Reuse, Segment, segments_after, spared};
pub use signals::{PlannedStop, Requests, StopHow, end_with_parent};
pub use trainer::{Context, FailureClass, Outcome, StageFailure, Trainer};
pub use verify::{Again, Difference, Ended, Judged, Verdict, chosen};
pub use worker::{WorkStage, work};

use graph::Graph;
use schedule::Schedule;

use crate::plan::{Plan, RunSpec};
use crate::store::{RunState, Store};

/// How often a sweep looks at signals and children when nothing is said.
const TICK: Duration = Duration::from_millis(50);

/// How a sweep is to be done.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// The program that workers run: this one, or a script in tests.
    pub program: PathBuf,
    /// Its arguments before the worker's own.
    pub arguments: Vec<OsString>,
    /// The manifest that workers read, as an absolute path.
    pub manifest: PathBuf,
    /// The `--set` overrides that workers apply.
    pub set: Vec<String>,
    /// Whether workers apply overrides from the environment.
    pub env: bool,
    /// Workers at the same time; 0 chooses.
    pub jobs: u32,
    /// The GPUs that runs will use, as `CUDA_VISIBLE_DEVICES` names them; none on a CPU. Workers are spread over them, and
    /// `jobs = 0` means one on each.
    pub gpus: Vec<String>,
    /// Whether runs that failed with `nan` or `bad-config` are tried again.
    pub retry: bool,
    /// Whether to stay until runs at which others are at work are complete, and to take over those that are abandoned.
    pub wait: bool,
    /// Requests to stop.
    pub requests: Requests,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// Its id.
    pub id: String,
    /// Its label.
    pub label: String,
    /// Why it failed.
    pub failure: StageFailure,
    /// The shared stage whose failure it is, as in "base 0f3c...".
    pub because_of: Option<String>,
    /// It failed in an earlier sweep and was not tried again.
    pub earlier: bool,
    /// Where its process's other output is.
    pub log: Option<PathBuf>,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Runs of the plan.
    pub total: usize,
    /// Labels of runs that were complete before.
    pub before: Vec<String>,
    /// Labels of runs that were completed now, in the order of their ends.
    pub finished: Vec<String>,
    /// Labels of runs that others completed meanwhile.
    pub elsewhere: Vec<String>,
    /// Labels of runs at which others are at work, and who.
    pub held: Vec<(String, String)>,
    /// Runs that failed.
    pub failed: Vec<FailedRun>,
    /// Labels of runs that stopped when asked to, with the steps that are saved.
    pub paused: Vec<(String, Option<u32>)>,
    /// Labels of runs that were not started.
    pub left: Vec<String>,
    /// Whether the sweep, or one of its workers, was asked to stop.
    pub interrupted: bool,
    /// Whether it stopped starting runs because the disk is full.
    pub disk_full: bool,
}

impl SweepSummary {
    /// Whether every run of the plan is complete.
    pub fn is_complete(&self) -> bool {
        self.before.len() + self.finished.len() + self.elsewhere.len() == self.total
    }
}

/// What a sweep finds when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Runs of the plan.
    pub total: usize,
    /// Runs that are complete.
    pub done: usize,
    /// Runs that will be tried.
    pub todo: usize,
    /// Runs of these that go on from a checkpoint.
    pub resumable: usize,
    /// Runs that failed before and are not tried again.
    pub failed: usize,
    /// Shared stages to compute: bases and scores.
    pub shared: usize,
    /// Runs of these at which other workers are.
    pub elsewhere: usize,
    /// Workers at the same time.
    pub jobs: usize,
}

/// Does everything that a plan still needs. The caller calls this from a thread that lives as long as the sweep (see
/// [`end_with_parent`]).
///
/// # Errors
/// When the store cannot be read or no worker can be started. What goes wrong with single runs is in the summary.
pub fn sweep(
    plan: &Plan,
    store: &Store,
    options: &SweepOptions,
    ui: &mut dyn Progress,
) -> Result<SweepSummary, ExecuteError> {
    // What the store has to say goes through the display, which may be drawing bars.
    let (notice, notices) = mpsc::channel();
    let store = &store.clone().with_notices(move |line| drop(notice.send(line.to_owned())));
    store.remove_leftovers();
    let states = graph::states(plan, store)?;
    let wanted: Vec<bool> = states.iter().map(|state| is_wanted(state, options.retry)).collect();
    let done: Vec<bool> = states.iter().map(|state| *state == RunState::Done).collect();
    let graph = Graph::build(plan, &wanted, &done, store)?;
    let jobs = jobs(plan, options.jobs, options.gpus.len());
    let mut summary = SweepSummary { total: plan.runs.len(), ..SweepSummary::default() };
    for ((run, state), wanted) in plan.runs.iter().zip(&states).zip(&wanted) {
        match state {
            RunState::Done => summary.before.push(run.label.clone()),
            RunState::Failed { .. } if !wanted => summary.failed.push(earlier_failure(run, store)?),
            _ => {}
        }
    }
    let todo = wanted.iter().filter(|wanted| **wanted).count();
    let mut schedule = Schedule::new(plan, store, options, graph, summary, notices)?;
    let elsewhere = schedule.look_elsewhere()?;
    ui.opening(&Opening {
        total: plan.runs.len(),
        done: schedule.summary.before.len(),
        todo,
        resumable: schedule.graph.nodes.iter().filter(|node| node.task.from_step.is_some()).count(),
        failed: schedule.summary.failed.len(),
        shared: schedule.graph.nodes.len() - todo,
        elsewhere,
        jobs,
    });
    let result = schedule.execute(jobs, ui);
    ui.closing();
    result?;
    Ok(schedule.summary)
}

/// Whether a sweep tries a run in this state; with `retry` also one whose failure is not tried again by itself.
pub fn is_wanted(state: &RunState, retry: bool) -> bool {
    match state {
        RunState::Done => false,
        RunState::Pending | RunState::Resumable { .. } => true,
        RunState::Failed { class, .. } => {
            retry || FailureClass::from_name(class).is_none_or(FailureClass::retried_by_itself)
        }
    }
}

fn earlier_failure(run: &RunSpec, store: &Store) -> Result<FailedRun, ExecuteError> {
    let id = run.id.to_string();
    let record = store.failure(&id)?.unwrap_or_default();
    let text = |key: &str| record[key].as_str().map(str::to_owned);
    let failure = StageFailure {
        class: text("class").and_then(|class| FailureClass::from_name(&class)).unwrap_or(FailureClass::Infra),
        step: record["step"].as_u64().map(|step| step as u32),
        message: text("message").unwrap_or_default(),
        hint: text("hint"),
    };
    Ok(FailedRun { id, label: run.label.clone(), failure, because_of: None, earlier: true, log: None })
}

/// How many workers run at the same time: as many as `asked`, else as `exec.jobs` says; where neither does, one on each of
/// the `gpus`, and cores divided by threads on a CPU.
pub fn jobs(plan: &Plan, asked: u32, gpus: usize) -> usize {
    let exec = plan.runs.first().map(|run| &run.config.exec);
    let asked = if asked > 0 { asked } else { exec.map_or(0, |exec| exec.jobs) };
    if asked > 0 {
        return asked as usize;
    }
    if gpus > 0 {
        return gpus;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / exec.map_or(1, |exec| exec.threads.max(1) as usize)).max(1)
}
