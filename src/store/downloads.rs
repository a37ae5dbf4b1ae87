//! Files of a cache that other programs share: they grow piece by piece, are checked, and then get their name.
//!
//! In: paths and bytes. Out: files that exist under their own name only when they are whole. The cache is no part of the
//! results: what is in it can be had again, and each user of it checks what he reads.

use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::disk::{self, DiskFile};
use super::fs::{append_to, create_folders, exists, link_target, open_append, parent, sync_folder};
use super::{StoreError, fs};

/// A file that is downloaded: it keeps what it has when the process ends, and goes on from there.
#[derive(Debug)]
pub struct Growing {
    file: DiskFile,
}

impl Growing {
    /// Opens the file or creates it, with its folders.
    ///
    /// # Errors
    /// When it cannot be opened or created.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create_folders(parent(path))?;
        Ok(Self { file: append_to(path)? })
    }

    /// Bytes that it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn length(&self) -> Result<u64, StoreError> {
        self.file.length().map_err(|e| StoreError::io("look at", self.file.path(), e))
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When they cannot be written, for want of space as a rule.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.append(bytes).map_err(|e| StoreError::io("write", self.file.path(), e))
    }

    /// Drops all that it has.
    ///
    /// # Errors
    /// When it cannot be cut.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.cut(0).map_err(|e| StoreError::io("cut", self.file.path(), e))
    }

    /// Forces it to the disk and gives it its name, in place of what had that name.
    ///
    /// # Errors
    /// When one of the two fails; then the name is as it was.
    pub fn publish(self, path: &Path) -> Result<(), StoreError> {
        if let Err(error) = self.file.sync() {
            // Some of its bytes may never reach the disk, and a second try would not say so.
            let _ = self.file.cut(0);
            return Err(StoreError::io("fsync", self.file.path(), error));
        }
        disk::rename(self.file.path(), path).map_err(|e| StoreError::io("write", path, e))?;
        sync_folder(parent(path))
    }
}

/// Makes a symbolic link with a relative target, and replaces one that points elsewhere.
///
/// # Errors
/// When it cannot be made.
pub fn link_relative(target: &Path, link: &Path) -> Result<(), StoreError> {
    create_folders(parent(link))?;
    if exists(link) {
        if link_target(link).as_deref() == target.to_str() {
            return Ok(());
        }
        fs::remove_file(link)?;
    }
    match disk::symlink(target, link) {
        // Another process makes the same link.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|e| StoreError::io("link", link, e)),
    }
}

/// Keeps other processes out until it is dropped.
#[derive(Debug)]
pub struct Guard {
    _file: std::fs::File,
}

/// Locks a file, which is made where it is missing; `None` while another process has it. Where the file system knows no
/// locks it is as if one had it.
///
/// # Errors
/// When the file cannot be opened.
pub fn take_guard(path: &Path) -> Result<Option<Guard>, StoreError> {
    create_folders(parent(path))?;
    let file = open_append(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        _ => Ok(Some(Guard { _file: file })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_grows_over_several_openings_and_then_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (partial, whole) = (folder.path().join("a/x.incomplete"), folder.path().join("a/x"));
        Growing::open(&partial).unwrap().append(b"12").unwrap();
        let mut again = Growing::open(&partial).unwrap();
        assert_eq!(again.length().unwrap(), 2);
        again.append(b"34").unwrap();
        assert!(!whole.exists());
        again.publish(&whole).unwrap();
        assert_eq!((fs::read(&whole).unwrap(), partial.exists()), (b"1234".to_vec(), false));
        let mut other = Growing::open(&partial).unwrap();
        other.append(b"5").unwrap();
        other.restart().unwrap();
        other.append(b"6").unwrap();
        other.publish(&whole).unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"6");
    }

    #[test]
    fn a_link_is_made_once_and_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("snapshots/c/config.json");
        for target in ["../../blobs/a", "../../blobs/a", "../../blobs/b"] {
            link_relative(Path::new(target), &link).unwrap();
            assert_eq!(link_target(&link).as_deref(), Some(target));
        }
    }

    #[test]
    fn a_guard_keeps_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/x.lock");
        let first = take_guard(&path).unwrap();
        assert!(first.is_some() && take_guard(&path).unwrap().is_none());
        drop(first);
        assert!(take_guard(&path).unwrap().is_some());
    }
}
