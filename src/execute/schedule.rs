//! The scheduler: starts workers for what is ready, hears them, books their ends.
//!
//! In: a graph of tasks, the store, how many workers. Out: a summary. What others do in the same store is read off their
//! leases, and what they have done off its results, again and again: a task at which another worker is waits, or is done
//! when that worker is; one that its worker abandoned is taken over.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::child::{self, Heard, Order, Worker};
use super::graph::{Graph, Status};
use super::progress::Progress;
use super::trainer::retries;
use super::worker::{self, WorkStage};
use super::{ExecuteError, FailedRun, Message, SweepOptions, SweepSummary, TICK, earlier_failure, signals};
use crate::plan::Plan;
use crate::store::{Lease, Observer, Stage, Standing, Store, Terms, run_task, stage_task};

/// How often it looks at what others do while it has nothing to start.
const LOOK: Duration = Duration::from_millis(500);
/// How long it bears with a store that gives trouble.
const PATIENCE: Duration = Duration::from_mins(5);

/// A sweep at work.
pub(super) struct Schedule<'a> {
    pub(super) plan: &'a Plan,
    pub(super) store: &'a Store,
    options: &'a SweepOptions,
    pub graph: Graph,
    pub(super) workers: Vec<Worker>,
    pub summary: SweepSummary,
    notices: Receiver<String>,
    observer: Observer,
    looked: Instant,
    /// Since when the store gives trouble.
    trouble: Option<Instant>,
    /// What it has announced to have before it, and when it last said so.
    announced: (Lease, Instant),
}

impl<'a> Schedule<'a> {
    pub fn new(
        plan: &'a Plan,
        store: &'a Store,
        options: &'a SweepOptions,
        graph: Graph,
        summary: SweepSummary,
        notices: Receiver<String>,
    ) -> Result<Self, ExecuteError> {
        let observer = store.observer()?;
        let seconds = plan.runs.first().map_or(0, |run| run.config.exec.lease_seconds);
        // Announced even where no leases are taken: `gc` has to know.
        let terms = Terms::of_seconds(seconds).unwrap_or(Terms { lasts: Duration::from_mins(5) });
        let purpose = format!("sweep of {}", plan.manifest.name);
        let announced = (store.announce(&purpose, terms, &needs(plan, &graph))?, Instant::now());
        let (workers, looked) = (Vec::new(), Instant::now());
        Ok(Self {
            plan,
            store,
            options,
            graph,
            workers,
            summary,
            notices,
            observer,
            looked,
            trouble: None,
            announced,
        })
    }

    /// Works until nothing is left, or nothing that this sweep can do.
    pub fn execute(&mut self, jobs: usize, ui: &mut dyn Progress) -> Result<(), ExecuteError> {
        let result = self.work(jobs, ui);
        if result.is_err() {
            self.abandon();
        }
        self.pass_notices_on(ui);
        result
    }

    fn work(&mut self, jobs: usize, ui: &mut dyn Progress) -> Result<(), ExecuteError> {
        let (sender, receiver) = mpsc::channel();
        let mut told = 0;
        let mut waiting_told = false;
        loop {
            let level = self.options.requests.level();
            if level > told {
                self.pass_on(level, ui);
                told = level;
            }
            let (lease, said) = &mut self.announced;
            if said.elapsed() >= lease.terms().beat() {
                // It only keeps others from tidying up; that it could not be said this time is no reason to stop.
                let _ = lease.renew();
                *said = Instant::now();
            }
            let starts = level == 0 && !self.summary.disk_full;
            // After trouble it looks again as seldom as at others.
            let bears = self.trouble.is_none() || self.looked.elapsed() >= LOOK;
            while starts && bears && self.workers.len() < jobs {
                let next = self.next();
                let Some(next) = self.patiently(next, ui)? else { break };
                let Some(index) = next else {
                    self.trouble = None;
                    break;
                };
                let gpu = self.free_gpu();
                let node = &self.graph.nodes[index];
                let order = Order { node: index, task: &node.task, abandoned: node.abandoned, gpu };
                let started = child::start(order, self.plan, self.store, self.options, &sender);
                let Some(worker) = self.patiently(started, ui)? else { break };
                self.trouble = None;
                let node = &self.graph.nodes[index];
                ui.started(&node.task);
                self.graph.nodes[index].status = Status::Running;
                self.workers.push(worker);
            }
            if self.workers.is_empty() {
                if !(starts && self.stays()) {
                    break;
                }
                if let Some(what) = self.waiting_for().filter(|_| !waiting_told) {
                    ui.note(&what);
                    waiting_told = true;
                }
            }
            self.listen(&receiver, ui);
            self.reap(told > 0, ui);
        }
        self.summary.interrupted =
            told > 0 || self.graph.nodes.iter().any(|node| node.status == Status::Paused);
        for node in &self.graph.nodes {
            let label = &node.task.label;
            // A run is not begun when a stage that it needs was stopped.
            let begun = self.summary.paused.iter().any(|(paused, _)| paused == label);
            let waits = node.status == Status::Waiting || (node.status == Status::Paused && !begun);
            if node.task.stage == WorkStage::Run && waits {
                let others = || self.graph.whose_trajectory(node);
                match node.elsewhere.clone().or_else(others) {
                    Some(holder) => self.summary.held.push((node.task.label.clone(), holder)),
                    None => self.summary.left.push(node.task.label.clone()),
                }
            }
        }
        Ok(())
    }

    /// Notes which tasks others are at; the number of runs among them.
    pub fn look_elsewhere(&mut self) -> Result<usize, ExecuteError> {
        let claims = self.store.claims()?;
        let mut runs = 0;
        for node in self.graph.nodes.iter_mut().filter(|node| node.status == Status::Waiting) {
            let own = node.task.stage.task(&self.plan.runs[node.task.run]);
            (node.elsewhere, node.abandoned) = (None, None);
            let Some(claim) = own.and_then(|task| claims.get(&task)) else { continue };
            if self.observer.judge(claim)? == Standing::Held {
                node.elsewhere = Some(claim.whose());
                runs += usize::from(node.task.stage == WorkStage::Run);
            } else {
                node.abandoned = Some(claim.sighting());
            }
        }
        self.looked = Instant::now();
        Ok(runs)
    }

    /// The first task that can start. On the way, tasks that others have done are booked as such.
    fn next(&mut self) -> Result<Option<usize>, ExecuteError> {
        if self.looked.elapsed() >= LOOK {
            self.look_elsewhere()?;
        }
        loop {
            let Some(index) = self.graph.next_ready() else { return Ok(None) };
            let node = &self.graph.nodes[index];
            let (task, run) = (node.task.clone(), &self.plan.runs[node.task.run]);
            if worker::is_complete(self.store, run, task.stage)? {
                self.book_elsewhere(index);
                continue;
            }
            // Who came since the last look.
            let claim = task.stage.task(run).map(|task| self.store.claim(&task)).transpose()?.flatten();
            if let Some(claim) = claim
                && self.observer.judge(&claim)? == Standing::Held
            {
                self.graph.nodes[index].elsewhere = Some(claim.whose());
                continue;
            }
            if task.stage == WorkStage::Run
                && let Some(class) = self.failed_again(index)?
                && self.failures(index, class)? > u64::from(retries(&run.config.exec, class))
            {
                self.graph.nodes[index].status = Status::Failed;
                let failed = FailedRun { earlier: false, ..earlier_failure(run, self.store)? };
                let (failure, log) = (failed.failure.clone(), failed.log.clone().unwrap_or_default());
                self.summary.failed.push(failed);
                self.fail_dependents(index, &failure, &log);
                continue;
            }
            return Ok(Some(index));
        }
    }

    /// Books a task that another worker has done.
    pub(super) fn book_elsewhere(&mut self, index: usize) {
        let node = &mut self.graph.nodes[index];
        node.status = Status::Done;
        if node.task.stage == WorkStage::Run {
            self.summary.elsewhere.push(node.task.label.clone());
        }
    }

    /// Whether something is left that this sweep may still have to do.
    fn stays(&self) -> bool {
        let mut waiting = self.graph.nodes.iter().filter(|node| node.status == Status::Waiting);
        if self.options.wait {
            return waiting.next().is_some();
        }
        let others = self.graph.trajectories_elsewhere();
        waiting.any(|node| {
            node.task.stage == WorkStage::Run
                && node.elsewhere.is_none()
                && node.trajectory.as_deref().is_none_or(|own| !others.contains(own))
        })
    }

    fn waiting_for(&self) -> Option<String> {
        let held = self.graph.nodes.iter().filter(|node| node.status == Status::Waiting);
        let held = held.filter_map(|node| Some((&node.task.label, node.elsewhere.as_ref()?)));
        let mut lines = held.map(|(label, holder)| format!("{label} ({holder})")).collect::<Vec<_>>();
        if lines.is_empty() {
            return None;
        }
        let more = lines.len().saturating_sub(4);
        lines.truncate(4);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("waiting for what others are at: {}{more}", lines.join(", ")))
    }

    /// The GPU with the fewest workers, the first of equals.
    fn free_gpu(&self) -> Option<String> {
        let load =
            |gpu: &String| self.workers.iter().filter(|worker| worker.gpu.as_ref() == Some(gpu)).count();
        // With a single one there is nothing to choose, and the environment is left as it is.
        if self.options.gpus.len() < 2 {
            None
        } else {
            self.options.gpus.iter().min_by_key(|gpu| load(gpu)).cloned()
        }
    }

    /// Passes a request to stop on to the workers.
    fn pass_on(&mut self, level: u8, ui: &mut dyn Progress) {
        for worker in &self.workers {
            match level {
                1 => signals::ask_to_stop(worker.child.id()),
                _ => signals::kill(worker.child.id()),
            }
        }
        if level == 1 && !self.workers.is_empty() {
            ui.note("stopping: each run finishes its step and saves it (once more to stop at once)");
        }
    }

    /// Waits for something to happen, but not for long.
    fn listen(&mut self, receiver: &Receiver<Heard>, ui: &mut dyn Progress) {
        let mut next = receiver.recv_timeout(TICK);
        loop {
            let (node, heard) = match next {
                Ok(Heard::Message(node, message)) => (node, Some(message)),
                Ok(Heard::Closed(node)) => (node, None),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            };
            let worker = self.workers.iter_mut().find(|worker| worker.node == node);
            match (heard, worker) {
                (Some(Message::Event(super::Event::Attempt { number })), Some(worker)) => {
                    worker.attempt = Some(number);
                }
                (Some(Message::Event(event)), _) => ui.event(&self.graph.nodes[node].task, &event),
                (Some(last), Some(worker)) => worker.last = Some(last),
                (None, Some(worker)) => worker.closed = true,
                (_, None) => {}
            }
            next = receiver.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        self.pass_notices_on(ui);
        ui.tick();
    }

    fn pass_notices_on(&mut self, ui: &mut dyn Progress) {
        for line in self.notices.try_iter() {
            ui.note(&line);
        }
    }

    /// Takes trouble with the store for what it mostly is on a shared file system: it passes. A full disk pauses the grid;
    /// anything else may last for [`PATIENCE`].
    fn patiently<T>(
        &mut self,
        done: Result<T, ExecuteError>,
        ui: &mut dyn Progress,
    ) -> Result<Option<T>, ExecuteError> {
        let error = match done {
            Ok(done) => return Ok(Some(done)),
            Err(ExecuteError::Store(error)) => error,
            Err(error) => return Err(error),
        };
        if error.is_disk_full() {
            self.summary.disk_full = true;
            ui.note(&format!("{error}: nothing more is started"));
            return Ok(None);
        }
        let since = *self.trouble.get_or_insert_with(|| {
            ui.note(&format!("{error}: looks again"));
            Instant::now()
        });
        self.looked = Instant::now();
        if since.elapsed() < PATIENCE { Ok(None) } else { Err(error.into()) }
    }

    /// The sweep itself failed: no worker may outlive it. Each finishes its step and saves it; a request to stop at once
    /// counts here too.
    fn abandon(&mut self) {
        for worker in &self.workers {
            signals::ask_to_stop(worker.child.id());
        }
        for worker in &mut self.workers {
            while let Ok(None) = worker.child.try_wait() {
                if self.options.requests.level() > 1 {
                    signals::kill(worker.child.id());
                }
                std::thread::sleep(TICK);
            }
        }
    }
}

/// The tasks of a graph, and the artifacts that its runs stand on.
fn needs(plan: &Plan, graph: &Graph) -> Vec<String> {
    let mut needs = BTreeSet::new();
    for node in &graph.nodes {
        let run = &plan.runs[node.task.run];
        needs.extend(node.task.stage.task(run));
        let stages = &run.stages;
        needs.insert(stage_task(Stage::Base, &stages.base));
        needs.extend(stages.scores.as_ref().map(|id| stage_task(Stage::Scores, id)));
        needs.extend(stages.mask.as_ref().map(|id| stage_task(Stage::Mask, id)));
        needs.extend(run.config.stands_on().map(run_task));
    }
    needs.into_iter().collect()
}
