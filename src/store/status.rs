//! What state a run is in and what it has written: derived from files, never stored.
//!
//! In: a run id. Out: its state, its rows, its log. Done: `DONE.json` is valid and every file it lists has its size.
//! Failed: the newest attempt has a `failed.json`. Resumable: some checkpoint looks complete. Else pending.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::layout::{DONE, EVALS, FINAL, LOG, METRICS, check_name};
use super::record::{self, Row};
use super::{Artifact, Store, StoreError, checkpoint, fs, short};

/// The state of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Nothing to go on from.
    Pending,
    /// A checkpoint to go on from.
    Resumable {
        /// Steps that are complete.
        step: u32,
    },
    /// The newest attempt failed.
    Failed {
        /// The failure class, as in `nan`.
        class: String,
        /// The step at which it failed.
        step: Option<u32>,
        /// Why.
        message: String,
    },
    /// Finished.
    Done,
}

impl RunState {
    /// The state in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Resumable { .. } => "resumable",
            Self::Failed { .. } => "failed",
            Self::Done => "done",
        }
    }

    /// The step that the state is about.
    pub fn step(&self) -> Option<u32> {
        match self {
            Self::Resumable { step } => Some(*step),
            Self::Failed { step, .. } => *step,
            Self::Pending | Self::Done => None,
        }
    }
}

/// What a run has written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRows {
    /// The attempt that wrote it: the one that finished, else the newest.
    pub attempt: Option<u32>,
    /// The rows of the steps.
    pub metrics: Vec<Row>,
    /// The rows of the evaluations.
    pub evals: Vec<Row>,
    /// What the trainer said at the end, when the run is finished.
    pub done: Option<Value>,
}

impl Store {
    /// The result of a finished run: `metrics.jsonl`, `eval.jsonl` and `final/...`. A damaged result is moved aside and
    /// counts as absent.
    ///
    /// # Errors
    /// When the store is open for reading only and the result is damaged, or it cannot be read.
    pub fn result(&self, run: &str) -> Result<Option<Artifact>, StoreError> {
        let marker_path = self.home.layout.run(check_name(run)?).join(DONE);
        let loaded = self.load_result(run);
        match loaded {
            Err(error @ StoreError::Damaged { .. }) if self.home.writable => {
                let why = format!("the result of run {} cannot be used: {error}", short(run));
                self.home.quarantine(&marker_path, &format!("run-{}-marker", short(run)), &why)?;
                Ok(None)
            }
            other => other,
        }
    }

    pub(super) fn load_result(&self, run: &str) -> Result<Option<Artifact>, StoreError> {
        let path = self.home.layout.run(run).join(DONE);
        let Some(bytes) = fs::read_optional(&path)? else { return Ok(None) };
        let marker = record::Marker::parse(&bytes, "run", run, &path)?;
        let Some(attempt) = marker.detail["attempt"].as_u64().and_then(|n| u32::try_from(n).ok()) else {
            return Err(StoreError::damaged(&path, "it does not say which attempt finished"));
        };
        Artifact::load(&self.home, self.home.layout.attempt(run, attempt), path, "run", run)
    }

    /// The state of a run.
    ///
    /// # Errors
    /// When its files cannot be read, or are damaged and the store is open for reading only.
    pub fn run_state(&self, run: &str) -> Result<RunState, StoreError> {
        if self.result(run)?.is_some() {
            return Ok(RunState::Done);
        }
        if let Some(failure) = self.failure(run)? {
            return Ok(RunState::Failed {
                class: failure["class"].as_str().unwrap_or("infra").to_owned(),
                step: failure["step"].as_u64().map(|step| step as u32),
                message: failure["message"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(match self.saved_step(run)? {
            Some(step) => RunState::Resumable { step },
            None => RunState::Pending,
        })
    }

    /// The step of the newest checkpoint that looks complete, whatever the run's state.
    ///
    /// # Errors
    /// When the checkpoints cannot be read.
    pub fn saved_step(&self, run: &str) -> Result<Option<u32>, StoreError> {
        checkpoint::newest_step(&self.home, check_name(run)?)
    }

    /// The record of the newest attempt's failure: `class`, `step`, `message`, `hint`, `attempt`.
    ///
    /// # Errors
    /// As [`Self::run_state`].
    pub fn failure(&self, run: &str) -> Result<Option<Value>, StoreError> {
        match checkpoint::attempts(&self.home, check_name(run)?)?.last() {
            Some(newest) => self.failure_of(run, *newest),
            None => Ok(None),
        }
    }

    /// The record of one attempt's failure.
    fn failure_of(&self, run: &str, attempt: u32) -> Result<Option<Value>, StoreError> {
        let path = self.home.layout.failure(run, attempt);
        let Some(bytes) = fs::read_optional(&path)? else { return Ok(None) };
        match record::unseal(&bytes, &path) {
            Err(error @ StoreError::Damaged { .. }) if self.home.writable => {
                self.home.quarantine(&path, &format!("failed-{}", short(run)), &error.to_string())?;
                Ok(None)
            }
            other => Ok(Some(Value::Object(other?))),
        }
    }

    /// The failures of a run's attempts, by attempt: what has gone wrong so far.
    ///
    /// # Errors
    /// As [`Self::run_state`].
    pub fn failures(&self, run: &str) -> Result<BTreeMap<u32, Value>, StoreError> {
        let mut failures = BTreeMap::new();
        for attempt in checkpoint::attempts(&self.home, check_name(run)?)? {
            if let Some(failure) = self.failure_of(run, attempt)? {
                failures.insert(attempt, failure);
            }
        }
        Ok(failures)
    }

    /// What a run has written so far, or what it ended with.
    ///
    /// # Errors
    /// When rows are damaged (a last line that is cut short is not damage) or cannot be read.
    pub fn run_rows(&self, run: &str) -> Result<RunRows, StoreError> {
        if let Some(result) = self.result(run)? {
            let rows = |file: &str| record::parse_rows(&result.read(file)?, &result.path(file));
            return Ok(RunRows {
                attempt: result.detail()["attempt"].as_u64().map(|n| n as u32),
                metrics: rows(METRICS)?,
                evals: rows(EVALS)?,
                done: Some(result.meta().clone()),
            });
        }
        let Some(attempt) = checkpoint::attempts(&self.home, run)?.last().copied() else {
            return Ok(RunRows::default());
        };
        let rows = |file: &str| {
            let path = self.home.layout.attempt(run, attempt).join(file);
            record::parse_rows(&fs::read_optional(&path)?.unwrap_or_default(), &path)
        };
        Ok(RunRows { attempt: Some(attempt), metrics: rows(METRICS)?, evals: rows(EVALS)?, done: None })
    }

    /// A file that a finished run left behind, its digest verified; `None` when the run is not done.
    ///
    /// # Errors
    /// When the file is damaged or was never written.
    pub fn final_file(&self, run: &str, file: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.result(run)?.map(|result| result.read(&format!("{FINAL}/{file}"))).transpose()
    }

    /// Where such a file lies, its digest verified, for what reads it piece by piece; `None` when the run is not done.
    ///
    /// # Errors
    /// As [`Self::final_file`].
    pub fn final_path(&self, run: &str, file: &str) -> Result<Option<std::path::PathBuf>, StoreError> {
        let Some(result) = self.result(run)? else { return Ok(None) };
        let name = format!("{FINAL}/{file}");
        result.verify_file(&name)?;
        Ok(Some(result.path(&name)))
    }

    /// The number of the attempt that a sweep would begin next.
    ///
    /// # Errors
    /// When the run's folder cannot be read.
    pub fn next_attempt(&self, run: &str) -> Result<u32, StoreError> {
        Ok(checkpoint::attempts(&self.home, check_name(run)?)?.last().copied().unwrap_or(0) + 1)
    }

    /// The last lines of the newest attempt: its log, then what its process wrote on stderr.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log_tail(&self, run: &str, lines: usize) -> Result<Vec<String>, StoreError> {
        let attempt = self.next_attempt(run)? - 1;
        let mut both = tail(&self.home.layout.attempt(run, attempt).join(LOG), lines)?;
        both.extend(tail(&self.home.layout.attempt_log(run, attempt), lines)?);
        Ok(both.split_off(both.len().saturating_sub(lines)))
    }

    /// The ids of all runs that the store has a folder for, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn runs(&self) -> Result<Vec<String>, StoreError> {
        let mut names = fs::list(&self.home.layout.runs())?;
        names.retain(|name| check_name(name).is_ok());
        Ok(names)
    }

    /// The one run whose id begins with `prefix`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_run(&self, prefix: &str) -> Result<String, StoreError> {
        let mut found = self.runs()?;
        found.retain(|id| id.starts_with(prefix));
        match <[String; 1]>::try_from(found) {
            Ok([id]) => Ok(id),
            Err(found) => Err(StoreError::NoSuchRun {
                path: self.results().to_path_buf(),
                prefix: prefix.to_owned(),
                candidates: found.iter().map(|id| short(id).to_owned()).collect(),
            }),
        }
    }
}

/// The last lines of a text file; none when it does not exist.
pub fn tail(path: &std::path::Path, lines: usize) -> Result<Vec<String>, StoreError> {
    let bytes = fs::read_optional(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
}

/// The failure as an object, for [`super::Attempt::fail`] and [`Store::record_failure`].
pub fn failure_record(class: &str, step: Option<u32>, message: &str, hint: Option<&str>) -> Value {
    let mut record = Map::new();
    record.insert("class".to_owned(), class.into());
    record.insert("step".to_owned(), step.into());
    record.insert("message".to_owned(), message.into());
    record.insert("hint".to_owned(), hint.into());
    Value::Object(record)
}
