//! A task of a manifest, ready to use: its names read and checked against the digest that the plan saw.

use std::path::PathBuf;

use crate::exit::{Code, Failure};
use crate::task::{NameSource, NamesSpec, Serving, Task, TaskError, TaskSpec};

use super::DataError;
use super::names::names_and_digest;

/// Why a task cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenTaskError {
    /// The list of names.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The settings and the names do not serve.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The list changed after the plan was made.
    #[error("{} changed after the plan was made", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl From<OpenTaskError> for Failure {
    fn from(error: OpenTaskError) -> Self {
        match error {
            OpenTaskError::Data(error) => error.into(),
            OpenTaskError::Task(error) => error.into(),
            OpenTaskError::Changed { .. } => {
                Self::new(Code::Environment, error, Some("run the command again".into()))
            }
        }
    }
}

/// Reads what `spec` names and builds the task.
///
/// # Errors
/// When the names cannot be read, have changed, or do not serve.
pub fn open_task(spec: &TaskSpec, serving: Serving) -> Result<Task, OpenTaskError> {
    let _ = serving;
    let TaskSpec::AlphabetSort(sort) = spec else { return Ok(Task::new(spec, NameSource::Shipped)?) };
    let names = match &sort.names {
        NamesSpec::Shipped => NameSource::Shipped,
        NamesSpec::Hub(_) => return Err(TaskError::NeedsData { task: "alphabet_sort" }.into()),
        NamesSpec::File { path, digest } => {
            let (rows, found) = names_and_digest(path)?;
            if found != *digest {
                return Err(OpenTaskError::Changed { path: path.clone() });
            }
            NameSource::Rows(rows)
        }
    };
    Ok(Task::new(spec, names)?)
}
