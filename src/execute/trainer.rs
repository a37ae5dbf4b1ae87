//! The seam between the executor, which knows no tensor, and what trains.
//!
//! In: one run of the plan and a context. Out: published artifacts, a finished run, or a failure with its class.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Event;
use crate::exit::Code;
use crate::manifest::ExecSpec;
use crate::plan::RunSpec;
use crate::store::{Attempt, Store, StoreError, failure_record};

/// What a stage gets to work with.
pub struct Context<'a> {
    /// Where artifacts and runs go.
    pub store: &'a Store,
    /// Where progress is told.
    pub events: &'a dyn Fn(Event),
    /// Whether the stage should finish its step, save and return.
    pub stop: &'a dyn Fn() -> bool,
}

impl Context<'_> {
    /// Begins an attempt of a run and tells which.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn begin(&self, run: &str) -> Result<Attempt, StoreError> {
        let attempt = self.store.begin(run)?;
        (self.events)(Event::Attempt { number: attempt.number() });
        Ok(attempt)
    }
}

/// Trains: implemented with tensors in `torch`, and by a script in the tests.
pub trait Trainer {
    /// Publishes the base model of a run; does nothing when it is there.
    ///
    /// # Errors
    /// When the base cannot be made. [`FailureClass::Interrupted`] when it was asked to stop before.
    fn base(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure>;

    /// Publishes the scores of gradients of a run; does nothing when they are there.
    ///
    /// # Errors
    /// As [`Self::base`].
    fn scores(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure>;

    /// Publishes the mask of a run; does nothing when it is there. A run makes its own: this is for a mask that was damaged or
    /// removed after the run.
    ///
    /// # Errors
    /// As [`Self::base`].
    fn mask(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure>;

    /// Executes a run from its newest checkpoint: publishes its mask, trains, evaluates and finishes the attempt.
    ///
    /// # Errors
    /// When the run fails. The attempt is failed by this function or, if it did not get so far, by its caller.
    fn run(&self, run: &RunSpec, cx: &Context) -> Result<Outcome, StageFailure>;
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete.
    Finished,
    /// It stopped when asked to, after a checkpoint.
    Paused {
        /// Steps that are complete and saved.
        step: u32,
    },
}

/// Why a stage or run failed, as data: it is sent, stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFailure {
    /// The kind of failure.
    pub class: FailureClass,
    /// The step at which it happened.
    pub step: Option<u32>,
    /// The whole chain of causes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl StageFailure {
    /// A failure of a class.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, step: None, message: message.into(), hint: None }
    }

    /// A failure with an error's whole chain as its message.
    pub fn from_error(class: FailureClass, error: &(dyn Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(class, message)
    }

    /// The same, at a step.
    #[must_use]
    pub fn at(mut self, step: u32) -> Self {
        self.step = Some(step);
        self
    }

    /// The same, with advice.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As the record that [`crate::store::Attempt::fail`] takes.
    pub fn to_record(&self) -> Value {
        failure_record(self.class.name(), self.step, &self.message, self.hint.as_deref())
    }
}

impl fmt::Display for StageFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.class.name())?;
        if let Some(step) = self.step {
            write!(out, " at step {step}")?;
        }
        write!(out, ": {}", self.message)
    }
}

impl Error for StageFailure {}

impl From<StoreError> for StageFailure {
    fn from(error: StoreError) -> Self {
        let class = if error.is_disk_full() { FailureClass::DiskFull } else { FailureClass::Store };
        Self { hint: error.hint(), ..Self::from_error(class, &error) }
    }
}

/// Kinds of failure. The kind decides whether the next sweep tries again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// A loss, reward or score is not finite.
    Nan,
    /// Memory ran out.
    Oom,
    /// The configuration is valid but cannot work.
    BadConfig,
    /// A file that the run needs is missing or malformed.
    BadInput,
    /// The disk is full.
    DiskFull,
    /// The results folder gave trouble.
    Store,
    /// The task gave trouble: an outside program, or a reward that is no number in its range.
    Task,
    /// The machine or the program gave trouble.
    Infra,
    /// The process was killed.
    Killed,
    /// It was asked to stop.
    Interrupted,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Nan,
        Self::Oom,
        Self::BadConfig,
        Self::BadInput,
        Self::DiskFull,
        Self::Store,
        Self::Task,
        Self::Infra,
        Self::Killed,
        Self::Interrupted,
    ];

    /// The class as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nan => "nan",
            Self::Oom => "oom",
            Self::BadConfig => "bad-config",
            Self::BadInput => "bad-input",
            Self::DiskFull => "disk-full",
            Self::Store => "store",
            Self::Task => "task",
            Self::Infra => "infra",
            Self::Killed => "killed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The class of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether the next sweep tries again without being told to. A run that diverged or whose configuration cannot work
    /// would do the same again; everything else may go differently.
    pub fn retried_by_itself(self) -> bool {
        !matches!(self, Self::Nan | Self::BadConfig)
    }

    /// How a worker process ends after such a failure.
    pub fn exit_code(self) -> Code {
        match self {
            Self::Nan | Self::BadConfig | Self::BadInput => Code::Permanent,
            Self::Interrupted => Code::Interrupted,
            Self::Oom | Self::DiskFull | Self::Store | Self::Task | Self::Infra | Self::Killed => {
                Code::Transient
            }
        }
    }
}

/// How often one sweep tries a run again by itself after failures of a class. A full disk pauses the grid instead, and
/// what is wrong with a configuration or an input stays wrong.
pub(super) fn retries(exec: &ExecSpec, class: FailureClass) -> u32 {
    let retries = &exec.retries;
    match class {
        FailureClass::Nan => retries.nan,
        FailureClass::Oom => retries.oom,
        FailureClass::Killed => retries.killed,
        FailureClass::Infra => retries.infra,
        FailureClass::Store => retries.store,
        FailureClass::Task => retries.task,
        FailureClass::BadConfig
        | FailureClass::BadInput
        | FailureClass::DiskFull
        | FailureClass::Interrupted => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_protocol() {
        for class in FailureClass::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
            assert_eq!(FailureClass::from_name(class.name()), Some(class));
        }
        assert_eq!(FailureClass::from_name("other"), None);
    }

    #[test]
    fn a_failure_tells_the_whole_chain() {
        let source = std::io::Error::other("inner");
        let error = StoreError::Io { action: "write", path: "x".into(), source };
        let failure = StageFailure::from(error).at(7);
        assert_eq!(failure.to_string(), "store at step 7: failed to write x: inner");
    }
}
