//! A file that appears whole or not at all, written piece by piece: nothing has to be in memory at once.

use std::path::{Path, PathBuf};

use super::disk::DiskFile;
use super::error::StoreError;
use super::fs::{append_to, create_folders, parent, publish_temporary, remove_leftover, temporary_file};

/// A file in the making. Until [`LoneFile::publish`] it has a temporary name beside its final one; dropped before, it is
/// removed.
#[derive(Debug)]
pub struct LoneFile {
    target: PathBuf,
    temporary: PathBuf,
    file: DiskFile,
}

impl LoneFile {
    /// Begins the file `target`, in folders that are made where they are missing.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn begin(target: &Path) -> Result<Self, StoreError> {
        create_folders(parent(target))?;
        let temporary = temporary_file(parent(target))?;
        match append_to(&temporary) {
            Ok(file) => Ok(Self { target: target.into(), temporary, file }),
            Err(error) => {
                let _ = remove_leftover(&temporary);
                Err(error)
            }
        }
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.append(bytes).map_err(|e| StoreError::io("write", &self.temporary, e))
    }

    /// Forces it to the disk and gives it its name, unless that is taken: `false` then, and nothing of it stays.
    ///
    /// # Errors
    /// When that fails; nothing of it is visible then.
    pub fn publish(self) -> Result<bool, StoreError> {
        self.file.sync().map_err(|e| StoreError::io("fsync", &self.temporary, e))?;
        publish_temporary(&self.temporary, &self.target)
    }
}

impl Drop for LoneFile {
    fn drop(&mut self) {
        let _ = remove_leftover(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fs::{list, read};

    #[test]
    fn the_first_one_stays_and_what_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/x");
        let write = |text: &[u8]| {
            let mut file = LoneFile::begin(&path).unwrap();
            text.chunks(3).for_each(|piece| file.append(piece).unwrap());
            file
        };
        drop(write(b"given up"));
        assert!(!path.exists());
        let (first, second) = (write(b"the first"), write(b"the second"));
        assert!(first.publish().unwrap());
        assert!(!second.publish().unwrap());
        assert_eq!(read(&path).unwrap(), b"the first");
        assert_eq!(list(path.parent().unwrap()).unwrap(), ["x"]);
        assert!(LoneFile::begin(&path.join("below a file")).is_err());
    }
}
