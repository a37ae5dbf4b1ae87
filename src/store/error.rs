//! What can go wrong with the results folder.
//!
//! In: an I/O error with the action and the path. Out: a variant that says which kind of trouble it is, because a
//! full disk, a read-only mount and a missing permission each need other advice.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space or quota is left.
    #[error("no space left to {action} {}", path.display())]
    DiskFull {
        /// What was attempted, as in "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The permissions forbid it.
    #[error("no permission to {action} {}", path.display())]
    Denied {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error("cannot {action} {}: the file system is read-only", path.display())]
    ReadOnly {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A component of the path is a file where a folder is needed.
    #[error("cannot {action} {}: a part of this path is a file, not a folder", path.display())]
    NotAFolder {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Any other trouble with a file.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not hold what its marker says, or does not parse.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file was written by a newer program.
    #[error("{} has format {found}, but this program reads formats up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format known.
        known: u64,
    },
    /// An earlier version of the program, which lets nobody else in, works in the same results folder.
    #[error("{} is in use by process {pid} on {host}, an earlier version of tickets", path.display())]
    Locked {
        /// The results folder.
        path: PathBuf,
        /// The holder's process id.
        pid: u32,
        /// The holder's host.
        host: String,
        /// The record of its lock.
        lock: PathBuf,
    },
    /// A file name or an id that the store does not accept.
    #[error("{name:?} cannot be used as a name in the store")]
    BadName {
        /// The name.
        name: String,
    },
    /// A file is not listed in the marker.
    #[error("{} holds no file {file:?}", path.display())]
    NoSuchFile {
        /// The artifact's folder.
        path: PathBuf,
        /// The file asked for.
        file: String,
    },
    /// A store that is to be looked at is not there.
    #[error("there is no store in {}", path.display())]
    NoStore {
        /// The results folder.
        path: PathBuf,
    },
    /// No run, or more than one, has an id that begins like this.
    #[error("{}", match candidates.as_slice() {
        [] => format!("no run in {} has an id that begins with {prefix:?}", path.display()),
        some => format!("{prefix:?} fits {} runs in {}: {}", some.len(), path.display(), some.join(", ")),
    })]
    NoSuchRun {
        /// The results folder.
        path: PathBuf,
        /// What was asked for.
        prefix: String,
        /// The short ids that fit, when there are several.
        candidates: Vec<String>,
    },
    /// The store was opened for reading only.
    #[error("{} was opened for reading only", path.display())]
    OpenedReadOnly {
        /// The results folder.
        path: PathBuf,
    },
}

impl StoreError {
    /// Sorts an I/O error by what the user has to do about it.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { action, path, source }
            }
            io::ErrorKind::PermissionDenied => Self::Denied { action, path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { action, path, source },
            io::ErrorKind::NotADirectory => Self::NotAFolder { action, path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// A damaged file.
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.into() }
    }

    /// Whether the disk is full: nothing is damaged, and the same command goes on once there is space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::DiskFull { .. } => {
                "nothing is damaged: free some space and run the same command again, or choose another folder with --results"
                    .to_owned()
            }
            Self::Denied { .. } | Self::ReadOnly { .. } => {
                "choose a folder that you can write with --results DIR (make: RESULTS=DIR), or correct its permissions"
                    .to_owned()
            }
            Self::NotAFolder { .. } => "choose a folder with --results DIR (make: RESULTS=DIR)".to_owned(),
            Self::NoStore { .. } => "is --results DIR right? `tickets sweep` makes a store".to_owned(),
            Self::Damaged { path, .. } if path.ends_with(".store/format") => {
                "`tickets verify store --repair` writes it anew; results are not touched".to_owned()
            }
            Self::Damaged { .. } => {
                "the next sweep moves damaged results to .store/quarantine and computes them again".to_owned()
            }
            Self::Newer { .. } => "use the newer program, or another folder with --results DIR".to_owned(),
            Self::Locked { lock, .. } => format!(
                "let it end or stop it; if it is on another host and gone, remove {}; then this version takes the folder over",
                lock.display()
            ),
            Self::NoSuchRun { candidates, .. } if candidates.is_empty() => {
                "`tickets plan MANIFEST` lists the runs of a manifest".to_owned()
            }
            Self::NoSuchRun { .. } => "give more digits of the id".to_owned(),
            Self::Io { .. } | Self::BadName { .. } | Self::NoSuchFile { .. } | Self::OpenedReadOnly { .. } => {
                return None;
            }
        })
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = error.hint();
        let code = if matches!(error, StoreError::NoSuchRun { .. }) { Code::Plan } else { Code::Store };
        Self::new(code, error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let path = Path::new("p");
        let of = |code| StoreError::io("write", path, io::Error::from_raw_os_error(code));
        assert!(matches!(of(28), StoreError::DiskFull { .. }));
        assert!(matches!(of(122), StoreError::DiskFull { .. }));
        assert!(matches!(of(30), StoreError::ReadOnly { .. }));
        assert!(matches!(of(13), StoreError::Denied { .. }));
        assert!(matches!(of(1), StoreError::Denied { .. }));
        assert!(matches!(of(5), StoreError::Io { .. }));
        assert_eq!(of(28).to_string(), "no space left to write p");
    }
}
