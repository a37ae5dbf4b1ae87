//! Checkpoints: the state of a run at a step boundary, and how the newest good one is found.
//!
//! In: the attempts of a run. Out: the checkpoint with the highest step whose files verify and whose rows are still
//! there, or none. A damaged one is moved aside, said, and the one before is tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layout::{DONE, EVALS, METRICS};
use super::record::Marker;
use super::rows::RowsMark;
use super::{Home, StoreError, fs, short};

/// A checkpoint that an attempt goes on from.
#[derive(Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    run: String,
    attempt: u32,
    step: u32,
    marker: Marker,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Checkpoint")
            .field("folder", &self.folder)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

/// The kind that a checkpoint's marker states.
pub(super) const KIND: &str = "checkpoint";

impl Checkpoint {
    /// Steps that were complete when it was written.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// The attempt that wrote it.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What the trainer said about it.
    pub fn meta(&self) -> &Value {
        &self.marker.meta
    }

    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Size of its files in bytes.
    fn bytes(&self) -> u64 {
        self.marker.files.values().map(|file| file.bytes).sum()
    }

    /// The names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.marker.files.keys().map(String::as_str)
    }

    /// Reads a file and verifies its digest.
    ///
    /// # Errors
    /// When there is no such file or its bytes are not those of the marker.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, StoreError> {
        let Some(record) = self.marker.files.get(file) else {
            return Err(StoreError::NoSuchFile { path: self.folder.clone(), file: file.to_owned() });
        };
        let path = self.folder.join(file);
        let bytes = fs::read(&path)?;
        record.check(&bytes, &path)?;
        Ok(bytes)
    }

    /// A checkpoint that looks complete: its marker is valid and the sizes fit.
    pub(super) fn of(home: &Home, run: &str, attempt: u32, step: u32) -> Result<Self, StoreError> {
        let folder = home.layout.checkpoint(run, attempt, step);
        let found = Self::load(&folder, run, attempt, step)?;
        found.check_sizes()?;
        Ok(found)
    }

    fn load(folder: &Path, run: &str, attempt: u32, step: u32) -> Result<Self, StoreError> {
        let path = folder.join(DONE);
        let bytes = fs::read_optional(&path)?
            .ok_or_else(|| StoreError::damaged(folder, "it has no completion marker"))?;
        let marker = Marker::parse(&bytes, KIND, run, &path)?;
        if marker.detail["step"].as_u64() != Some(u64::from(step)) {
            return Err(StoreError::damaged(&path, format!("it is not that of step {step}")));
        }
        Ok(Self { folder: folder.to_path_buf(), run: run.to_owned(), attempt, step, marker })
    }

    fn check_sizes(&self) -> Result<(), StoreError> {
        for (name, record) in &self.marker.files {
            let path = self.folder.join(name);
            if fs::file_length(&path)? != Some(record.bytes) {
                return Err(StoreError::damaged(&path, "it is missing or has another size"));
            }
        }
        Ok(())
    }

    /// The rows that were written when the checkpoint was, verified: metrics and evals.
    pub(super) fn rows(&self, home: &Home) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let attempt = home.layout.attempt(&self.run, self.attempt);
        let prefix = |key: &str, file: &str| {
            let mark = RowsMark::from_value(&self.marker.detail[key]).ok_or_else(|| {
                StoreError::damaged(&self.folder, format!("its marker lacks the mark of {file}"))
            })?;
            mark.prefix(&attempt.join(file))
        };
        Ok((prefix("metrics", METRICS)?, prefix("evals", EVALS)?))
    }
}

impl Checkpoint {
    /// Gives the files a place inside attempt `number` too, under a temporary name, so that nobody else can remove them;
    /// `None` when they are gone already.
    pub(super) fn hold(&self, home: &Home, number: u32) -> Result<Option<PathBuf>, StoreError> {
        let parent = home.layout.checkpoints(&self.run, number);
        fs::create_folders(&parent)?;
        let prepared = fs::temporary_folder(&parent)?;
        let link = || {
            for name in self.files().chain([DONE]) {
                fs::link_or_copy(&self.folder.join(name), &prepared.join(name))?;
            }
            fs::sync_folder(&prepared)
        };
        match link() {
            Ok(()) => Ok(Some(prepared)),
            Err(error) => {
                let _ = fs::remove_leftover(&prepared);
                match error {
                    StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                        Ok(None)
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Makes this checkpoint one of attempt `number`, from what [`Self::hold`] has prepared. Its rows must be there before.
    pub(super) fn take_in(&mut self, home: &Home, number: u32, held: &Path) -> Result<(), StoreError> {
        let target = home.layout.checkpoint(&self.run, number, self.step);
        fs::publish_folder(held, &target)?;
        (self.folder, self.attempt) = (target, number);
        Ok(())
    }
}

/// Numbers of the attempts of a run, ascending.
pub(super) fn attempts(home: &Home, run: &str) -> Result<Vec<u32>, StoreError> {
    numbers(&home.layout.attempts(run))
}

fn numbers(folder: &Path) -> Result<Vec<u32>, StoreError> {
    let mut numbers: Vec<u32> = fs::list(folder)?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// `(step, attempt)` of every checkpoint of a run, the best to go on from first.
pub(super) fn all(home: &Home, run: &str) -> Result<Vec<(u32, u32)>, StoreError> {
    let mut found = Vec::new();
    for attempt in attempts(home, run)? {
        let steps = numbers(&home.layout.checkpoints(run, attempt))?;
        found.extend(steps.into_iter().map(|step| (step, attempt)));
    }
    found.sort_unstable_by(|left, right| right.cmp(left));
    Ok(found)
}

/// The step of the newest checkpoint that looks complete: its marker is valid and the sizes fit. Changes nothing.
pub(super) fn newest_step(home: &Home, run: &str) -> Result<Option<u32>, StoreError> {
    for (step, attempt) in all(home, run)? {
        match Checkpoint::of(home, run, attempt, step) {
            Ok(_) => return Ok(Some(step)),
            Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What an attempt takes over from an earlier one.
pub(super) struct Adopted {
    pub checkpoint: Checkpoint,
    /// The text of `metrics.jsonl` up to the checkpoint.
    pub metrics: Vec<u8>,
    /// The text of `eval.jsonl` up to the checkpoint.
    pub evals: Vec<u8>,
}

/// The newest checkpoint that verifies, with the rows up to it. Damaged ones are moved aside.
pub(super) fn adopt(home: &Home, run: &str) -> Result<Option<Adopted>, StoreError> {
    for (step, attempt) in all(home, run)? {
        let folder = home.layout.checkpoint(run, attempt, step);
        let verified = Checkpoint::load(&folder, run, attempt, step).and_then(|checkpoint| {
            for file in checkpoint.files() {
                checkpoint.read(file)?;
            }
            let (metrics, evals) = checkpoint.rows(home)?;
            Ok(Adopted { checkpoint, metrics, evals })
        });
        match verified {
            Ok(found) => return Ok(Some(found)),
            // A file that vanished is damage too; what cannot be read for another reason is not ours to judge.
            Err(StoreError::Io { source, .. }) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("read", &folder, source));
            }
            Err(error @ (StoreError::Damaged { .. } | StoreError::Io { .. })) => {
                let why = format!("checkpoint {step} of run {} cannot be used: {error}", short(run));
                home.quarantine(&folder, &format!("checkpoint-{}-{step}", short(run)), &why)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What is kept of a run's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keep {
    /// So many of the newest, to go on from.
    pub newest: usize,
    /// So many bytes of the others, evenly spread over the steps, for runs of the same trajectory.
    pub bytes: u64,
}

/// Removes the checkpoints that are not kept, among those of attempts up to `attempt`. Attempts of a higher number belong
/// to a successor and are left alone.
pub(super) fn prune(home: &Home, run: &str, attempt: u32, keep: Keep) -> Result<(), StoreError> {
    let ours = all(home, run)?.into_iter().filter(|(_, of)| *of <= attempt).collect::<Vec<_>>();
    // A step that a later attempt took in is there twice, and counts once.
    let mut steps = ours.iter().map(|(step, _)| *step).collect::<Vec<_>>();
    steps.dedup();
    steps.truncate(keep.newest);
    let newest = |(step, of): &(u32, u32)| {
        steps.contains(step) && ours.iter().all(|(other, by)| other != step || by <= of)
    };
    let older = ours.iter().copied().filter(|found| !newest(found)).collect::<Vec<_>>();
    // What cannot be read any more is worth nothing; step 0 is the base.
    let mut sizes = BTreeMap::new();
    let spare = |(step, _): &&(u32, u32)| keep.bytes > 0 && *step > 0 && !steps.contains(step);
    for (step, of) in older.iter().filter(spare) {
        if let Ok(found) = Checkpoint::of(home, run, *of, *step) {
            sizes.entry(*step).or_insert((found.bytes(), *of));
        }
    }
    let spread =
        spread(&sizes.iter().map(|(step, (bytes, _))| (*step, *bytes)).collect::<Vec<_>>(), keep.bytes);
    for (step, of) in older {
        let stays = spread.contains(&step) && sizes.get(&step).is_some_and(|(_, kept)| *kept == of);
        if !stays {
            fs::remove_folder(&home.layout.checkpoint(run, of, step))?;
        }
    }
    Ok(())
}

/// The steps that stay within a number of bytes: the multiples of the smallest power of two that fit. As a run grows the
/// power does, so a step that was removed is never missed later.
fn spread(sizes: &[(u32, u64)], most: u64) -> Vec<u32> {
    for power in 0..32 {
        let stride = 1_u32 << power;
        let chosen = sizes.iter().filter(|(step, _)| step.is_multiple_of(stride));
        if chosen.clone().map(|(_, bytes)| bytes).sum::<u64>() <= most {
            return chosen.map(|(step, _)| *step).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_checkpoints_thin_out_evenly() {
        let sizes = |steps: u32| (1..=steps / 10).map(|i| (i * 10, 100)).collect::<Vec<_>>();
        assert_eq!(spread(&sizes(40), 400), [10, 20, 30, 40]);
        assert_eq!(spread(&sizes(40), 399), [20, 40]);
        assert_eq!(spread(&sizes(160), 400), [40, 80, 120, 160]);
        assert_eq!(spread(&sizes(160), 99), Vec::<u32>::new());
        // What a longer run keeps, a shorter one has kept.
        for steps in 1..64 {
            let now = spread(&sizes(steps * 10), 500);
            let before = spread(&sizes(steps * 10 - 10), 500);
            assert!(now.iter().all(|step| *step == steps * 10 || before.contains(step)), "{steps}");
        }
    }
}
