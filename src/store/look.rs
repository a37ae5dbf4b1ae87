//! Looking at files and folders: nothing here changes the disk.
//!
//! In: paths. Out: bytes, names, lengths and times. Invariant: that something does not exist is an answer wherever the
//! caller can go on without it, and everything else that goes wrong is an error that names the path.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::StoreError;
use super::record::FileRecord;

/// Bytes of a piece.
const PIECE: usize = 1 << 20;

type Result<T> = std::result::Result<T, StoreError>;

/// Whether a file is not there, or went while it was looked at: on NFS, what another host has just removed is stale.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| StoreError::io("read", path, e))
}

/// Reads a whole file; `None` when it does not exist.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(StoreError::io("read", path, e)),
    }
}

/// Size and digest of a file, read a piece at a time.
pub fn record(path: &Path) -> Result<FileRecord> {
    let unreadable = |e| StoreError::io("read", path, e);
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let (mut hasher, mut bytes, mut piece) = (blake3::Hasher::new(), 0, vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(FileRecord { bytes, blake3: hasher.finalize().to_hex().to_string() }),
            Ok(length) => {
                hasher.update(&piece[..length]);
                bytes += length as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
}

/// The length of a file; `None` when there is no regular file of this name. The file is opened for it: on NFS a name's
/// length may be an old one, that of a file just opened is not.
pub fn file_length(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => return Ok(None),
        Err(e) if !is_gone(&e) => return Err(StoreError::io("look at", path, e)),
        Ok(_) | Err(_) => {}
    }
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(StoreError::io("look at", path, e)),
    }
}

/// When a file was last changed or touched; `None` when it does not exist.
pub fn modified(path: &Path) -> Result<Option<SystemTime>> {
    match fs::metadata(path).and_then(|meta| meta.modified()) {
        Ok(time) => Ok(Some(time)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(StoreError::io("look at", path, e)),
    }
}

/// Whether anything has this name.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The absolute path without symbolic links.
pub fn canonical_path(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| StoreError::io("find", path, e))
}

/// Where a symbolic link points, as text.
pub fn link_target(path: &Path) -> Option<String> {
    fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
}

/// The names in a folder, sorted; none when the folder does not exist. Names that are not UTF-8 are not ours.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("list", path, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("list", path, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether two names are those of one file.
pub(super) fn is_same_file(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::symlink_metadata(left), fs::symlink_metadata(right)) {
        (Ok(left), Ok(right)) => left.dev() == right.dev() && left.ino() == right.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_exist_has_no_bytes_no_length_and_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("x");
        assert_eq!(read_optional(&absent).unwrap(), None);
        assert_eq!(file_length(&absent).unwrap(), None);
        assert_eq!(modified(&absent).unwrap(), None);
        assert!(list(&absent).unwrap().is_empty());
        assert!(read(&absent).is_err());
        assert_eq!(file_length(folder.path()).unwrap(), None, "a folder is no regular file");
    }
}
