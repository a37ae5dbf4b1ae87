//! The audit of one run: its record, its result, its attempts and their checkpoints.
//!
//! In: a run's folder. Out: findings. What belongs together is moved together: a result is its marker, which goes first,
//! and the attempt that the marker names; a checkpoint is its folder; a record is a file.

use std::path::Path;

use super::super::layout::{DONE, EVALS, FAILED, FINAL, FORGIVEN, LOG, METRICS, PROVENANCE, SPEC};
use super::super::leased::{Footing, Subject};
use super::super::rows::RowsMark;
use super::super::{StoreError, checkpoint as checkpoints, fs, short};
use super::check::{self, Fault, Seen};
use super::{Auditor, FindingKind, Unit, remember};

/// Sealed records that an attempt's folder may hold.
const RECORDS: [&str; 3] = [FAILED, FORGIVEN, PROVENANCE];

impl Auditor {
    pub(super) fn run(&mut self, run: &str) -> Result<(), StoreError> {
        self.found.checked.runs += 1;
        let layout = self.home.layout.clone();
        let folder = layout.run(run);
        let footing = self.store.described(run).ok().flatten().map(|record| Footing::of_record(&record));
        self.description(run)?;

        let marker_path = folder.join(DONE);
        let judge = || check::result(&marker_path, run, |number| layout.attempt(run, number));
        let (faults, seen) = check::steady(&marker_path, &folder, judge);
        let finished = seen.as_ref().and_then(|seen| check::attempt_of(&seen.marker));
        let whole = faults.is_empty();
        let mut paths = vec![(marker_path, format!("run-{}-marker", short(run)))];
        paths.extend(finished.map(|number| (layout.attempt(run, number), format!("run-{}", short(run)))));
        let gone = self.settle(faults, &Unit { paths, subject: Subject::Run(run.to_owned()) })?;
        if let Some(seen) = &seen {
            self.count(seen.tally);
            if let (true, Some(number)) = (whole, finished) {
                let prefix = format!("{FINAL}/");
                let named = |name: &str| seen.marker.files.contains_key(&format!("{prefix}{name}"));
                self.strangers(&layout.attempt(run, number).join(FINAL), &named);
                if let Some(footing) = &footing {
                    remember(&mut self.needed, run, footing);
                }
            }
        }

        for number in checkpoints::attempts(&self.home, run)? {
            if !(gone && finished == Some(number)) {
                self.attempt(run, number, finished == Some(number))?;
            }
        }
        let known = ["attempts", "logs", SPEC, DONE];
        self.strangers(&folder, &|name| known.contains(&name));
        self.strangers(&layout.attempts(run), &|name| name.parse::<u32>().is_ok());
        let log = |name: &str| {
            let number = name.strip_prefix("attempt-").and_then(|rest| rest.strip_suffix(".txt"));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        self.strangers(&folder.join("logs"), &log);
        Ok(())
    }

    /// The record of what a run is.
    fn description(&mut self, run: &str) -> Result<(), StoreError> {
        let path = self.home.layout.run(run).join(SPEC);
        match check::sealed(&path) {
            Ok(None) => {
                let what =
                    "what the run is was not written down, so `gc` keeps every artifact while it is there";
                self.note(FindingKind::Missing, &path, what.to_owned());
                Ok(())
            }
            Ok(Some(bytes)) if matches!(self.store.described(run), Ok(Some(_))) => {
                self.found.checked.files += 1;
                self.found.checked.bytes += bytes;
                Ok(())
            }
            Ok(Some(_)) => {
                let fault = Fault::damaged(&path, "it lacks label, manifest, stages or settings");
                self.file(fault, &path, &format!("spec-{}", short(run)), run)
            }
            Err(fault) => self.file(fault, &path, &format!("spec-{}", short(run)), run),
        }
    }

    /// A sealed record, which may be absent.
    pub(super) fn record(&mut self, path: &Path, name: &str, run: &str) -> Result<(), StoreError> {
        match check::sealed(path) {
            Ok(bytes) => {
                self.found.checked.files += u64::from(bytes.is_some());
                self.found.checked.bytes += bytes.unwrap_or(0);
                Ok(())
            }
            Err(fault) => self.file(fault, path, name, run),
        }
    }

    fn file(&mut self, fault: Fault, path: &Path, name: &str, run: &str) -> Result<(), StoreError> {
        let paths = vec![(path.to_path_buf(), name.to_owned())];
        self.settle(vec![fault], &Unit { paths, subject: Subject::Run(run.to_owned()) }).map(|_| ())
    }

    /// An attempt; the rows of one that finished were checked with the result.
    fn attempt(&mut self, run: &str, number: u32, finished: bool) -> Result<(), StoreError> {
        let folder = self.home.layout.attempt(run, number);
        for name in RECORDS {
            let stem = name.trim_end_matches(".json");
            self.record(&folder.join(name), &format!("{stem}-{}", short(run)), run)?;
        }
        let parent = self.home.layout.checkpoints(run, number);
        let mut good: Vec<Seen> = Vec::new();
        for name in self.folders(&parent)? {
            let Ok(step) = name.parse::<u32>() else { continue };
            good.extend(self.checkpoint(run, number, step)?);
        }
        self.strangers(&parent, &|name| name.parse::<u32>().is_ok());
        if !finished {
            for (key, file) in [("metrics", METRICS), ("evals", EVALS)] {
                let marks = good.iter().filter_map(|seen| check::mark(&seen.marker, key));
                self.rows(run, &folder.join(file), marks.max_by_key(|mark| mark.bytes))?;
            }
        }
        let known = [METRICS, EVALS, LOG, FINAL, "checkpoints"];
        self.strangers(&folder, &|name| known.contains(&name) || RECORDS.contains(&name));
        Ok(())
    }

    /// A checkpoint; what its marker led to when it is whole.
    fn checkpoint(&mut self, run: &str, attempt: u32, step: u32) -> Result<Option<Seen>, StoreError> {
        let layout = &self.home.layout;
        let (folder, of) = (layout.checkpoint(run, attempt, step), layout.attempt(run, attempt));
        let judge = || check::checkpoint(&folder, &of, run, attempt, step);
        let (faults, seen) = check::steady(&folder.join(DONE), &folder, judge);
        let whole = faults.is_empty();
        self.found.checked.checkpoints += u64::from(seen.is_some());
        let name = format!("checkpoint-{}-{step}", short(run));
        self.settle(
            faults,
            &Unit { paths: vec![(folder.clone(), name)], subject: Subject::Run(run.to_owned()) },
        )?;
        let Some(seen) = seen else { return Ok(None) };
        self.count(seen.tally);
        if whole {
            self.strangers(&folder, &|name| name == DONE || seen.marker.files.contains_key(name));
        }
        Ok(Some(seen).filter(|_| whole))
    }

    /// The rows of an attempt that did not finish. A last line that was cut short is not damage. Rows behind the last
    /// checkpoint are written again in any case, so a repair puts back those up to it: they verified.
    fn rows(&mut self, run: &str, path: &Path, mark: Option<RowsMark>) -> Result<(), StoreError> {
        if !fs::exists(path) {
            return Ok(());
        }
        let Err(fault) = check::rows(path) else {
            self.found.checked.files += 1;
            self.found.checked.bytes += fs::file_length(path)?.unwrap_or(0);
            return Ok(());
        };
        let saved = mark.map(|mark| mark.prefix(path)).transpose()?;
        let paths = vec![(path.to_path_buf(), format!("rows-{}", short(run)))];
        let moved = self.settle(vec![fault], &Unit { paths, subject: Subject::Run(run.to_owned()) })?;
        if let (true, Some(saved)) = (moved, saved) {
            fs::publish_file(path, &saved)?;
        }
        Ok(())
    }
}
