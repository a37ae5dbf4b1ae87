//! Executes a run once more, in a place of its own, straight through or with interruptions at steps that are known
//! beforehand, and judges whether it came to the same.
//!
//! In: a run of a plan, scratch stores. Out: how it ended and a verdict. Each execution has a store of its own, so that no
//! step is taken over from another one; only bases, scores and masks are shared. Workers are those of a sweep.

use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::{self, RecvTimeoutError};

use super::child::{self, End, Heard, Order};
pub use super::difference::Difference;
use super::difference::{class_differences, first_difference};
use super::event::{Event, Message};
use super::graph::Task;
use super::signals::{self, PlannedStop, StopHow};
use super::trainer::{FailureClass, StageFailure};
use super::worker::WorkStage;
use super::{ExecuteError, SweepOptions, TICK};
use crate::plan::{Plan, RunSpec};
use crate::store::{Scratch, Stage, Store, StoreError};

/// A run to be executed again, and how.
pub struct Again<'a> {
    /// The plan that it is of.
    pub plan: &'a Plan,
    /// Its place in the plan.
    pub run: usize,
    /// The program and its arguments; how many workers is not looked at.
    pub options: &'a SweepOptions,
    /// Where progress is told: steps that are complete, and notes.
    pub say: &'a dyn Fn(&Event),
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is complete; for each interruption the step that it went on from.
    Finished(Vec<Option<u32>>),
    /// The run, or a stage that it needs, failed.
    Failed(StageFailure),
    /// The user does not want to wait for it.
    Interrupted,
}

/// What one worker came to.
enum Step {
    Finished,
    /// Interrupted as planned.
    Stopped,
    Failed(StageFailure),
    Interrupted,
}

/// Whether an execution equals another one.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Bit for bit.
    Equal,
    /// It does not.
    Differs(Difference),
    /// It did not get to its end.
    Failed(StageFailure),
}

/// A verdict about a stored run, which may have been made in another way than this process makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Whether they are equal.
    pub verdict: Verdict,
    /// How the stored run was made otherwise: field, then, now.
    pub class: Vec<(String, serde_json::Value, serde_json::Value)>,
}

impl Judged {
    /// Whether it says something about this program: a difference from what another build or machine made does not.
    pub fn counts(&self) -> bool {
        self.class.is_empty() || !matches!(self.verdict, Verdict::Differs(_))
    }
}

impl Again<'_> {
    /// The run.
    pub fn spec(&self) -> &RunSpec {
        &self.plan.runs[self.run]
    }

    /// Takes over what the run stands on, as far as it is there.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn prepare(&self, bed: &Store, from: &Store) -> Result<(), StoreError> {
        let stages = &self.spec().stages;
        let ids = [
            (Stage::Base, Some(&stages.base)),
            (Stage::Scores, stages.scores.as_ref()),
            (Stage::Mask, stages.mask.as_ref()),
        ];
        for (stage, id) in ids {
            if let Some(id) = id {
                bed.take_over(from, stage, id)?;
            }
        }
        Ok(())
    }

    /// Executes the run in `bed` with these interruptions, in their order, and to its end.
    ///
    /// # Errors
    /// When a worker cannot be started or the scratch store cannot be used.
    pub fn execute(&self, bed: &Store, stops: &[PlannedStop]) -> Result<Ended, ExecuteError> {
        let stages = &self.spec().stages;
        let shared = [
            (WorkStage::Base, Stage::Base, Some(&stages.base)),
            (WorkStage::Scores, Stage::Scores, stages.scores.as_ref()),
        ];
        for (work, stage, id) in shared {
            let Some(id) = id else { continue };
            if bed.artifact(stage, id)?.is_none() {
                match self.worker(bed, work, id, None)? {
                    Step::Finished | Step::Stopped => {}
                    Step::Failed(failure) => return Ok(Ended::Failed(failure)),
                    Step::Interrupted => return Ok(Ended::Interrupted),
                }
            }
        }
        let id = self.spec().id.as_str();
        let mut saved = Vec::new();
        for stop in stops.iter().copied().map(Some).chain([None]) {
            match (self.worker(bed, WorkStage::Run, id, stop)?, stop) {
                (Step::Stopped, _) => saved.push(bed.saved_step(id)?),
                (Step::Finished, None) => return Ok(Ended::Finished(saved)),
                // Nothing is left to stop for after the last step.
                (Step::Finished, Some(PlannedStop { how: StopHow::Paused, after }))
                    if after >= self.spec().config.grpo.steps =>
                {
                    return Ok(Ended::Finished(saved));
                }
                (Step::Finished, Some(PlannedStop { how, after })) => {
                    let text = format!("it ended without being {} after step {after}", how.name());
                    return Ok(Ended::Failed(StageFailure::new(FailureClass::Infra, text)));
                }
                (Step::Failed(failure), _) => return Ok(Ended::Failed(failure)),
                (Step::Interrupted, _) => return Ok(Ended::Interrupted),
            }
        }
        let text = "it stopped although nobody had asked it to (this is a bug)";
        Ok(Ended::Failed(StageFailure::new(FailureClass::Infra, text)))
    }

    /// Compares the run in `bed` with what `expected` has of it.
    ///
    /// # Errors
    /// When a result cannot be read, or is damaged.
    pub fn compare(&self, expected: &Store, bed: &Store) -> Result<Judged, StoreError> {
        let id = self.spec().id.as_str();
        let verdict = match first_difference(expected, bed, id)? {
            Some(difference) => Verdict::Differs(difference),
            None => Verdict::Equal,
        };
        let class = match (expected.result(id)?, bed.result(id)?) {
            (Some(then), Some(now)) => class_differences(then.meta(), now.meta()),
            _ => Vec::new(),
        };
        Ok(Judged { verdict, class })
    }

    /// Executes the run straight through in a store of its own inside `scratch` and compares it with what `stored` has;
    /// `None` when the user does not want to wait for it.
    ///
    /// # Errors
    /// As [`Self::execute`] and [`Self::compare`].
    pub fn against(&self, stored: &Store, scratch: &Scratch) -> Result<Option<Judged>, ExecuteError> {
        let failed = |failure| Judged { verdict: Verdict::Failed(failure), class: Vec::new() };
        let name = self.spec().id.short();
        let bed = scratch.store(name)?;
        self.prepare(&bed, stored)?;
        let judged = match self.execute(&bed, &[])? {
            Ended::Interrupted => return Ok(None),
            Ended::Finished(_) => match self.compare(stored, &bed) {
                // A stored run that cannot be read is not equal to anything.
                Err(error @ StoreError::Damaged { .. }) => failed(error.into()),
                judged => judged?,
            },
            Ended::Failed(failure) => failed(failure),
        };
        scratch.remove(name)?;
        Ok(Some(judged))
    }

    /// One stage in a process of its own, from its start to its end.
    fn worker(
        &self,
        bed: &Store,
        stage: WorkStage,
        id: &str,
        stop: Option<PlannedStop>,
    ) -> Result<Step, ExecuteError> {
        let label = self.spec().label.clone();
        let task = Task { stage, id: id.to_owned(), label, run: self.run, from_step: None };
        let mut options = self.options.clone();
        if let Some(PlannedStop { how, after }) = stop {
            let name = match how {
                StopHow::Killed => "--kill-at",
                StopHow::Paused => "--pause-at",
            };
            options.arguments.extend([name.into(), after.to_string().into()]);
        }
        let (sender, receiver) = mpsc::channel();
        let order = Order { node: 0, task: &task, abandoned: None, gpu: None };
        let mut worker = child::start(order, self.plan, bed, &options, &sender)?;
        let mut ended = false;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Heard::Message(_, Message::Event(event))) => (self.say)(&event),
                Ok(Heard::Message(_, last)) => worker.last = Some(last),
                Ok(Heard::Closed(_)) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.options.requests.level() > 0 && !ended {
                // What it has written is thrown away, so it need not finish its step.
                signals::kill(worker.child.id());
                ended = true;
            }
        }
        let status = worker.child.wait().map_err(|source| {
            let program = options.program.clone();
            ExecuteError::Spawn { program, source }
        })?;
        if self.options.requests.level() > 0 {
            return Ok(Step::Interrupted);
        }
        let killed = status.signal() == Some(9) && worker.last.is_none();
        if killed && stop.is_some_and(|stop| stop.how == StopHow::Killed) {
            return Ok(Step::Stopped);
        }
        Ok(match child::judge(&worker, status, false, false) {
            End::Finished | End::Already => Step::Finished,
            End::Paused { .. } if stop.is_some_and(|stop| stop.how == StopHow::Paused) => Step::Stopped,
            End::Paused { .. } => Step::Interrupted,
            // Nobody else knows of the scratch store.
            End::Busy { holder } => Step::Failed(StageFailure::new(
                FailureClass::Infra,
                format!("{holder} is at it (this is a bug)"),
            )),
            End::Failed { failure, tail, .. } => {
                let said = tail.last().filter(|line| !line.trim().is_empty());
                let message = match said {
                    Some(line) if !failure.message.contains(line.as_str()) => {
                        format!("{} (its last line: {line})", failure.message)
                    }
                    _ => failure.message.clone(),
                };
                Step::Failed(StageFailure { message, ..failure })
            }
        })
    }
}

/// The `count` runs of `runs` that a seed draws: those with the lowest digests of seed and id, so that the choice can be
/// repeated, and that a larger sample holds a smaller one.
pub fn chosen<'a>(runs: impl IntoIterator<Item = &'a str>, count: usize, seed: u64) -> Vec<&'a str> {
    let key = |run: &str| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(run.as_bytes());
        *hasher.finalize().as_bytes()
    };
    let mut runs = runs.into_iter().map(|run| (key(run), run)).collect::<Vec<_>>();
    runs.sort_unstable();
    runs.into_iter().take(count).map(|(_, run)| run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_that_of_the_seed_and_a_larger_one_holds_a_smaller_one() {
        let runs = (0..50).map(|number| format!("{number:064x}")).collect::<Vec<_>>();
        let of = |count, seed| chosen(runs.iter().map(String::as_str), count, seed);
        let reversed = chosen(runs.iter().rev().map(String::as_str), 5, 0);
        assert_eq!(of(5, 0), reversed);
        assert_eq!(of(9, 0)[..5], of(5, 0));
        assert_ne!(of(5, 0), of(5, 1));
        assert_eq!(of(99, 0).len(), 50);
    }
}
