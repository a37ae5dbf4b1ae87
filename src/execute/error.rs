//! What can go wrong with a sweep as a whole; what goes wrong with one run is a [`super::StageFailure`].

use std::path::PathBuf;

use crate::exit::{Code, Failure};
use crate::store::StoreError;

/// A failure of the executor.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The results folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker process cannot be started at all.
    #[error("cannot start a worker process from {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Signal handlers cannot be installed.
    #[error("cannot watch for Ctrl-C")]
    Signals(#[source] std::io::Error),
}

impl ExecuteError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Spawn { .. } => {
                Some("was the program moved or rebuilt while it ran? Run the command again".to_owned())
            }
            Self::Signals(_) => None,
        }
    }
}

impl From<ExecuteError> for Failure {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Store(error) => error.into(),
            other => {
                let hint = other.hint();
                Self::new(Code::Environment, other, hint)
            }
        }
    }
}
