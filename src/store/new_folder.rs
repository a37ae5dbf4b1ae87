//! A folder that appears whole or not at all, its files written piece by piece: nothing has to be in memory at once.

use std::path::{Path, PathBuf};

use super::disk::DiskFile;
use super::error::StoreError;
use super::fs::{
    create_folders, exists, parent, publish_folder, remove_leftover, sync_folder, temporary_folder,
};

/// A folder in the making. Until [`NewFolder::publish`] it has a temporary name beside its final one; dropped before, it
/// is removed.
#[derive(Debug)]
pub struct NewFolder {
    target: PathBuf,
    temporary: PathBuf,
    published: bool,
}

/// A file of such a folder.
#[derive(Debug)]
pub struct NewFile {
    file: DiskFile,
}

impl NewFolder {
    /// Begins the folder `target`, which must not exist.
    ///
    /// # Errors
    /// When something of that name exists, or its parent cannot be written.
    pub fn begin(target: &Path) -> Result<Self, StoreError> {
        if exists(target) {
            return Err(taken(target));
        }
        let above = parent(target);
        create_folders(above)?;
        Ok(Self { target: target.into(), temporary: temporary_folder(above)?, published: false })
    }

    /// Begins a file; `name` is a plain file name that the folder does not have yet.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn file(&self, name: &str) -> Result<NewFile, StoreError> {
        NewFile::create(&self.temporary.join(name))
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = self.file(name)?;
        file.append(bytes)?;
        file.finish()
    }

    /// Forces all to the disk and gives the folder its name.
    ///
    /// # Errors
    /// When that fails, or another took the name in the meantime; then nothing of it is visible.
    pub fn publish(mut self) -> Result<(), StoreError> {
        sync_folder(&self.temporary)?;
        self.published = publish_folder(&self.temporary, &self.target)?;
        if self.published { Ok(()) } else { Err(taken(&self.target)) }
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.published {
            let _ = remove_leftover(&self.temporary);
        }
    }
}

impl NewFile {
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        DiskFile::create_new(path).map(|file| Self { file }).map_err(|e| StoreError::io("create", path, e))
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.file.path().to_path_buf();
        self.file.append(bytes).map_err(|e| StoreError::io("write", &path, e))
    }

    /// Forces the file to the disk.
    ///
    /// # Errors
    /// When that fails.
    pub fn finish(self) -> Result<(), StoreError> {
        self.file.sync().map_err(|e| StoreError::io("fsync", self.file.path(), e))
    }
}

fn taken(path: &Path) -> StoreError {
    StoreError::io("create", path, std::io::Error::from(std::io::ErrorKind::AlreadyExists))
}
