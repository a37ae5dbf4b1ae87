//! Any failure of a stage, with the class under which it is stored and reported.

use std::path::PathBuf;

use crate::data::hub::HubError;
use crate::data::{DataError, OpenTaskError};
use crate::execute::{FailureClass, StageFailure};
use crate::exit::{Code, Failure};
use crate::masks::MasksError;
use crate::sparsity::SparsityError;
use crate::store::StoreError;
use crate::task::TaskError;

use super::TorchError;
use super::device::DeviceError;

/// Why a stage of a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A tensor, a number, a mask, an episode.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The results folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model of a hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The device or libtorch.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An artifact that an earlier stage should have published.
    #[error("the {stage} artifact {id} is not in the store")]
    NoArtifact {
        /// The stage.
        stage: &'static str,
        /// Its id.
        id: String,
    },
    /// The run has no result yet.
    #[error("run {run} is not finished: its result is not in the store")]
    NotFinished {
        /// Its label.
        run: String,
    },
    /// The run whose changes are the scores is not done.
    #[error("take the changes of run {} as scores: it has no result in this results folder", run.get(..12).unwrap_or(run))]
    NotYetMoved {
        /// The run.
        run: String,
    },
    /// A run whose changes cannot be scores.
    #[error("take the changes of run {} as scores: {why}", run.get(..12).unwrap_or(run))]
    NotMoved {
        /// The run.
        run: String,
        /// Why not.
        why: String,
    },
    /// A run whose weights cannot be a base.
    #[error("begin with the weights of run {}: {why}", run.get(..12).unwrap_or(run))]
    NotABase {
        /// The run.
        run: String,
        /// Why not.
        why: String,
    },
    /// A step of an earlier run of the same trajectory came out differently.
    #[error("step {step} of run {} is not repeated here: {what} (another machine, or another build); this run starts anew and takes nothing over", run.get(..12).unwrap_or(run))]
    NotRepeated {
        /// The earlier run.
        run: String,
        /// The step.
        step: u32,
        /// The column that differs.
        what: String,
    },
    /// The run's own checkpoint was made from another base or mask of the same id.
    #[error(
        "the state saved after step {step} was made from other bits of the {what} than are there now: it does not fit them, and the run starts anew"
    )]
    OtherInputs {
        /// The step.
        step: u32,
        /// Base, mask, or both.
        what: String,
    },
    /// A step found too little memory.
    #[error("step {step} with `grpo.micro_batch` = {micro_batch}: {source}")]
    TooLarge {
        /// The step, from 1.
        step: u32,
        /// Rollouts that went through the model together.
        micro_batch: u32,
        /// libtorch's words.
        source: TorchError,
    },
    /// An input changed after the plan was made.
    #[error("{} changed after the plan was made", path.display())]
    Changed {
        /// The file or folder.
        path: PathBuf,
    },
}

impl From<OpenTaskError> for RunError {
    fn from(error: OpenTaskError) -> Self {
        match error {
            OpenTaskError::Data(error) => error.into(),
            OpenTaskError::Hub(error) => error.into(),
            OpenTaskError::Task(error) => Self::Torch(error.into()),
            OpenTaskError::Changed { path } => Self::Changed { path },
        }
    }
}

impl From<DataError> for RunError {
    fn from(error: DataError) -> Self {
        Self::Torch(error.into())
    }
}

impl From<tch::TchError> for RunError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}

impl RunError {
    /// An error of a step: one that less at a time may mend is told from others.
    pub(super) fn in_step(self, step: u32, micro_batch: u32) -> Self {
        match self {
            Self::Torch(source) if source.is_out_of_memory() => Self::TooLarge { step, micro_batch, source },
            other => other,
        }
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::Torch(error) if error.is_out_of_memory() => FailureClass::Oom,
            Self::TooLarge { .. } => FailureClass::Oom,
            Self::Torch(
                TorchError::NonFinite { .. }
                | TorchError::Sparsity(SparsityError::NonFiniteScore { .. })
                | TorchError::Masks(MasksError::Sparsity(SparsityError::NonFiniteScore { .. })),
            ) => FailureClass::Nan,
            Self::Torch(
                TorchError::ContextTooLong { .. }
                | TorchError::EpisodeTooLong { .. }
                | TorchError::Sparsity(_)
                | TorchError::Masks(MasksError::Sparsity(_)),
            )
            | Self::NotMoved { .. } => FailureClass::BadConfig,
            Self::Torch(TorchError::Task(TaskError::Program { .. } | TaskError::Reward { .. })) => {
                FailureClass::Task
            }
            Self::Torch(
                TorchError::Data(_)
                | TorchError::Masks(_)
                | TorchError::Tensor { .. }
                | TorchError::Task(_)
                | TorchError::NoContext
                | TorchError::NoSuchToken { .. },
            )
            | Self::NotYetMoved { .. }
            | Self::NotABase { .. }
            | Self::Changed { .. } => FailureClass::BadInput,
            Self::Store(error) if error.is_disk_full() => FailureClass::DiskFull,
            Self::Hub(error) => of_hub(error),
            Self::Store(_) | Self::NoArtifact { .. } | Self::NotFinished { .. } => FailureClass::Store,
            Self::Torch(_) | Self::Device(_) | Self::NotRepeated { .. } | Self::OtherInputs { .. } => {
                FailureClass::Infra
            }
        }
    }

    /// Advice, where there is some.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Torch(TorchError::NonFinite { .. }) => {
                Some("the run diverged: a lower `optimizer.lr` or a `clip_norm` may help".into())
            }
            Self::Torch(TorchError::Sparsity(SparsityError::NonFiniteScore { .. })) => Some(
                "a gradient of the base is too large for its type: try `model.dtype = \"float32\"`".into(),
            ),
            Self::Torch(TorchError::Overflow { .. }) => Some("use the type float32 (--dtype float32)".into()),
            Self::Torch(TorchError::ContextTooLong { .. } | TorchError::EpisodeTooLong { .. }) => {
                Some("shorten the prompts, or lower `sampling.max_tokens` or the number of turns".into())
            }
            Self::Torch(TorchError::Data(error)) => error.hint(),
            Self::Torch(TorchError::Masks(error)) => error.hint(),
            Self::Torch(TorchError::Task(error)) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Hub(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::NoArtifact { .. } | Self::NotFinished { .. } => {
                Some("finish it first: tickets sweep MANIFEST".into())
            }
            Self::NotYetMoved { .. } => Some(
                "sweep that run first, or put it into the same grid, where it goes first; then sweep this one again".into(),
            ),
            Self::NotABase { .. } => Some(
                "name by `model.run` the whole id of a finished run in the same results folder, and sweep that one first".into(),
            ),
            Self::NotMoved { .. } => Some(
                "name by `mask.run` the whole id of a finished full run on the same base, and sweep that one first".into(),
            ),
            Self::TooLarge { .. } => Some(
                "one rollout is too much: shorten conversations, or lower `grpo.rollouts_per_step`, whose keys and values are held together".into(),
            ),
            Self::Changed { .. } => Some("run the command again: its new contents make a new run".into()),
            _ => None,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let hint = error.hint();
        let code = if error.class() == FailureClass::DiskFull { Code::Store } else { Code::Environment };
        Self::new(code, error, hint)
    }
}

/// What will not go better by itself is an input, or a configuration, that has to be put right.
fn of_hub(error: &HubError) -> FailureClass {
    match error {
        HubError::Stopped => FailureClass::Interrupted,
        HubError::Unpinned { .. } | HubError::UnpinnedData { .. } => FailureClass::BadConfig,
        error if error.is_disk_full() => FailureClass::DiskFull,
        error if error.may_pass() => FailureClass::Infra,
        _ => FailureClass::BadInput,
    }
}

impl From<RunError> for StageFailure {
    fn from(error: RunError) -> Self {
        let mut failure = Self::from_error(error.class(), &error);
        failure.hint = error.hint();
        failure
    }
}
