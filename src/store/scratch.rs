//! A place for results that are thrown away: runs that are executed once more, to be compared.
//!
//! In: a store. Out: a temporary folder inside it, so on the same file system, with stores of its own, into which artifacts
//! are taken over. Invariants: nothing of the store itself is changed; the folder goes when its value is dropped, and what
//! a kill leaves of it has the name of something temporary.

use std::path::{Path, PathBuf};

use super::artifact::Artifact;
use super::layout::{DONE, Stage, check_name};
use super::{Store, StoreError, fs};

/// A temporary folder of results. It is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    kept: bool,
}

impl Store {
    /// A new temporary folder inside this store, also when the store is open for reading only.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        fs::create_folders(&self.home.layout.root())?;
        Ok(Scratch { folder: fs::temporary_folder(&self.home.layout.root())?, kept: false })
    }

    /// Takes an artifact over from another store, its digests verified; `false` when that one does not have it, or damaged.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn take_over(&self, from: &Self, stage: Stage, id: &str) -> Result<bool, StoreError> {
        self.home.writable()?;
        let source = from.home.layout.artifact(stage, check_name(id)?);
        let found = Artifact::load(&from.home, source.clone(), source.join(DONE), stage.name(), id);
        let verified = found.and_then(|found| {
            let Some(found) = found else { return Ok(None) };
            found.files().keys().try_for_each(|name| found.peek(name).map(drop)).map(|()| Some(found))
        });
        let found = match verified {
            Ok(Some(found)) => found,
            // The other store's damage is not this one's to mend.
            Ok(None) | Err(StoreError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let parent = self.home.layout.stage(stage);
        fs::create_folders(&parent)?;
        let prepared = fs::temporary_folder(&parent)?;
        let names = found.files().keys().map(String::as_str).chain([DONE]);
        let taken = names
            .map(|name| (source.join(name), prepared.join(name)))
            .try_for_each(|(from, to)| fs::link_or_copy(&from, &to))
            .and_then(|()| fs::sync_folder(&prepared))
            .and_then(|()| fs::publish_folder(&prepared, &self.home.layout.artifact(stage, id)));
        if !matches!(taken, Ok(true)) {
            let _ = fs::remove_leftover(&prepared);
        }
        taken.map(|_| true)
    }
}

impl Scratch {
    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The store of this name inside it, created where it is missing. What it has to say is said by what is compared.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn store(&self, name: &str) -> Result<Store, StoreError> {
        Ok(Store::open(&self.folder.join(check_name(name)?))?.with_notices(|_| {}))
    }

    /// Removes the store of this name.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        fs::remove_leftover(&self.folder.join(check_name(name)?))
    }

    /// Has the folder stay.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed has a temporary name, and goes with the next clean-up.
            let _ = fs::remove_leftover(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(folder: &Path) -> Vec<String> {
        fs::list(&Store::open(folder).unwrap().layout().root()).unwrap()
    }

    #[test]
    fn an_artifact_is_taken_over_whole_or_not_at_all_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let real = Store::open(folder.path()).unwrap();
        real.publish(Stage::Base, "b1", &[("model", b"weights"), ("config", b"{}")], json!({"x": 1}))
            .unwrap();
        real.publish(Stage::Base, "b2", &[("model", b"weights")], json!({})).unwrap();
        fs::replace(&real.layout().artifact(Stage::Base, "b2").join("model"), b"weighty").unwrap();
        let before = names(folder.path());

        let reading = Store::open_read_only(folder.path()).unwrap();
        let scratch = reading.scratch().unwrap();
        let bed = scratch.store("one").unwrap();
        assert!(bed.take_over(&reading, Stage::Base, "b1").unwrap());
        assert!(bed.take_over(&reading, Stage::Base, "b1").unwrap(), "twice is once");
        assert!(!bed.take_over(&reading, Stage::Base, "b2").unwrap(), "it is damaged");
        assert!(!bed.take_over(&reading, Stage::Mask, "b1").unwrap(), "there is none");
        let taken = bed.verified_artifact(Stage::Base, "b1").unwrap().unwrap();
        assert_eq!((taken.read("model").unwrap(), taken.meta()), (b"weights".to_vec(), &json!({"x": 1})));
        assert_eq!(fs::list(&bed.layout().stage(Stage::Base)).unwrap(), ["b1"]);

        drop(scratch);
        assert_eq!(names(folder.path()), before);
        assert_eq!(real.artifact(Stage::Base, "b1").unwrap().unwrap().read("model").unwrap(), b"weights");
        let mut kept = reading.scratch().unwrap();
        kept.keep();
        let path = kept.folder().to_path_buf();
        drop(kept);
        assert!(path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with(fs::TEMPORARY));
    }
}
