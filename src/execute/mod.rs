//! The executor: does what a plan needs, in worker processes, and knows no tensor.
//!
//! In: a plan, the store, how many workers. Out: finished runs in the store and a summary. Every stage runs in a process
//! of its own, so that one that crashes or is killed for memory takes nothing else with it. Invariants: a shared stage
//! is computed once; one failed run does not stop the others; what is complete is never repeated; after a request to
//! stop nothing new is started.
//!
//! Which failed runs a sweep tries again: all but those of the classes `nan` and `bad-config`, which would fail in the
//! same way; these too when `retry` is set. Every retry goes on from the newest checkpoint.

mod child;
mod error;
mod event;
mod graph;
mod progress;
mod reuse;
mod signals;
mod trainer;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

pub use child::End;
pub use error::ExecuteError;
pub use event::{Event, Message, Wire};
pub use graph::Task;
pub use progress::{Bars, Lines, Progress, Silent, for_terminal};
pub use reuse::{Reuse, Segment, segments_after, spared};
pub use signals::{Requests, end_with_parent};
pub use trainer::{Context, FailureClass, Outcome, StageFailure, Trainer};
pub use worker::{WorkStage, work};

use child::{Heard, Worker};
use graph::{Graph, Status};

use crate::plan::{Plan, RunSpec};
use crate::store::{RunState, Store};

/// How often the scheduler looks at signals and children when nothing is said.
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
    /// Whether runs will use a GPU: then `jobs = 0` means one at a time.
    pub cuda: bool,
    /// Whether runs that failed with `nan` or `bad-config` are tried again.
    pub retry: bool,
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
        self.before.len() + self.finished.len() == self.total
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
    /// Workers at the same time.
    pub jobs: usize,
}

/// Does everything that a plan still needs. The caller holds the store's lock, and calls this from a thread that lives
/// as long as the sweep (see [`end_with_parent`]).
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
    let states = graph::states(plan, store)?;
    let wanted: Vec<bool> = states.iter().map(|state| is_wanted(state, options.retry)).collect();
    let graph = Graph::build(plan, &wanted, store)?;
    let jobs = jobs(plan, options.jobs, options.cuda);
    let mut summary = SweepSummary { total: plan.runs.len(), ..SweepSummary::default() };
    for ((run, state), wanted) in plan.runs.iter().zip(&states).zip(&wanted) {
        match state {
            RunState::Done => summary.before.push(run.label.clone()),
            RunState::Failed { .. } if !wanted => summary.failed.push(earlier_failure(run, store)?),
            _ => {}
        }
    }
    let todo = wanted.iter().filter(|wanted| **wanted).count();
    ui.opening(&Opening {
        total: plan.runs.len(),
        done: summary.before.len(),
        todo,
        resumable: graph.nodes.iter().filter(|node| node.task.from_step.is_some()).count(),
        failed: summary.failed.len(),
        shared: graph.nodes.len() - todo,
        jobs,
    });
    let mut sweep = Sweep { plan, store, options, ui, graph, workers: Vec::new(), summary, notices };
    let result = sweep.execute(jobs);
    if result.is_err() {
        sweep.abandon();
    }
    sweep.pass_notices_on();
    sweep.ui.closing();
    result?;
    Ok(sweep.summary)
}

/// Whether a sweep tries a run in this state; the rule is in the module's documentation.
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

/// How many workers run at the same time: as many as `asked`, else as `exec.jobs` says; where neither does, one on a GPU
/// and cores divided by threads on a CPU.
pub fn jobs(plan: &Plan, asked: u32, cuda: bool) -> usize {
    let exec = plan.runs.first().map(|run| &run.config.exec);
    let asked = if asked > 0 { asked } else { exec.map_or(0, |exec| exec.jobs) };
    if asked > 0 {
        return asked as usize;
    }
    if cuda {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / exec.map_or(1, |exec| exec.threads.max(1) as usize)).max(1)
}

struct Sweep<'a> {
    plan: &'a Plan,
    store: &'a Store,
    options: &'a SweepOptions,
    ui: &'a mut dyn Progress,
    graph: Graph,
    workers: Vec<Worker>,
    summary: SweepSummary,
    notices: Receiver<String>,
}

impl Sweep<'_> {
    fn execute(&mut self, jobs: usize) -> Result<(), ExecuteError> {
        let (sender, receiver) = mpsc::channel();
        let memory_kills = child::memory_kills();
        let mut told = 0;
        loop {
            let level = self.options.requests.level();
            if level > told {
                self.pass_on(level);
                told = level;
            }
            while level == 0 && !self.summary.disk_full && self.workers.len() < jobs {
                let Some(index) = self.graph.next_ready() else { break };
                let task = &self.graph.nodes[index].task;
                let worker = child::start(index, task, self.plan, self.store, self.options, &sender)?;
                self.ui.started(task);
                self.graph.nodes[index].status = Status::Running;
                self.workers.push(worker);
            }
            if self.workers.is_empty() {
                break;
            }
            self.listen(&receiver);
            self.reap(told > 0, memory_kills)?;
        }
        self.summary.interrupted =
            told > 0 || self.graph.nodes.iter().any(|node| node.status == Status::Paused);
        for node in &self.graph.nodes {
            if node.task.stage == WorkStage::Run && node.status == Status::Waiting {
                self.summary.left.push(node.task.label.clone());
            }
        }
        Ok(())
    }

    /// Passes a request to stop on to the workers.
    fn pass_on(&mut self, level: u8) {
        for worker in &self.workers {
            match level {
                1 => signals::ask_to_stop(worker.child.id()),
                _ => signals::kill(worker.child.id()),
            }
        }
        if level == 1 && !self.workers.is_empty() {
            self.ui.note("stopping: each run finishes its step and saves it (once more to stop at once)");
        }
    }

    /// Waits for something to happen, but not for long.
    fn listen(&mut self, receiver: &Receiver<Heard>) {
        let mut next = receiver.recv_timeout(TICK);
        loop {
            match next {
                Ok(Heard::Message(node, Message::Event(event))) => {
                    self.ui.event(&self.graph.nodes[node].task, &event);
                }
                Ok(Heard::Message(node, last)) => {
                    if let Some(worker) = self.workers.iter_mut().find(|worker| worker.node == node) {
                        worker.last = Some(last);
                    }
                }
                Ok(Heard::Closed(node)) => {
                    if let Some(worker) = self.workers.iter_mut().find(|worker| worker.node == node) {
                        worker.closed = true;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            next = receiver.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        self.pass_notices_on();
        self.ui.tick();
    }

    fn pass_notices_on(&mut self) {
        for line in self.notices.try_iter() {
            self.ui.note(&line);
        }
    }

    /// Looks which workers have ended and decides what became of them.
    fn reap(&mut self, asked: bool, memory_kills: Option<u64>) -> Result<(), ExecuteError> {
        let mut index = 0;
        while index < self.workers.len() {
            let worker = &mut self.workers[index];
            if worker.status.is_none() {
                // The child is ours and not waited for elsewhere, so this fails only when it has ended already.
                worker.status = worker.child.try_wait().ok().flatten();
            }
            match worker.status {
                Some(status) if worker.closed => {
                    let worker = self.workers.remove(index);
                    let more_kills = child::memory_kills() > memory_kills;
                    let end = child::judge(&worker, status, asked, more_kills);
                    self.settle(worker.node, end)?;
                }
                _ => index += 1,
            }
        }
        Ok(())
    }

    /// Books the end of a task.
    fn settle(&mut self, index: usize, end: End) -> Result<(), ExecuteError> {
        let task = self.graph.nodes[index].task.clone();
        self.ui.ended(&task, &end);
        match end {
            End::Finished => {
                self.graph.nodes[index].status = Status::Done;
                if task.stage == WorkStage::Run {
                    self.summary.finished.push(task.label);
                }
            }
            End::Paused { step } => {
                self.graph.nodes[index].status = Status::Paused;
                if task.stage == WorkStage::Run {
                    let saved = self.store.saved_step(&task.id)?.or(step.filter(|step| *step > 0));
                    self.summary.paused.push((task.label, saved));
                }
            }
            End::Failed { failure, log, .. } => {
                self.graph.nodes[index].status = Status::Failed;
                self.summary.disk_full |= failure.class == FailureClass::DiskFull;
                if task.stage == WorkStage::Run {
                    self.fail_run(index, &failure, None, Some(log));
                } else {
                    for lost in self.graph.fail_dependents(index) {
                        if self.graph.nodes[lost].task.stage == WorkStage::Run {
                            self.fail_run(lost, &failure, Some(task.label.clone()), Some(log.clone()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Books a failed run and makes sure that the store knows it.
    fn fail_run(
        &mut self,
        index: usize,
        failure: &StageFailure,
        because_of: Option<String>,
        log: Option<PathBuf>,
    ) {
        let task = &self.graph.nodes[index].task;
        let mut stored = failure.clone();
        if let Some(stage) = &because_of {
            stored.message = format!("{stage} failed: {}", failure.message);
        }
        worker::record(self.store, &self.plan.runs[task.run], &stored);
        self.summary.failed.push(FailedRun {
            id: task.id.clone(),
            label: task.label.clone(),
            failure: failure.clone(),
            because_of,
            earlier: false,
            log,
        });
    }

    /// The sweep itself failed: no worker may outlive it.
    fn abandon(&mut self) {
        for worker in &mut self.workers {
            signals::kill(worker.child.id());
            let _ = worker.child.wait();
        }
    }
}
