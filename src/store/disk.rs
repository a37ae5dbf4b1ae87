//! The primitive operations on files and folders: everything that changes the disk is one of these.
//!
//! In: paths and bytes. Out: the system's answer, as it is. Invariants: nothing else in the program changes a file, and
//! each operation here is a single thing that a crash leaves done, not done or (for a write or the removal of a tree)
//! partly done. In what order they are called is the business of [`super::fs`].
//!
//! In test builds each operation is shown to `faults` first, which records it or has it fail; in all other
//! builds nothing is added.

#![expect(clippy::disallowed_methods, reason = "everything else writes through this file")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, UTIME_NOW};

#[cfg(test)]
use super::faults::{self, Operation, observed};

/// Does something that changes the disk. The first part says what, for tests; other builds do not even compile it.
macro_rules! change {
    ($operation:expr, $act:expr) => {{
        #[cfg(test)]
        let answer = observed(&$operation, || $act);
        #[cfg(not(test))]
        let answer = $act;
        answer
    }};
}

/// A file that is open for writing at its end.
#[derive(Debug)]
pub struct DiskFile {
    path: PathBuf,
    file: File,
}

impl DiskFile {
    /// Creates a file that must not exist yet.
    pub fn create_new(path: &Path) -> io::Result<Self> {
        let open = || OpenOptions::new().write(true).create_new(true).open(path);
        let file = change!(Operation::CreateFile(path), open())?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Opens a file for appending, and creates it where it is missing.
    pub fn open_append(path: &Path) -> io::Result<Self> {
        let open = || OpenOptions::new().append(true).create(true).open(path);
        let file = change!(Operation::OpenAppend(path), open())?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes, all of them or an error; then some may have been written.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        change!(Operation::Append(&self.path, bytes), self.file.write_all(bytes))
    }

    /// How long it is now.
    pub fn length(&self) -> io::Result<u64> {
        self.file.metadata().map(|found| found.len())
    }

    /// Cuts the file back to a length.
    pub fn cut(&self, length: u64) -> io::Result<()> {
        change!(Operation::Cut(&self.path, length), self.file.set_len(length))
    }

    /// Forces the file's bytes to the disk. One that failed must not be tried again: the kernel may have dropped the
    /// bytes, and the second try succeeds without them.
    pub fn sync(&self) -> io::Result<()> {
        change!(Operation::SyncFile(&self.path), force(&self.file))
    }

    /// The file, for another process to write to.
    pub fn into_file(self) -> File {
        self.file
    }
}

/// Creates a folder that must not exist yet.
pub fn create_folder(path: &Path) -> io::Result<()> {
    change!(Operation::CreateFolder(path), fs::create_dir(path))
}

/// Forces the names in an open folder to the disk.
pub fn sync_folder(path: &Path, folder: &File) -> io::Result<()> {
    #[cfg(not(test))]
    let _ = path;
    change!(Operation::SyncFolder(path), force(folder))
}

fn force(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if faults::is_watched() {
        return Ok(());
    }
    file.sync_all()
}

/// Gives a file a second name, which must be free.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    change!(Operation::Link(from, to), fs::hard_link(from, to))
}

/// Makes a symbolic link, of a name that must be free.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    change!(Operation::Symlink(target, link), std::os::unix::fs::symlink(target, link))
}

/// Renames a file or folder; a file of the new name is replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    change!(Operation::Rename(from, to), fs::rename(from, to))
}

/// Renames a file or folder to a name that must be free.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let rename = || rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
    change!(Operation::RenameNew(from, to), rename().map_err(io::Error::from))
}

/// Removes a name of a file.
pub fn remove_file(path: &Path) -> io::Result<()> {
    change!(Operation::RemoveFile(path), fs::remove_file(path))
}

/// Removes a folder with all that is in it, one after the other.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    change!(Operation::RemoveTree(path), fs::remove_dir_all(path))
}

/// Sets the time of the last change to now, by the clock of whoever holds the file: on a network that is the server.
pub fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // Both times: then whoever may write the file may do so, and need not own it.
    let times = Timestamps { last_access: now, last_modification: now };
    let touch = || rustix::fs::utimensat(CWD, path, &times, AtFlags::empty());
    change!(Operation::Touch(path), touch().map_err(io::Error::from))
}
