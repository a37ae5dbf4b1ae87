//! The scheduler: starts workers for what is ready, hears them, books their ends.
//!
//! In: a graph of tasks, the store, how many workers. Out: a summary. What others do in the same store is read off their
//! leases, and what they have done off its results, again and again: a task at which another worker is waits, or is done
//! when that worker is; one that its worker abandoned is taken over.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::child::{self, End, Heard, Order, Worker};
use super::graph::{Graph, Status};
use super::progress::Progress;
use super::trainer::{FailureClass, StageFailure, retries};
use super::worker::{self, WorkStage};
use super::{ExecuteError, FailedRun, Message, SweepOptions, SweepSummary, TICK, earlier_failure, signals};
use crate::plan::Plan;
use crate::store::{Observer, RunState, Standing, Store};

/// How often it looks at what others do while it has nothing to start.
const LOOK: Duration = Duration::from_millis(500);
/// How long it waits before a run is tried again, times the number of tries.
const BACK_OFF: Duration = Duration::from_millis(500);

/// A sweep at work.
pub(super) struct Schedule<'a> {
    plan: &'a Plan,
    store: &'a Store,
    options: &'a SweepOptions,
    pub graph: Graph,
    workers: Vec<Worker>,
    pub summary: SweepSummary,
    notices: Receiver<String>,
    observer: Observer,
    looked: Instant,
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
        let (workers, looked) = (Vec::new(), Instant::now());
        Ok(Self { plan, store, options, graph, workers, summary, notices, observer, looked })
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
        let memory_kills = child::memory_kills();
        let mut told = 0;
        let mut waiting_told = false;
        loop {
            let level = self.options.requests.level();
            if level > told {
                self.pass_on(level, ui);
                told = level;
            }
            let starts = level == 0 && !self.summary.disk_full;
            while starts && self.workers.len() < jobs {
                let Some(index) = self.next()? else { break };
                let gpu = self.free_gpu();
                let node = &self.graph.nodes[index];
                let order = Order { node: index, task: &node.task, abandoned: node.abandoned, gpu };
                let worker = child::start(order, self.plan, self.store, self.options, &sender)?;
                ui.started(&node.task);
                self.graph.nodes[index].status = Status::Running;
                self.workers.push(worker);
            }
            if self.workers.is_empty() {
                if !(starts && self.stays()) {
                    break;
                }
                if !std::mem::replace(&mut waiting_told, true) {
                    ui.note(&self.waiting_for());
                }
            }
            self.listen(&receiver, ui);
            self.reap(told > 0, memory_kills, ui)?;
        }
        self.summary.interrupted =
            told > 0 || self.graph.nodes.iter().any(|node| node.status == Status::Paused);
        for node in &self.graph.nodes {
            if node.task.stage == WorkStage::Run && node.status == Status::Waiting {
                match &node.elsewhere {
                    Some(holder) => self.summary.held.push((node.task.label.clone(), holder.clone())),
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
                self.summary.failed.push(FailedRun { earlier: false, ..earlier_failure(run, self.store)? });
                continue;
            }
            return Ok(Some(index));
        }
    }

    /// Books a task that another worker has done.
    fn book_elsewhere(&mut self, index: usize) {
        let node = &mut self.graph.nodes[index];
        node.status = Status::Done;
        if node.task.stage == WorkStage::Run {
            self.summary.elsewhere.push(node.task.label.clone());
        }
    }

    /// The class of the newest failure of a run since this sweep began.
    fn failed_again(&self, index: usize) -> Result<Option<FailureClass>, ExecuteError> {
        let node = &self.graph.nodes[index];
        let RunState::Failed { class, .. } = self.store.run_state(&node.task.id)? else { return Ok(None) };
        let newest = self.store.next_attempt(&node.task.id)? - 1;
        Ok((newest > node.attempts_before)
            .then(|| FailureClass::from_name(&class).unwrap_or(FailureClass::Infra)))
    }

    /// How often a task has failed with a class since this sweep began, whoever tried.
    fn failures(&self, index: usize, class: FailureClass) -> Result<u64, ExecuteError> {
        let node = &self.graph.nodes[index];
        if node.task.stage != WorkStage::Run {
            return Ok(node.failures);
        }
        let failures = self.store.failures(&node.task.id)?;
        let of_class = |failure: &serde_json::Value| failure["class"].as_str() == Some(class.name());
        let since = failures.range(node.attempts_before + 1..).filter(|(_, failure)| of_class(failure));
        // A failure that could not be written down counts all the same.
        Ok(node.failures.max(since.count() as u64))
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

    fn waiting_for(&self) -> String {
        let held = self.graph.nodes.iter().filter(|node| node.status == Status::Waiting);
        let held = held.filter_map(|node| Some((&node.task.label, node.elsewhere.as_ref()?)));
        let mut lines = held.map(|(label, holder)| format!("{label} ({holder})")).collect::<Vec<_>>();
        let more = lines.len().saturating_sub(4);
        lines.truncate(4);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("waiting for what others are at: {}{more}", lines.join(", "))
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

    /// Looks which workers have ended and decides what became of them.
    fn reap(
        &mut self,
        asked: bool,
        memory_kills: Option<u64>,
        ui: &mut dyn Progress,
    ) -> Result<(), ExecuteError> {
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
                    self.settle(&worker, end, asked, ui)?;
                }
                _ => index += 1,
            }
        }
        Ok(())
    }

    /// Books the end of a task.
    fn settle(
        &mut self,
        worker: &Worker,
        end: End,
        asked: bool,
        ui: &mut dyn Progress,
    ) -> Result<(), ExecuteError> {
        let index = worker.node;
        let task = self.graph.nodes[index].task.clone();
        ui.ended(&task, &end);
        match end {
            End::Finished => {
                self.graph.nodes[index].status = Status::Done;
                if task.stage == WorkStage::Run {
                    self.summary.finished.push(task.label);
                }
            }
            End::Already => self.book_elsewhere(index),
            End::Busy { holder } => {
                let node = &mut self.graph.nodes[index];
                (node.status, node.elsewhere) = (Status::Waiting, Some(holder));
            }
            End::Paused { step } => {
                self.graph.nodes[index].status = Status::Paused;
                if task.stage == WorkStage::Run {
                    let saved = self.store.saved_step(&task.id)?.or(step.filter(|step| *step > 0));
                    self.summary.paused.push((task.label, saved));
                }
            }
            End::Failed { failure, log, .. } => {
                self.graph.nodes[index].failures += 1;
                self.summary.disk_full |= failure.class == FailureClass::DiskFull;
                if task.stage == WorkStage::Run {
                    self.book_failure(index, worker.attempt, &failure, None);
                }
                let config = &self.plan.runs[task.run].config;
                let (tries, most) =
                    (self.failures(index, failure.class)?, retries(&config.exec, failure.class));
                if !asked && tries <= u64::from(most) {
                    let node = &mut self.graph.nodes[index];
                    node.status = Status::Waiting;
                    node.not_before = Some(Instant::now() + BACK_OFF * tries as u32);
                    node.task.from_step = self.store.saved_step(&task.id).unwrap_or(None);
                    ui.note(&format!("{}: tries again ({tries} of {most})", task.label));
                    return Ok(());
                }
                self.graph.nodes[index].status = Status::Failed;
                if task.stage == WorkStage::Run {
                    self.fail_run(index, &failure, None, &log);
                } else {
                    for lost in self.graph.fail_dependents(index) {
                        if self.graph.nodes[lost].task.stage == WorkStage::Run {
                            self.book_failure(lost, None, &failure, Some(&task.label));
                            self.fail_run(lost, &failure, Some(task.label.clone()), &log);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes sure that the store knows of a failure.
    fn book_failure(
        &self,
        index: usize,
        attempt: Option<u32>,
        failure: &StageFailure,
        because: Option<&str>,
    ) {
        let mut stored = failure.clone();
        if let Some(stage) = because {
            stored.message = format!("{stage} failed: {}", failure.message);
        }
        worker::record(self.store, &self.plan.runs[self.graph.nodes[index].task.run], attempt, &stored);
    }

    fn fail_run(
        &mut self,
        index: usize,
        failure: &StageFailure,
        because_of: Option<String>,
        log: &std::path::Path,
    ) {
        let task = &self.graph.nodes[index].task;
        self.summary.failed.push(FailedRun {
            id: task.id.clone(),
            label: task.label.clone(),
            failure: failure.clone(),
            because_of,
            earlier: false,
            log: Some(log.to_path_buf()),
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
