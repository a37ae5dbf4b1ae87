//! Faults on demand, for tests alone: every change of the disk is counted, recorded, and made to fail when told to.
//!
//! In: the number of an operation and a kind of fault. Out: what the store did under it, and the changes that reached
//! the disk, in order. Invariants: it is per thread, so tests do not disturb each other; while it watches, nothing is
//! really forced to the disk, because what would be durable is computed from the record.
//!
//! Source: SQLite's test VFS and Pebble's crashable memory file system; ALICE (OSDI'14) for what may persist.

#![expect(clippy::disallowed_methods, reason = "half of a write or a removal is done here")]

mod check;
mod dice;
mod model;
mod power;
mod scenario;
mod struck;

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A change of the disk, with borrowed or owned paths and bytes.
#[derive(Clone, Debug)]
pub enum Operation<P, B> {
    /// A new file.
    CreateFile(P),
    /// A file that is opened for appending and created where it is missing.
    OpenAppend(P),
    /// Bytes at the end of a file.
    Append(P, B),
    /// A file is cut back to a length.
    Cut(P, u64),
    /// A file's bytes are forced to the disk.
    SyncFile(P),
    /// That failed: what was not on the disk may never get there.
    SyncFailed(P),
    /// A new folder.
    CreateFolder(P),
    /// A folder's names are forced to the disk.
    SyncFolder(P),
    /// A second name.
    Link(P, P),
    /// A symbolic link: what it points to, and its name.
    Symlink(P, P),
    /// Another name, which may replace a file.
    Rename(P, P),
    /// Another name, which is free.
    RenameNew(P, P),
    /// A name goes.
    RemoveFile(P),
    /// A folder goes with all that is in it.
    RemoveTree(P),
    /// A time is set.
    Touch(P),
}

/// A change that has happened.
pub type Change = Operation<PathBuf, Vec<u8>>;

impl Operation<&Path, &[u8]> {
    fn to_change(&self) -> Change {
        use Operation::*;
        let own = |path: &Path| path.to_path_buf();
        match *self {
            CreateFile(path) => CreateFile(own(path)),
            OpenAppend(path) => OpenAppend(own(path)),
            Append(path, bytes) => Append(own(path), bytes.to_vec()),
            Cut(path, length) => Cut(own(path), length),
            SyncFile(path) => SyncFile(own(path)),
            SyncFailed(path) => SyncFailed(own(path)),
            CreateFolder(path) => CreateFolder(own(path)),
            SyncFolder(path) => SyncFolder(own(path)),
            Link(from, to) => Link(own(from), own(to)),
            Symlink(target, link) => Symlink(own(target), own(link)),
            Rename(from, to) => Rename(own(from), own(to)),
            RenameNew(from, to) => RenameNew(own(from), own(to)),
            RemoveFile(path) => RemoveFile(own(path)),
            RemoveTree(path) => RemoveTree(own(path)),
            Touch(path) => Touch(own(path)),
        }
    }

    /// Whether it fails on a full disk.
    fn needs_space(&self) -> bool {
        use Operation::*;
        matches!(self, CreateFile(_) | OpenAppend(_) | Append(..) | CreateFolder(_) | Link(..) | Symlink(..))
    }

    /// Does half of it, where it has halves, and says what that was.
    fn do_half(&self) -> Vec<Change> {
        match *self {
            Operation::Append(path, bytes) => {
                let half = &bytes[..bytes.len() / 2];
                let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(half).unwrap();
                vec![Operation::Append(path.to_path_buf(), half.to_vec())]
            }
            Operation::RemoveTree(path) => {
                let entries = walkdir::WalkDir::new(path).sort_by_file_name().into_iter();
                let files: Vec<PathBuf> = entries
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_type().is_file())
                    .map(walkdir::DirEntry::into_path)
                    .collect();
                let half = files[..files.len().div_ceil(2)].iter();
                half.map(|file| fs::remove_file(file).map(|()| Operation::RemoveFile(file.clone())).unwrap())
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an I/O error and does nothing.
    Io,
    /// It is done, but the answer is an I/O error.
    AnswerLost,
    /// It fails because the disk is full, and the next one does not.
    FullOnce,
    /// It fails because the disk is full, half done, and the next one does not.
    ShortOnce,
    /// It fails because the disk is full, half done, and from then on everything fails that needs space.
    FullForGood,
    /// The process is killed before it.
    Kill,
    /// The process is killed in the middle of it.
    KillHalfway,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::Io,
        Self::AnswerLost,
        Self::FullOnce,
        Self::ShortOnce,
        Self::FullForGood,
        Self::Kill,
        Self::KillHalfway,
    ];

    /// Whether what the user is told must be that the disk is full.
    pub fn is_full(self) -> bool {
        matches!(self, Self::FullOnce | Self::ShortOnce | Self::FullForGood)
    }

    fn error(self) -> io::Error {
        match self {
            Self::Io | Self::AnswerLost => Errno::IO.into(),
            Self::FullOnce | Self::ShortOnce | Self::FullForGood => Errno::NOSPC.into(),
            Self::Kill | Self::KillHalfway => io::Error::other("this process is no more"),
        }
    }
}

/// What was seen on this thread.
#[derive(Debug, Default)]
pub struct Seen {
    fault: Option<(usize, Fault)>,
    /// How many operations were asked for.
    pub asked: usize,
    /// The operation that the fault struck.
    pub struck: Option<Change>,
    /// What happened to the disk, in order.
    pub changes: Vec<Change>,
}

thread_local! {
    static WATCHED: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Watches what `action` does on this thread, and has the operation of the given number fail, counted from 0.
pub fn watch<T>(fault: Option<(usize, Fault)>, action: impl FnOnce() -> T) -> (T, Seen) {
    /// Ends the watch even when a test panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            WATCHED.take();
        }
    }
    let before = WATCHED.replace(Some(Seen { fault, ..Seen::default() }));
    assert!(before.is_none(), "one watch at a time");
    let end = End;
    let done = action();
    let seen = WATCHED.take().unwrap();
    drop(end);
    (done, seen)
}

/// How many changes have reached the disk since the watch began.
pub fn changes_so_far() -> usize {
    WATCHED.with_borrow(|seen| seen.as_ref().map_or(0, |seen| seen.changes.len()))
}

/// Called for every primitive operation: does it by `act`, or has it fail.
pub fn observed<T>(
    operation: &Operation<&Path, &[u8]>,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(fault) = WATCHED.with_borrow_mut(|seen| seen.as_mut().map(|seen| seen.next(operation))) else {
        return act();
    };
    let record = |changes: Vec<Change>| {
        WATCHED.with_borrow_mut(|seen| seen.as_mut().unwrap().changes.extend(changes));
    };
    let result = match fault {
        None | Some(Fault::AnswerLost) => act(),
        Some(fault) => {
            if let Operation::SyncFile(path) = operation {
                record(vec![Operation::SyncFailed(path.to_path_buf())]);
            }
            if matches!(fault, Fault::ShortOnce | Fault::FullForGood | Fault::KillHalfway) {
                record(operation.do_half());
            }
            return Err(fault.error());
        }
    };
    if result.is_ok() {
        record(vec![operation.to_change()]);
    }
    match fault {
        None => result,
        Some(fault) => Err(fault.error()),
    }
}

impl Seen {
    /// Counts an operation; the fault that it meets.
    fn next(&mut self, operation: &Operation<&Path, &[u8]>) -> Option<Fault> {
        let number = self.asked;
        self.asked += 1;
        let (at, fault) = self.fault?;
        if number == at {
            self.struck = Some(operation.to_change());
            return Some(fault);
        }
        let lasting = match fault {
            Fault::Kill | Fault::KillHalfway => number > at,
            Fault::FullForGood => number > at && operation.needs_space(),
            Fault::Io | Fault::AnswerLost | Fault::FullOnce | Fault::ShortOnce => false,
        };
        // Half of something is done by the operation that was struck alone.
        lasting.then_some(if fault == Fault::FullForGood { Fault::FullOnce } else { Fault::Kill })
    }
}

/// An empty folder, in memory where that can be had: thousands of them are filled.
fn workplace() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Whether this thread is watched: then nothing need really be forced to the disk.
pub fn is_watched() -> bool {
    WATCHED.with_borrow(Option::is_some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::{self, DiskFile};

    fn files(folder: &Path) -> Vec<String> {
        crate::store::fs::list(folder).unwrap()
    }

    #[test]
    fn each_fault_does_what_it_says() {
        for fault in Fault::ALL {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let mut file = DiskFile::create_new(&path("file")).unwrap();
            let ((struck, after), seen) = watch(Some((1, fault)), || {
                disk::create_folder(&path("a")).unwrap();
                assert_eq!(changes_so_far(), 1);
                (file.append(b"1234"), disk::create_folder(&path("b")))
            });
            assert_eq!(seen.asked, 3);
            let error = struck.unwrap_err();
            assert_eq!(fault.is_full(), error.kind() == io::ErrorKind::StorageFull, "{fault:?}");
            let expected = match fault {
                Fault::Io | Fault::FullOnce | Fault::Kill => "",
                Fault::AnswerLost => "1234",
                Fault::ShortOnce | Fault::FullForGood | Fault::KillHalfway => "12",
            };
            assert_eq!(fs::read_to_string(path("file")).unwrap(), expected, "{fault:?}");
            let lasts = matches!(fault, Fault::FullForGood | Fault::Kill | Fault::KillHalfway);
            assert_eq!(after.is_err(), lasts, "{fault:?}");
            let names = if lasts { vec!["a", "file"] } else { vec!["a", "b", "file"] };
            assert_eq!(files(folder.path()), names, "{fault:?}");
        }
    }

    #[test]
    fn a_removal_that_is_cut_short_leaves_some_files() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        disk::create_folder(&tree).unwrap();
        for name in ["a", "b", "c"] {
            DiskFile::create_new(&tree.join(name)).unwrap();
        }
        let (removed, seen) = watch(Some((0, Fault::KillHalfway)), || disk::remove_tree(&tree));
        assert!(removed.is_err());
        assert_eq!(files(&tree), ["c"]);
        assert_eq!(seen.changes.len(), 2);
    }
}
