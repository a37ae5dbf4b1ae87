//! The ends of workers: what became of a task, and whether it is tried again.
//!
//! In: workers that have ended. Out: the graph and the summary, brought up to date. A failure is counted from the records in
//! the store, so that several sweeps do not try a run more often than one would.

use std::time::{Duration, Instant};

use super::child::{self, End, Worker};
use super::graph::Status;
use super::progress::Progress;
use super::schedule::Schedule;
use super::trainer::{FailureClass, StageFailure, retries};
use super::worker::{self, WorkStage};
use super::{ExecuteError, FailedRun};
use crate::store::RunState;

/// How long a sweep waits before it tries a task again, times the number of tries.
const BACK_OFF: Duration = Duration::from_millis(500);

impl Schedule<'_> {
    /// The class of the newest failure of a run since this sweep began.
    pub(super) fn failed_again(&self, index: usize) -> Result<Option<FailureClass>, ExecuteError> {
        let node = &self.graph.nodes[index];
        let RunState::Failed { class, .. } = self.store.run_state(&node.task.id)? else { return Ok(None) };
        let newest = self.store.next_attempt(&node.task.id)? - 1;
        Ok((newest > node.attempts_before)
            .then(|| FailureClass::from_name(&class).unwrap_or(FailureClass::Infra)))
    }

    /// How often a task has failed with a class since this sweep began, whoever tried.
    pub(super) fn failures(&self, index: usize, class: FailureClass) -> Result<u64, ExecuteError> {
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

    /// Looks which workers have ended and decides what became of them.
    pub(super) fn reap(&mut self, asked: bool, ui: &mut dyn Progress) {
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
                    let more_kills = child::memory_kills() > worker.memory_kills;
                    let end = child::judge(&worker, status, asked, more_kills);
                    self.settle(&worker, end, asked, ui);
                }
                _ => index += 1,
            }
        }
    }

    /// Books the end of a task.
    fn settle(&mut self, worker: &Worker, end: End, asked: bool, ui: &mut dyn Progress) {
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
                if task.stage == WorkStage::Run {
                    node.task.from_step = self.store.saved_step(&task.id).unwrap_or(None);
                }
            }
            End::Paused { step } => {
                self.graph.nodes[index].status = Status::Paused;
                if task.stage == WorkStage::Run {
                    let saved = self.store.saved_step(&task.id).unwrap_or(None);
                    self.summary.paused.push((task.label, saved.or(step.filter(|step| *step > 0))));
                }
                // Its worker alone was asked to stop: what needs it is not begun, and the sweep was interrupted.
                self.graph.mark_dependents(index, Status::Paused);
            }
            End::Failed { failure, log, .. } => {
                self.graph.nodes[index].failures += 1;
                self.summary.disk_full |= failure.class == FailureClass::DiskFull;
                if task.stage == WorkStage::Run {
                    self.book_failure(index, worker.attempt, &failure, None);
                }
                let config = &self.plan.runs[task.run].config;
                let most = retries(&config.exec, failure.class);
                // Where the records cannot be read, this sweep's own tries are what is known.
                let own = self.graph.nodes[index].failures;
                let tries = self.failures(index, failure.class).unwrap_or(own);
                if !asked && tries <= u64::from(most) {
                    let node = &mut self.graph.nodes[index];
                    node.status = Status::Waiting;
                    node.not_before = Some(Instant::now() + BACK_OFF * tries as u32);
                    node.task.from_step = self.store.saved_step(&task.id).unwrap_or(None);
                    ui.note(&format!("{}: tries again ({tries} of {most})", task.label));
                    return;
                }
                self.graph.nodes[index].status = Status::Failed;
                if task.stage == WorkStage::Run {
                    self.fail_run(index, &failure, None, &log);
                    self.fail_dependents(index, &failure, &log);
                } else if task.stage == WorkStage::Mask {
                    // Nothing waits for it but the report.
                    let run = &self.plan.runs[task.run];
                    let (id, label) = (run.id.to_string(), run.label.clone());
                    let (because_of, log) = (Some(task.label), Some(log));
                    self.summary.failed.push(FailedRun {
                        id,
                        label,
                        failure,
                        because_of,
                        earlier: false,
                        log,
                    });
                } else {
                    self.fail_dependents(index, &failure, &log);
                }
            }
        }
    }

    /// Fails the runs that wait for a task that failed.
    pub(super) fn fail_dependents(&mut self, index: usize, failure: &StageFailure, log: &std::path::Path) {
        let label = self.graph.nodes[index].task.label.clone();
        for lost in self.graph.mark_dependents(index, Status::Failed) {
            if self.graph.nodes[lost].task.stage == WorkStage::Run {
                self.book_failure(lost, None, failure, Some(&label));
                self.fail_run(lost, failure, Some(label.clone()), log);
            }
        }
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
}
