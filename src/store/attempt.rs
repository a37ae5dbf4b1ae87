//! Attempts: one execution of a run, from where the last one got to.
//!
//! In: rows, log lines, checkpoints, final files. Out: a finished or failed run. An attempt writes only inside its own
//! folder; only `DONE.json`, written once and last, lies beside it. Rows up to the adopted checkpoint
//! are copied, and rows after it are written again by repeating their steps, so the rows of a resumed run are those of
//! an uninterrupted one.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::artifact::{prepare_folder, records};
use super::checkpoint::{self, Adopted, Checkpoint, Keep};
use super::disk::DiskFile;
use super::layout::{DONE, EVALS, FINAL, FORGIVEN, LOG, METRICS, PROVENANCE, check_name};
use super::record::{self, FileRecord, Marker, Row};
use super::rows::RowsFile;
use super::{Home, Store, StoreError, fs, short};

/// One execution of a run.
pub struct Attempt {
    home: Home,
    run: String,
    number: u32,
    folder: PathBuf,
    resumed: Option<Checkpoint>,
    kept_bytes: u64,
    metrics: RowsFile,
    evals: RowsFile,
    log: DiskFile,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Attempt")
            .field("folder", &self.folder)
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Begins a new attempt of a run, from the newest checkpoint that verifies, if there is one.
    ///
    /// # Errors
    /// When the attempt's folder cannot be written.
    pub fn begin(&self, run: &str) -> Result<Attempt, StoreError> {
        self.home.writable()?;
        let home = self.home.clone();
        let mut adopted = checkpoint::adopt(&home, check_name(run)?)?;
        let number = new_attempt(&home, run)?;
        let folder = home.layout.attempt(run, number);
        let mut held = None;
        while let Some(found) = &adopted {
            held = found.checkpoint.hold(&home, number).inspect_err(|_| give_back(&folder))?;
            if held.is_some() {
                break;
            }
            // Another attempt, at work without a lease, has just removed it for a newer one.
            adopted = checkpoint::adopt(&home, run).inspect_err(|_| give_back(&folder))?;
        }
        let (mut resumed, metrics, evals) = match adopted {
            Some(Adopted { checkpoint, metrics, evals }) => (Some(checkpoint), metrics, evals),
            None => (None, Vec::new(), Vec::new()),
        };
        let mut fill = || {
            let metrics = RowsFile::create(&folder.join(METRICS), &metrics)?;
            let evals = RowsFile::create(&folder.join(EVALS), &evals)?;
            let log = fs::append_to(&folder.join(LOG))?;
            fs::sync_folder(&folder)?;
            // The rows that belong to it are there now.
            if let (Some(resumed), Some(held)) = (&mut resumed, &held) {
                resumed.take_in(&home, number, held)?;
            }
            Ok((metrics, evals, log))
        };
        let (metrics, evals, log) = fill().inspect_err(|_| give_back(&folder))?;
        Ok(Attempt { home, run: run.to_owned(), number, folder, resumed, kept_bytes: 0, metrics, evals, log })
    }

    /// What an attempt was made with, as it was noted; `None` when that is not known, or damaged.
    ///
    /// # Errors
    /// When the record cannot be read or has a newer format.
    pub fn provenance(&self, run: &str, attempt: u32) -> Result<Option<Map<String, Value>>, StoreError> {
        let path = self.home.layout.attempt(check_name(run)?, attempt).join(PROVENANCE);
        let Some(bytes) = fs::read_optional(&path)? else { return Ok(None) };
        match record::unseal(&bytes, &path) {
            Ok(found) => Ok(Some(found)),
            // It explains a result and is none: without it nothing is lost but the explanation.
            Err(StoreError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves the attempts of an unfinished run up to number `last` aside, so that the next one starts from the base. Later
    /// ones belong to somebody else.
    ///
    /// # Errors
    /// When they cannot be moved.
    pub fn set_attempts_aside(&self, run: &str, last: u32, why: &str) -> Result<(), StoreError> {
        self.home.writable()?;
        let mut numbers = checkpoint::attempts(&self.home, check_name(run)?)?;
        numbers.retain(|number| *number <= last);
        for number in &numbers {
            let folder = self.home.layout.attempt(run, *number);
            self.home.quarantine(&folder, &format!("run-{}", short(run)), why)?;
        }
        // An empty folder keeps the count: no later attempt gets the number of one that is gone.
        if let Some(last) = numbers.last() {
            fs::create_folder_new(&self.home.layout.attempt(run, *last))?;
        }
        Ok(())
    }

    /// Records a failure that the attempt itself could not: its process was killed, or a stage that it needs failed. One
    /// that did not come to begin an attempt (`None`) counts as an attempt of its own.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn record_failure(&self, run: &str, attempt: Option<u32>, failure: &Value) -> Result<(), StoreError> {
        self.home.writable()?;
        let number = match attempt {
            Some(number) => number,
            None => new_attempt(&self.home, run)?,
        };
        write_failure(&self.home, run, number, failure)
    }

    /// Forgets the failure of a run's newest attempt, so that it counts as unfinished and is tried again from its newest
    /// checkpoint. The record stays, as `forgiven.json`. `false` when the run has not failed.
    ///
    /// # Errors
    /// When the record cannot be moved.
    pub fn forgive(&self, run: &str) -> Result<bool, StoreError> {
        self.home.writable()?;
        let Some(newest) = checkpoint::attempts(&self.home, check_name(run)?)?.last().copied() else {
            return Ok(false);
        };
        let path = self.home.layout.failure(run, newest);
        if !fs::exists(&path) {
            return Ok(false);
        }
        fs::rename(&path, &self.home.layout.attempt(run, newest).join(FORGIVEN))?;
        Ok(true)
    }
}

impl Attempt {
    /// The attempt's number, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The attempt's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint that this attempt goes on from.
    pub fn resumed(&self) -> Option<&Checkpoint> {
        self.resumed.as_ref()
    }

    /// Notes what the attempt is made with, once: a later record of the same attempt changes nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe(&self, provenance: Map<String, Value>) -> Result<(), StoreError> {
        fs::publish_file(&self.folder.join(PROVENANCE), record::seal(provenance).as_bytes())?;
        Ok(())
    }

    /// Has so many bytes of older checkpoints stay, evenly spread over the steps, for runs of the same trajectory. Without
    /// it only the newest stay, and none of a finished run.
    pub fn keep_bytes(&mut self, bytes: u64) {
        self.kept_bytes = bytes;
    }

    /// The rows of `metrics.jsonl` so far, those before the resume included.
    pub fn metrics_rows(&self) -> &[Row] {
        self.metrics.rows()
    }

    /// The rows of `eval.jsonl` so far, those before the resume included.
    pub fn eval_rows(&self) -> &[Row] {
        self.evals.rows()
    }

    /// Appends a row of a step's metrics.
    ///
    /// # Errors
    /// When it cannot be written; the rows before it stay whole.
    pub fn metrics(&mut self, row: &Row) -> Result<(), StoreError> {
        self.metrics.append(row)
    }

    /// Appends a row of an evaluation.
    ///
    /// # Errors
    /// When it cannot be written; the rows before it stay whole.
    pub fn eval(&mut self, row: &Row) -> Result<(), StoreError> {
        self.evals.append(row)
    }

    /// Appends a line to the attempt's log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(&mut self, line: &str) -> Result<(), StoreError> {
        let written = self.log.append(format!("{}\n", line.trim_end()).as_bytes());
        written.map_err(|e| StoreError::io("write", self.log.path(), e))
    }

    /// Writes a checkpoint: `step` steps are complete. The rows so far are forced to the disk before, and the newest
    /// `keep` checkpoints of the run stay. The same checkpoint written twice is written once.
    ///
    /// # Errors
    /// When it cannot be written; the checkpoints before it stay whole.
    pub fn checkpoint(
        &mut self,
        step: u32,
        files: &[(&str, &[u8])],
        meta: Value,
        keep: u32,
    ) -> Result<(), StoreError> {
        self.metrics.sync()?;
        self.evals.sync()?;
        let marker = Marker {
            kind: checkpoint::KIND.to_owned(),
            id: self.run.clone(),
            files: records(files)?,
            detail: json!({
                "attempt": self.number,
                "step": step,
                "metrics": self.metrics.mark().to_value(),
                "evals": self.evals.mark().to_value(),
            }),
            meta,
        };
        let parent = self.home.layout.checkpoints(&self.run, self.number);
        let target = self.home.layout.checkpoint(&self.run, self.number, step);
        if let Some(existing) = fs::read_optional(&target.join(DONE))? {
            // Asked to stop right after a checkpoint: the same once more is fine.
            if existing == marker.to_text().as_bytes() {
                return fs::sync_folder(&parent);
            }
            return Err(StoreError::damaged(
                &target,
                "this attempt wrote another checkpoint of this step before",
            ));
        }
        fs::create_folders_in(&self.folder, &parent)?;
        let prepared = prepare_folder(&parent, files, &marker)?;
        if !fs::publish_folder(&prepared, &target)? {
            fs::remove_leftover(&prepared)?;
            return Err(StoreError::damaged(&target, "it has no completion marker"));
        }
        checkpoint::prune(
            &self.home,
            &self.run,
            self.number,
            Keep { newest: keep.max(1) as usize, bytes: self.kept_bytes },
        )
    }

    /// Finishes the run: writes the final files, then the marker. The first result of a run wins; a second one with the
    /// same reproducible rows and the same files changes nothing, a different one is reported and its attempt goes to
    /// quarantine. Checkpoints are removed, but for those that [`Self::keep_bytes`] has stay.
    ///
    /// # Errors
    /// When something cannot be written; the run is not finished then.
    pub fn finish(mut self, files: &[(&str, &[u8])], meta: Value) -> Result<(), StoreError> {
        self.metrics.sync()?;
        self.evals.sync()?;
        let mut list = records(files)?
            .into_iter()
            .map(|(name, record)| (format!("{FINAL}/{name}"), record))
            .collect::<std::collections::BTreeMap<_, _>>();
        for (name, rows) in [(METRICS, &self.metrics), (EVALS, &self.evals)] {
            let mark = rows.mark();
            list.insert(name.to_owned(), FileRecord { bytes: mark.bytes, blake3: mark.blake3 });
        }
        let folder = self.folder.join(FINAL);
        let write = || {
            fs::create_folders(&folder)?;
            for (name, bytes) in files {
                fs::write_new(&folder.join(name), bytes)?;
            }
            fs::sync_folder(&folder)?;
            fs::sync_folder(&self.folder)
        };
        write().inspect_err(|_| give_back(&folder))?;

        let marker = Marker {
            kind: "run".to_owned(),
            id: self.run.clone(),
            files: list,
            detail: json!({
                "attempt": self.number,
                "metrics_digest": record::reproducible_digest(self.metrics.rows()),
                "evals_digest": record::reproducible_digest(self.evals.rows()),
            }),
            meta,
        };
        let store = Store { home: self.home.clone() };
        loop {
            if let Some(first) = store.result(&self.run)? {
                self.compare(&first, &marker)?;
                // Whoever finished first may have been killed before the marker's name was durable.
                fs::sync_folder(&self.home.layout.run(&self.run))?;
                break;
            }
            let path = self.home.layout.run(&self.run).join(DONE);
            let published = fs::publish_file(&path, marker.to_text().as_bytes());
            // It may have its name although something went wrong later: then it vouches for the files.
            if published.is_err() && !fs::exists(&path) {
                give_back(&folder);
            }
            if published? {
                break;
            }
        }
        // The run is finished; checkpoints that stay too long are only untidy.
        let keep = Keep { newest: 0, bytes: self.kept_bytes };
        if let Err(error) = checkpoint::prune(&self.home, &self.run, self.number, keep) {
            self.home
                .notice(&format!("run {} keeps more checkpoints than it should: {error}", short(&self.run)));
        }
        Ok(())
    }

    /// Compares this attempt's result with an earlier one; a difference is reported and this attempt moved aside.
    fn compare(&self, first: &super::Artifact, second: &Marker) -> Result<(), StoreError> {
        let contents = |files: &std::collections::BTreeMap<String, FileRecord>| {
            files
                .iter()
                .filter(|(name, _)| name.starts_with(FINAL))
                .map(|(n, r)| (n.clone(), r.clone()))
                .collect::<Vec<_>>()
        };
        let same = contents(first.files()) == contents(&second.files)
            && first.detail()["metrics_digest"] == second.detail["metrics_digest"]
            && first.detail()["evals_digest"] == second.detail["evals_digest"];
        if same {
            return Ok(());
        }
        let why = format!(
            "a second result of run {} (attempt {}) differs from the first (non-determinism, or another build); the first is kept",
            short(&self.run),
            self.number
        );
        fs::write_new(&self.folder.join(DONE), second.to_text().as_bytes())?;
        self.home.quarantine(&self.folder, &format!("run-{}", short(&self.run)), &why)?;
        Ok(())
    }

    /// Ends the attempt as failed. `failure` is an object with `class`, `step` and `message`.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn fail(mut self, failure: &Value) -> Result<(), StoreError> {
        // What is known so far is worth keeping, but a disk that cannot take it must not hide the failure itself.
        let _ = self.metrics.sync();
        let _ = self.evals.sync();
        write_failure(&self.home, &self.run, self.number, failure)
    }
}

/// Makes the folder of a new attempt; of two that begin at the same time each gets its own.
fn new_attempt(home: &Home, run: &str) -> Result<u32, StoreError> {
    home.create_folders(&home.layout.attempts(check_name(run)?))?;
    let mut number = checkpoint::attempts(home, run)?.last().copied().unwrap_or(0) + 1;
    while !fs::create_folder_new(&home.layout.attempt(run, number))? {
        number += 1;
    }
    Ok(number)
}

/// Removes what could not be written whole. Most likely the disk is full: it is of no use and takes the space that another
/// try needs.
fn give_back(folder: &Path) {
    let _ = fs::remove_folder(folder);
}

fn write_failure(home: &Home, run: &str, attempt: u32, failure: &Value) -> Result<(), StoreError> {
    let mut record = Map::new();
    for key in ["class", "step", "message", "hint"] {
        record.insert(key.to_owned(), failure[key].clone());
    }
    record.insert("run".to_owned(), json!(run));
    record.insert("attempt".to_owned(), json!(attempt));
    fs::replace(&home.layout.failure(run, attempt), record::seal(record).as_bytes())
}
