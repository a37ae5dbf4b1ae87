//! A task of a manifest, ready to use: its data read and checked against the digest that the plan saw.

use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};
use crate::external::Program;
use crate::task::{
    DataSpec, HubDataset, Marking, NameSource, NamesSpec, QuestionSpec, Questions, Serving, Task, TaskError,
    TaskSpec,
};

use super::DataError;
use super::error::read;
use super::hub::{self, DataFile, HubError};
use super::rows::{names_of, questions_of};

/// Why a task cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenTaskError {
    /// Rows of names or of questions.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A dataset of a hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The settings and the data do not serve.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A file changed after the plan was made.
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
            OpenTaskError::Hub(error) => error.into(),
            OpenTaskError::Task(error) => error.into(),
            OpenTaskError::Changed { .. } => {
                Self::new(Code::Environment, error, Some("run the command again".into()))
            }
        }
    }
}

/// Files of rows, and what their bytes have to be.
enum Source<'s> {
    /// A user's file, with the digest that the plan saw.
    File { path: &'s Path, digest: &'s str },
    /// Files of the cache.
    Hub(Vec<DataFile>),
}

impl Source<'_> {
    /// The files of a dataset, as the cache has them.
    fn of_hub(dataset: &HubDataset) -> Result<Self, OpenTaskError> {
        Ok(Self::Hub(hub::cached_dataset(&hub::Settings::from_env()?.cache, dataset)?))
    }

    fn files(&self) -> Vec<&Path> {
        match self {
            Self::File { path, .. } => vec![path],
            Self::Hub(files) => files.iter().map(|file| file.path.as_path()).collect(),
        }
    }

    /// Checks the bytes of one of the files.
    fn check(&self, at: usize, bytes: &[u8]) -> Result<(), OpenTaskError> {
        match self {
            Self::File { path, digest } if blake3::hash(bytes).to_hex().as_str() != *digest => {
                Err(OpenTaskError::Changed { path: (*path).into() })
            }
            Self::File { .. } => Ok(()),
            Self::Hub(files) => Ok(files[at].check(bytes)?),
        }
    }
}

/// Reads what `spec` names and builds the task. Datasets of a hub are those of the cache: nothing is asked of a network.
///
/// # Errors
/// When the data cannot be read, has changed, is not in the cache, or does not serve; when a program cannot be started.
pub fn open_task(spec: &TaskSpec, serving: Serving) -> Result<Task, OpenTaskError> {
    match spec {
        TaskSpec::AlphabetSort(sort) => {
            let source = match &sort.names {
                NamesSpec::Shipped => return Ok(Task::new(spec, NameSource::Shipped)?),
                NamesSpec::Hub(dataset) => Source::of_hub(dataset)?,
                NamesSpec::File { path, digest } => Source::File { path, digest },
            };
            let rows = names_of(&source.files(), |at, bytes| source.check(at, bytes))?;
            Ok(Task::new(spec, NameSource::Rows(rows))?)
        }
        TaskSpec::Gsm8k(questions) => made_of(questions, Marking::Gsm8k),
        TaskSpec::Math(questions) => made_of(questions, Marking::Math),
        TaskSpec::Program(program) => {
            let bytes = read(&program.path)?;
            if blake3::hash(&bytes).to_hex().as_str() != program.digest {
                return Err(OpenTaskError::Changed { path: program.path.clone() });
            }
            // The standard error of a stage is its run's log.
            let log = Box::new(|line: &str| eprintln!("{line}"));
            let started = Program::of(program, serving, log).map_err(TaskError::from)?;
            Ok(Task::of(started, program.order))
        }
        TaskSpec::Arithmetic(_) | TaskSpec::Reverse(_) | TaskSpec::Countdown(_) => {
            Ok(Task::new(spec, NameSource::Shipped)?)
        }
    }
}

/// The task of a dataset of questions.
fn made_of(spec: &QuestionSpec, marking: Marking) -> Result<Task, OpenTaskError> {
    let (source, name) = match &spec.data {
        DataSpec::Hub(dataset) => (Source::of_hub(dataset)?, dataset.id.clone()),
        DataSpec::File { path, digest } => (Source::File { path, digest }, path.display().to_string()),
    };
    let (question, answer) = (spec.question.as_deref(), spec.answer.as_deref());
    let read = questions_of(&source.files(), question, answer, |at, bytes| source.check(at, bytes))?;
    let task = Questions::new(marking, &spec.system_prompt, read.rows, &name, &read.columns[1])?;
    Ok(Task::of(task, spec.order))
}
