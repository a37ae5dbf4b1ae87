//! An artifact whose files are written piece by piece, so that nothing of it has to be in memory as a whole.
//!
//! In: pieces of bytes. Out: an artifact as [`Store::publish`] makes one: a temporary folder, digests taken on the way, the marker
//! last, one rename that never replaces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::layout::{DONE, Stage, check_name};
use super::new_folder::NewFile;
use super::record::{FileRecord, Marker};
use super::{Artifact, Store, StoreError, fs};

/// An artifact in the making. Dropped before it is published, it is removed.
#[derive(Debug)]
pub struct NewArtifact<'s> {
    store: &'s Store,
    stage: Stage,
    id: String,
    folder: PathBuf,
    files: BTreeMap<String, FileRecord>,
    settled: bool,
}

/// A file of such an artifact.
#[derive(Debug)]
pub struct ArtifactFile {
    file: NewFile,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Store {
    /// Begins the artifact of a stage.
    ///
    /// # Errors
    /// When the id is not plain, or the store cannot be written.
    pub fn begin_artifact(&self, stage: Stage, id: &str) -> Result<NewArtifact<'_>, StoreError> {
        self.home.writable()?;
        let id = check_name(id)?.to_owned();
        let parent = self.home.layout.stage(stage);
        self.home.create_folders(&parent)?;
        let folder = fs::temporary_folder(&parent)?;
        Ok(NewArtifact { store: self, stage, id, folder, files: BTreeMap::new(), settled: false })
    }
}

impl NewArtifact<'_> {
    /// Writes a file of a plain name that the artifact does not have yet, and forces it to the disk.
    ///
    /// # Errors
    /// When it cannot be written, and those of `write`; then the artifact is removed and cannot be published.
    pub fn file<E: From<StoreError>>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut ArtifactFile) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.written(name, write) {
            Ok(record) => {
                self.files.insert(name.to_owned(), record);
                Ok(())
            }
            Err(error) => {
                // Most likely the disk is full: what was written is of no use and gives the space back.
                let _ = fs::remove_leftover(&self.folder);
                Err(error)
            }
        }
    }

    fn written<E: From<StoreError>>(
        &self,
        name: &str,
        write: impl FnOnce(&mut ArtifactFile) -> Result<(), E>,
    ) -> Result<FileRecord, E> {
        if self.files.contains_key(check_name(name)?) {
            return Err(StoreError::BadName { name: format!("{name} (twice)") }.into());
        }
        let file = NewFile::create(&self.folder.join(name))?;
        let mut file = ArtifactFile { file, hasher: blake3::Hasher::new(), bytes: 0 };
        write(&mut file)?;
        let ArtifactFile { file, hasher, bytes } = file;
        file.finish()?;
        Ok(FileRecord { bytes, blake3: hasher.finalize().to_hex().to_string() })
    }

    /// Publishes what was written, as [`Store::publish`] does: the first result wins, and the artifact that counts is returned.
    ///
    /// # Errors
    /// When it cannot be written; nothing is visible then.
    pub fn publish(mut self, meta: Value) -> Result<Artifact, StoreError> {
        let marker = Marker {
            kind: self.stage.name().to_owned(),
            id: self.id.clone(),
            files: std::mem::take(&mut self.files),
            detail: json!({}),
            meta,
        };
        fs::write_new(&self.folder.join(DONE), marker.to_text().as_bytes())?;
        fs::sync_folder(&self.folder)?;
        let published = self.store.settle(self.stage, &self.folder, marker)?;
        self.settled = true;
        Ok(published)
    }
}

impl ArtifactFile {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.append(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for NewArtifact<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let _ = fs::remove_leftover(&self.folder);
        }
    }
}
