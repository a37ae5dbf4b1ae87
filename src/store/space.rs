//! Free space of the file system that a folder lies in, or will lie in. A path in, bytes out; nothing is written.

use std::io;
use std::path::{Path, PathBuf};

/// What is free for a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// The folder as an absolute path.
    pub folder: PathBuf,
    /// It, or the nearest one above it that exists.
    pub existing: PathBuf,
    /// What an ordinary user may still write, in bytes; `None` where the file system does not say.
    pub bytes: Option<u64>,
}

/// Looks at the file system of a folder that need not exist yet.
///
/// # Errors
/// When the file system does not answer.
pub fn free_space(folder: &Path) -> io::Result<FreeSpace> {
    let folder = std::path::absolute(folder)?;
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf();
    let found = rustix::fs::statvfs(&existing)?;
    // A file system without blocks does not count them.
    let bytes = (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize));
    Ok(FreeSpace { folder, existing, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_to_be_made_has_the_space_of_the_one_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let there = free_space(folder.path()).unwrap();
        let below = free_space(&folder.path().join("a/b")).unwrap();
        assert_eq!((&there.existing, &below.existing), (&there.folder, &there.folder));
        assert_eq!(below.folder, folder.path().join("a/b"));
        // Other programs write meanwhile, but not everything.
        assert!(there.bytes.unwrap() > 0 && below.bytes.unwrap() > 0);
        // It counts no blocks.
        assert_eq!(free_space(Path::new("/proc/self")).unwrap().bytes, None);
    }
}
