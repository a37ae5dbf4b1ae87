//! The body of a worker process: one stage of one run, told as lines on standard output.
//!
//! In: a trainer, the stage, the run. Out: protocol lines and an exit code. The worker holds the lease of what it does,
//! and looks again whether it is still to be done once it has it. A panic of the trainer becomes a failure like any other,
//! and a run that failed has its `failed.json` whoever noticed the failure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::event::{Event, Message, Wire};
use super::keeper::Keeper;
use super::signals::Requests;
use super::trainer::{Context, FailureClass, Outcome, StageFailure, Trainer};
use crate::exit::Code;
use crate::plan::RunSpec;
use crate::store::{Asked, Sighting, Stage, Store, StoreError, Terms, run_task, stage_task};

/// What a worker process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkStage {
    /// Publishes the base model.
    Base,
    /// Publishes scores of gradients.
    Scores,
    /// Publishes a mask once more.
    Mask,
    /// Executes a run.
    Run,
}

impl WorkStage {
    /// The stage as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Scores => "scores",
            Self::Mask => "mask",
            Self::Run => "run",
        }
    }

    /// The name of the task whose lease a worker holds, and its id; `None` when the run does not have the stage.
    pub fn task(self, run: &RunSpec) -> Option<String> {
        Some(match self {
            Self::Base => stage_task(Stage::Base, &run.stages.base),
            Self::Scores => stage_task(Stage::Scores, run.stages.scores.as_deref()?),
            Self::Mask => stage_task(Stage::Mask, run.stages.mask.as_deref()?),
            Self::Run => run_task(run.id.as_str()),
        })
    }

    /// The stage of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Base, Self::Scores, Self::Mask, Self::Run].into_iter().find(|stage| stage.name() == name)
    }
}

/// Does one stage of one run and tells `wire` how it goes; the exit code says the same in one number. `abandoned` is a lease
/// of it that the caller has watched and found abandoned.
pub fn work(
    trainer: &dyn Trainer,
    run: &RunSpec,
    stage: WorkStage,
    store: &Store,
    wire: &Wire,
    requests: &Requests,
    abandoned: Option<Sighting>,
) -> Code {
    let notices = wire.clone();
    let note = move |line: &str| notices.send(&Message::Event(Event::Note(line.to_owned())));
    let store = store.clone().with_notices(note);
    let keeper = match keep(run, stage, &store, wire, requests, abandoned) {
        Ok(Held::Ours(keeper)) => keeper,
        Ok(Held::Elsewhere(holder)) => {
            wire.send(&Message::Busy { holder });
            return Code::Transient;
        }
        Err(failure) => {
            let code = failure.class.exit_code();
            wire.send(&Message::Failed(failure));
            return code;
        }
    };
    let attempt = AtomicU32::new(0);
    let events = |event: Event| {
        let step = match &event {
            Event::Progress { step, .. } if stage == WorkStage::Run => Some(*step),
            _ => None,
        };
        if let Event::Attempt { number } = event {
            attempt.store(number, Ordering::SeqCst);
        }
        wire.send(&Message::Event(event));
        if let Some(step) = step {
            requests.passed(step);
        }
    };
    let stop = || requests.level() > 0;
    let cx = Context { store: &store, events: &events, stop: &stop };

    // Another worker may have done it before the lease was ours.
    if matches!(is_complete(&store, run, stage), Ok(true)) {
        drop(keeper);
        wire.send(&Message::Already);
        return Code::Ok;
    }
    let result = catch_unwind(AssertUnwindSafe(|| match stage {
        WorkStage::Base => trainer.base(run, &cx).map(|()| Outcome::Finished),
        WorkStage::Scores => trainer.scores(run, &cx).map(|()| Outcome::Finished),
        WorkStage::Mask => trainer.mask(run, &cx).map(|()| Outcome::Finished),
        WorkStage::Run => trainer.run(run, &cx),
    }))
    .unwrap_or_else(|panic| Err(StageFailure::new(FailureClass::Infra, panic_text(&*panic))))
    .and_then(|outcome| match outcome {
        Outcome::Finished if !is_complete(&store, run, stage)? => {
            Err(StageFailure::new(FailureClass::Infra, "it ended without a result (this is a bug)"))
        }
        outcome => Ok(outcome),
    });

    let attempt = Some(attempt.into_inner()).filter(|number| *number > 0);
    if let (Err(failure), WorkStage::Run) = (&result, stage)
        && failure.class != FailureClass::Interrupted
    {
        record(&store, run, attempt, failure);
    }
    let gave_up = keeper.as_ref().is_some_and(Keeper::gave_up);
    // Given back before the last word, so that who hears it finds the task free.
    drop(keeper);
    let stopped = match &result {
        Ok(Outcome::Paused { .. }) => true,
        Err(failure) => failure.class == FailureClass::Interrupted,
        Ok(Outcome::Finished) => false,
    };
    if gave_up && stopped {
        // Nobody asked for it: it goes on when the lease can be had again.
        wire.send(&Message::Lost);
        return Code::Transient;
    }
    match result {
        Ok(Outcome::Finished) => {
            wire.send(&Message::Finished);
            Code::Ok
        }
        Ok(Outcome::Paused { step }) => {
            wire.send(&Message::Paused { step: Some(step) });
            Code::Interrupted
        }
        Err(failure) if failure.class == FailureClass::Interrupted => {
            wire.send(&Message::Paused { step: failure.step });
            Code::Interrupted
        }
        Err(failure) => {
            let code = failure.class.exit_code();
            wire.send(&Message::Failed(failure));
            code
        }
    }
}

/// Whose a stage is.
enum Held {
    /// This worker's; no lease is taken when the manifest switches them off.
    Ours(Option<Keeper>),
    /// Another worker's: who.
    Elsewhere(String),
}

fn keep(
    run: &RunSpec,
    stage: WorkStage,
    store: &Store,
    wire: &Wire,
    requests: &Requests,
    abandoned: Option<Sighting>,
) -> Result<Held, StageFailure> {
    let (Some(terms), Some(task)) = (Terms::of_seconds(run.config.exec.lease_seconds), stage.task(run))
    else {
        return Ok(Held::Ours(None));
    };
    let purpose = format!("{} of {}", stage.name(), run.label);
    let mut observer = store.observer()?;
    observer.believe(abandoned);
    let lease = match store.lease(&task, &purpose, terms, &mut observer)? {
        Asked::Granted(lease) => lease,
        Asked::Taken(claim) => return Ok(Held::Elsewhere(claim.whose())),
    };
    let kept = Keeper::new(lease, wire, requests)
        .map_err(|e| StageFailure::new(FailureClass::Infra, format!("cannot start a thread: {e}")))?;
    Ok(Held::Ours(Some(kept)))
}

/// Whether the store has what the stage was to make.
pub(super) fn is_complete(store: &Store, run: &RunSpec, stage: WorkStage) -> Result<bool, StoreError> {
    Ok(match stage {
        WorkStage::Base => store.artifact(Stage::Base, &run.stages.base)?.is_some(),
        WorkStage::Scores => match &run.stages.scores {
            Some(id) => store.artifact(Stage::Scores, id)?.is_some(),
            None => true,
        },
        WorkStage::Mask => match &run.stages.mask {
            Some(id) => store.artifact(Stage::Mask, id)?.is_some(),
            None => true,
        },
        WorkStage::Run => store.result(&run.id.to_string())?.is_some(),
    })
}

/// Writes `failed.json` of an attempt unless the trainer has written just this failure; a run that failed before it began
/// an attempt gets one.
pub(super) fn record(store: &Store, run: &RunSpec, attempt: Option<u32>, failure: &StageFailure) {
    let id = run.id.to_string();
    let record = failure.to_record();
    let same = |stored: &Value| ["class", "step", "message"].iter().all(|key| stored[key] == record[key]);
    if matches!(store.failure(&id), Ok(Some(stored)) if same(&stored)) {
        return;
    }
    // The failure reaches the user through the protocol in any case; that it could not be stored is only worth a line.
    if let Err(error) = store.record_failure(&id, attempt, &record) {
        eprintln!("cannot record the failure of run {}: {error}", run.label);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {} (this is a bug)", text.unwrap_or("no message"))
}
