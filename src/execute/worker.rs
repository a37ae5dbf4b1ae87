//! The body of a worker process: one stage of one run, told as lines on standard output.
//!
//! In: a trainer, the stage, the run. Out: protocol lines and an exit code. A panic of the trainer becomes a failure like
//! any other, and a run that failed has its `failed.json` whoever noticed the failure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use super::event::{Event, Message, Wire};
use super::signals::Requests;
use super::trainer::{Context, FailureClass, Outcome, StageFailure, Trainer};
use crate::exit::Code;
use crate::plan::RunSpec;
use crate::store::{Stage, Store};

/// What a worker process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkStage {
    /// Publishes the base model.
    Base,
    /// Publishes Fisher scores.
    Scores,
    /// Executes a run.
    Run,
}

impl WorkStage {
    /// The stage as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Scores => "scores",
            Self::Run => "run",
        }
    }

    /// The stage of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Base, Self::Scores, Self::Run].into_iter().find(|stage| stage.name() == name)
    }
}

/// Does one stage of one run and tells `wire` how it goes; the exit code says the same in one number.
pub fn work(
    trainer: &dyn Trainer,
    run: &RunSpec,
    stage: WorkStage,
    store: &Store,
    wire: &Wire,
    requests: &Requests,
) -> Code {
    let notices = wire.clone();
    let note = move |line: &str| notices.send(&Message::Event(Event::Note(line.to_owned())));
    let store = store.clone().with_notices(note);
    let events = |event: Event| {
        let step = match &event {
            Event::Progress { step, .. } if stage == WorkStage::Run => Some(*step),
            _ => None,
        };
        wire.send(&Message::Event(event));
        if let Some(step) = step {
            requests.passed(step);
        }
    };
    let stop = || requests.level() > 0;
    let cx = Context { store: &store, events: &events, stop: &stop };

    let result = catch_unwind(AssertUnwindSafe(|| match stage {
        WorkStage::Base => trainer.base(run, &cx).map(|()| Outcome::Finished),
        WorkStage::Scores => trainer.scores(run, &cx).map(|()| Outcome::Finished),
        WorkStage::Run => trainer.run(run, &cx),
    }))
    .unwrap_or_else(|panic| Err(StageFailure::new(FailureClass::Infra, panic_text(&*panic))))
    .and_then(|outcome| match outcome {
        Outcome::Finished if !is_complete(&store, run, stage)? => {
            Err(StageFailure::new(FailureClass::Infra, "it ended without a result (this is a bug)"))
        }
        outcome => Ok(outcome),
    });

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
            if stage == WorkStage::Run {
                record(&store, run, &failure);
            }
            let code = failure.class.exit_code();
            wire.send(&Message::Failed(failure));
            code
        }
    }
}

/// Whether the store has what the stage was to make.
fn is_complete(store: &Store, run: &RunSpec, stage: WorkStage) -> Result<bool, StageFailure> {
    Ok(match stage {
        WorkStage::Base => store.artifact(Stage::Base, &run.stages.base)?.is_some(),
        WorkStage::Scores => match &run.stages.scores {
            Some(id) => store.artifact(Stage::Scores, id)?.is_some(),
            None => true,
        },
        WorkStage::Run => store.result(&run.id.to_string())?.is_some(),
    })
}

/// Writes `failed.json` unless the trainer has written just this failure.
pub(super) fn record(store: &Store, run: &RunSpec, failure: &StageFailure) {
    let id = run.id.to_string();
    let record = failure.to_record();
    let same = |stored: &Value| ["class", "step", "message"].iter().all(|key| stored[key] == record[key]);
    if matches!(store.failure(&id), Ok(Some(stored)) if same(&stored)) {
        return;
    }
    // The failure reaches the user through the protocol in any case; that it could not be stored is only worth a line.
    if let Err(error) = store.record_failure(&id, &record) {
        eprintln!("cannot record the failure of run {}: {error}", run.label);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {} (this is a bug)", text.unwrap_or("no message"))
}
