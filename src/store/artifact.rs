//! Artifacts: the published files of a stage, found by content-hashed id.
//!
//! In: an id and bytes. Out: files that are complete, or nothing. An artifact is prepared in a temporary folder, its
//! marker last, and appears under its id by one rename that never replaces: so there is no moment at which half of it
//! can be seen, and of two publishers one wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::layout::{self, DONE, Stage, check_name};
use super::record::{FileRecord, Marker};
use super::{Home, Store, StoreError, fs, look, short};

/// Files with a valid completion marker: a stage's artifact or the result of a finished run.
#[derive(Clone)]
pub struct Artifact {
    home: Home,
    folder: PathBuf,
    marker_path: PathBuf,
    marker: Marker,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Artifact")
            .field("folder", &self.folder)
            .field("marker", &self.marker)
            .finish_non_exhaustive()
    }
}

impl Artifact {
    /// Loads and checks a marker and the sizes of its files; `None` when there is no marker.
    pub(super) fn load(
        home: &Home,
        folder: PathBuf,
        marker_path: PathBuf,
        kind: &str,
        id: &str,
    ) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = fs::read_optional(&marker_path)? else { return Ok(None) };
        let marker = Marker::parse(&bytes, kind, id, &marker_path)?;
        let artifact = Self { home: home.clone(), folder, marker_path, marker };
        artifact.check_sizes()?;
        Ok(Some(artifact))
    }

    fn check_sizes(&self) -> Result<(), StoreError> {
        for (name, record) in &self.marker.files {
            let path = self.path(name);
            match fs::file_length(&path)? {
                Some(length) if length == record.bytes => {}
                Some(length) => {
                    let what = format!("{length} bytes instead of {}", record.bytes);
                    return Err(StoreError::damaged(&path, what));
                }
                None => return Err(StoreError::damaged(&path, "it is missing")),
            }
        }
        Ok(())
    }

    /// Where a file of the artifact lies.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The folder of the artifact.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a file and verifies its digest. A damaged artifact is moved aside, unless the store is open for reading
    /// only, so that the next sweep computes it again.
    ///
    /// # Errors
    /// When there is no such file or its bytes are not those of the marker.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, StoreError> {
        self.or_aside(self.peek(file))
    }

    /// An answer; where it is that something is damaged, the artifact is moved aside.
    fn or_aside<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ StoreError::Damaged { .. }) = &answer
            && self.home.writable
        {
            self.set_aside(&error.to_string())?;
        }
        answer
    }

    /// Reads a file and verifies its digest, and leaves a damaged artifact where it is.
    pub(super) fn peek(&self, file: &str) -> Result<Vec<u8>, StoreError> {
        let Some(record) = self.marker.files.get(file) else {
            return Err(StoreError::NoSuchFile { path: self.folder.clone(), file: file.to_owned() });
        };
        let path = self.path(file);
        let bytes = fs::read(&path)?;
        record.check(&bytes, &path)?;
        Ok(bytes)
    }

    /// Reads every file, a piece at a time, and verifies its digest.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn verify(&self) -> Result<(), StoreError> {
        self.marker.files.keys().try_for_each(|name| self.verify_file(name))
    }

    /// Reads a file a piece at a time and verifies its digest.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn verify_file(&self, file: &str) -> Result<(), StoreError> {
        let Some(record) = self.marker.files.get(file) else {
            return Err(StoreError::NoSuchFile { path: self.folder.clone(), file: file.to_owned() });
        };
        let path = self.path(file);
        let found = look::record(&path);
        self.or_aside(found.and_then(|found| record.check_record(&found, &path)))
    }

    /// What the producer said about it.
    pub fn meta(&self) -> &Value {
        &self.marker.meta
    }

    /// What the store itself noted: for a finished run the attempt and its digests.
    pub fn detail(&self) -> &Value {
        &self.marker.detail
    }

    /// Names, sizes and digests of the files.
    pub fn files(&self) -> &BTreeMap<String, FileRecord> {
        &self.marker.files
    }

    /// Moves marker and files to quarantine. The marker goes first where it lies apart, so that at no moment it vouches
    /// for files that are gone.
    pub(super) fn set_aside(&self, why: &str) -> Result<(), StoreError> {
        let name = format!("{}-{}", self.marker.kind, short(&self.marker.id));
        if !self.marker_path.starts_with(&self.folder) {
            self.home.quarantine(&self.marker_path, &format!("{name}-marker"), why)?;
        }
        self.home.quarantine(&self.folder, &name, why)?;
        Ok(())
    }
}

impl Store {
    /// The artifact of a stage, if it is complete: the marker is valid and every file has its size. Digests are verified
    /// when a file is read. A damaged artifact is moved aside and counts as absent, so that it is computed again.
    ///
    /// # Errors
    /// When the store is open for reading only and the artifact is damaged, or it cannot be read.
    pub fn artifact(&self, stage: Stage, id: &str) -> Result<Option<Artifact>, StoreError> {
        let folder = self.home.layout.artifact(stage, check_name(id)?);
        let marker = folder.join(DONE);
        let load = || Artifact::load(&self.home, folder.clone(), marker.clone(), stage.name(), id);
        let loaded = match load() {
            // It may have been published between the two looks: then it has its marker now.
            Ok(None) if fs::exists(&folder) => match load() {
                Ok(None) if fs::exists(&folder) => {
                    Err(StoreError::damaged(&folder, "it has no completion marker"))
                }
                other => other,
            },
            other => other,
        };
        match loaded {
            Err(error @ StoreError::Damaged { .. }) if self.home.writable => {
                let name = format!("{}-{}", stage.name(), short(id));
                self.home.quarantine(&folder, &name, &error.to_string())?;
                Ok(None)
            }
            other => other,
        }
    }

    /// As [`Self::artifact`], with every digest verified.
    ///
    /// # Errors
    /// As [`Self::artifact`].
    pub fn verified_artifact(&self, stage: Stage, id: &str) -> Result<Option<Artifact>, StoreError> {
        let Some(artifact) = self.artifact(stage, id)? else { return Ok(None) };
        match artifact.verify() {
            Ok(()) => Ok(Some(artifact)),
            Err(StoreError::Damaged { .. }) if self.home.writable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes the files of a stage. The first result wins: an identical second one changes nothing, a different one
    /// goes to quarantine and is reported. Identity is that of names and contents; `meta` may hold measured times and is
    /// not compared. The artifact that counts is returned.
    ///
    /// # Errors
    /// When a name is not plain or the files cannot be written; nothing is visible then.
    pub fn publish(
        &self,
        stage: Stage,
        id: &str,
        files: &[(&str, &[u8])],
        meta: Value,
    ) -> Result<Artifact, StoreError> {
        self.home.writable()?;
        let marker = Marker {
            kind: stage.name().to_owned(),
            id: check_name(id)?.to_owned(),
            files: records(files)?,
            detail: json!({}),
            meta,
        };
        let parent = self.home.layout.stage(stage);
        self.home.create_folders(&parent)?;
        if let Some(existing) = self.artifact(stage, id)?
            && *existing.files() == marker.files
        {
            // Whoever made it may have been killed before its name was durable.
            fs::sync_folder(&parent)?;
            return Ok(existing);
        }
        let prepared = prepare_folder(&parent, files, &marker)?;
        self.settle(stage, &prepared, marker)
    }

    /// Gives a prepared folder its name, unless there is an artifact of that name: then that one counts.
    pub(super) fn settle(
        &self,
        stage: Stage,
        prepared: &Path,
        marker: Marker,
    ) -> Result<Artifact, StoreError> {
        let id = marker.id.as_str();
        let folder = self.home.layout.artifact(stage, check_name(id)?);
        loop {
            if fs::publish_folder(prepared, &folder)? {
                let marker_path = folder.join(DONE);
                return Ok(Artifact { home: self.home.clone(), folder, marker_path, marker });
            }
            // Damaged artifacts are moved aside by this call, and then the place is free.
            let Some(existing) = self.artifact(stage, id)? else { continue };
            if *existing.files() == marker.files {
                fs::remove_leftover(prepared)?;
                // Whoever made it may have been killed before its name was durable.
                fs::sync_folder(&self.home.layout.stage(stage))?;
            } else {
                let why = format!(
                    "a second result of {} {} differs from the first (non-determinism, or another build); the first is kept",
                    stage.name(),
                    short(id)
                );
                self.home.quarantine(prepared, &format!("{}-{}", stage.name(), short(id)), &why)?;
            }
            return Ok(existing);
        }
    }
}

/// Checks the names of `files` and digests them.
pub(super) fn records(files: &[(&str, &[u8])]) -> Result<BTreeMap<String, FileRecord>, StoreError> {
    let mut records = BTreeMap::new();
    for (name, bytes) in files {
        if records.insert(layout::check_name(name)?.to_owned(), FileRecord::of(bytes)).is_some() {
            return Err(StoreError::BadName { name: format!("{name} (twice)") });
        }
    }
    Ok(records)
}

/// Writes files and, last, their marker into a new temporary folder, all of it durable.
pub(super) fn prepare_folder(
    parent: &Path,
    files: &[(&str, &[u8])],
    marker: &Marker,
) -> Result<PathBuf, StoreError> {
    let folder = fs::temporary_folder(parent)?;
    let write = || {
        for (name, bytes) in files {
            fs::write_new(&folder.join(name), bytes)?;
        }
        fs::write_new(&folder.join(DONE), marker.to_text().as_bytes())?;
        fs::sync_folder(&folder)
    };
    match write() {
        Ok(()) => Ok(folder),
        Err(error) => {
            // Most likely the disk is full: what was written is of no use and gives the space back.
            let _ = fs::remove_leftover(&folder);
            Err(error)
        }
    }
}
