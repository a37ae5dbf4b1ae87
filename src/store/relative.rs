//! Runs that share a trajectory: what each run is, and what another one can take over from it.
//!
//! In: the record that a worker leaves about a run (`spec.json`), a trajectory's id. Out: verified rows and saved states.
//! Invariant: reading changes nothing; what does not verify is left out, and another attempt is looked at.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::checkpoint::{self, Checkpoint};
use super::layout::{FINAL, SPEC, check_name};
use super::record::{self, Row};
use super::{Artifact, Home, Store, StoreError, fs};

/// What the record about a run says.
const WHAT: [&str; 4] = ["label", "manifest", "stages", "settings"];

/// A run of the same trajectory.
#[derive(Debug)]
pub struct Relative {
    /// Its id.
    pub run: String,
    /// The id of its evaluation.
    pub eval: String,
    /// The whole record about it: `label`, `manifest`, `stages`, `settings`.
    pub record: Map<String, Value>,
    /// What the trainer said with the newest state: device, threads, versions.
    pub meta: Value,
    /// Whether it is finished.
    pub finished: bool,
    /// The rows of its steps.
    pub metrics: Vec<Row>,
    /// The rows of its evaluations.
    pub evals: Vec<Row>,
    /// Its saved states, by the number of complete steps.
    pub states: BTreeMap<u32, SavedState>,
}

/// The state of a run after some steps.
#[derive(Debug)]
pub enum SavedState {
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// What a finished run ended with.
    Final(Box<Artifact>),
}

impl SavedState {
    /// Reads a file and verifies its digest.
    ///
    /// # Errors
    /// When there is no such file or its bytes are not those of the marker.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.read(file),
            Self::Final(result) => result.read(&format!("{FINAL}/{file}")),
        }
    }

    /// What the trainer said about it.
    pub fn meta(&self) -> &Value {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.meta(),
            Self::Final(result) => result.meta(),
        }
    }
}

impl Store {
    /// Writes down what a run is, once: later records of the same run change nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe_run(&self, run: &str, what: Map<String, Value>) -> Result<(), StoreError> {
        self.home.writable()?;
        let folder = self.home.layout.run(check_name(run)?);
        self.home.create_folders(&folder)?;
        let path = folder.join(SPEC);
        if self.described(run)?.is_none() {
            return fs::replace(&path, record::seal(what).as_bytes());
        }
        // Whoever wrote it may have been killed before its name was durable.
        fs::sync_folder(&folder)
    }

    /// What a run is, as it was written down when it was first begun; `None` when that is not known, or damaged.
    ///
    /// # Errors
    /// When the record cannot be read or has a newer format.
    pub fn described(&self, run: &str) -> Result<Option<Map<String, Value>>, StoreError> {
        let path = self.home.layout.run(check_name(run)?).join(SPEC);
        let Some(bytes) = fs::read_optional(&path)? else { return Ok(None) };
        let whole = |found: &Map<String, Value>| WHAT.iter().all(|key| found.contains_key(*key));
        match record::unseal(&bytes, &path) {
            // A record that lacks a part is of no use, like a damaged one.
            Ok(found) => Ok(Some(found).filter(whole)),
            Err(StoreError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What every described run is, by id. A run that cannot be read is left out: what others are does not depend on it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn records(&self) -> Result<BTreeMap<String, Map<String, Value>>, StoreError> {
        let known = |run: String| Some((self.described(&run).ok()??, run));
        Ok(self.runs()?.into_iter().filter_map(known).map(|(record, run)| (run, record)).collect())
    }

    /// The other runs of a trajectory that have a saved state, finished ones first, then by id. What cannot be read is left
    /// out: taking steps over saves time, and nothing depends on it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn relatives(&self, trajectory: &str, run: &str) -> Result<Vec<Relative>, StoreError> {
        let others = self.runs()?.into_iter().filter(|other| other != run);
        Ok(self.relatives_among(trajectory, others))
    }

    /// [`Self::relatives`] among these runs.
    pub fn relatives_among(&self, trajectory: &str, runs: impl IntoIterator<Item = String>) -> Vec<Relative> {
        let relative = |other: String| {
            let record = self.described(&other).ok()??;
            let same = record["stages"]["trajectory"].as_str() == Some(trajectory);
            if same { self.relative(other, record).ok()? } else { None }
        };
        let mut found = runs.into_iter().filter_map(relative).collect::<Vec<_>>();
        found.sort_by_key(|relative| !relative.finished);
        found
    }

    fn relative(&self, run: String, record: Map<String, Value>) -> Result<Option<Relative>, StoreError> {
        let mut states = BTreeMap::new();
        let mut newest = None;
        for (step, attempt) in checkpoint::all(&self.home, &run)? {
            let Some(found) = sound(Checkpoint::of(&self.home, &run, attempt, step))? else { continue };
            if newest.is_none() {
                newest = sound(rows_of(&self.home, &found))?.map(|rows| (found.meta().clone(), rows));
            }
            states.entry(step).or_insert(SavedState::Checkpoint(Box::new(found)));
        }
        let result = sound(self.load_result(&run))?.flatten();
        let finished = result.is_some();
        let read = |result: Artifact| {
            let rows = rows_of_result(&result)?;
            Ok((result, rows))
        };
        let ended = match result {
            Some(result) => sound(read(result))?,
            None => None,
        };
        let (meta, (metrics, evals)) = match ended {
            Some((result, rows)) => {
                let meta = result.meta().clone();
                let last = rows.0.last().and_then(|row| row.get("step")?.as_u64()?.try_into().ok());
                if let Some(step) = last {
                    states.insert(step, SavedState::Final(Box::new(result)));
                }
                (meta, rows)
            }
            None => match newest {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let eval = record["stages"]["eval"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Relative { run, eval, record, meta, finished, metrics, evals, states }))
    }
}

/// Rows of steps and of evaluations.
type Rows = (Vec<Row>, Vec<Row>);

fn rows_of(home: &Home, checkpoint: &Checkpoint) -> Result<Rows, StoreError> {
    let (metrics, evals) = checkpoint.rows(home)?;
    let parse = |bytes: &[u8]| record::parse_rows(bytes, checkpoint.folder());
    Ok((parse(&metrics)?, parse(&evals)?))
}

fn rows_of_result(result: &Artifact) -> Result<Rows, StoreError> {
    use super::layout::{EVALS, METRICS};
    // Another run's damage is not this one's to mend: nothing is moved.
    let rows = |file: &str| record::parse_rows(&result.peek(file)?, &result.path(file));
    Ok((rows(METRICS)?, rows(EVALS)?))
}

/// What verifies; `None` for damage.
fn sound<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
