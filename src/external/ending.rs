//! How a process ended, in words.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How a worker of a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Not by itself: it was ended.
    Killed,
}

impl Ending {
    /// Exit status 0.
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }

    /// The signal, its own or the one that a shell reports of its command as 128 and more.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Signal(signal) => Some(signal),
            Self::Status(status) if status > 128 && name(status - 128).is_some() => Some(status - 128),
            Self::Status(_) | Self::Killed => None,
        }
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Status(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Killed,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => {
                write!(out, "exit status {status}")?;
                match self.signal().and_then(name) {
                    Some(name) => write!(out, " (signal {}, {name})", status - 128),
                    None => Ok(()),
                }
            }
            Self::Signal(signal) => match name(*signal) {
                Some(name) => write!(out, "signal {signal} ({name})"),
                None => write!(out, "signal {signal}"),
            },
            Self::Killed => write!(out, "no exit status"),
        }
    }
}

fn name(signal: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 14] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (31, "SIGSYS"),
    ];
    NAMES.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_said_in_words() {
        assert_eq!(Ending::Status(3).to_string(), "exit status 3");
        assert_eq!(Ending::Status(139).to_string(), "exit status 139 (signal 11, SIGSEGV)");
        assert_eq!(Ending::Status(255).to_string(), "exit status 255");
        assert_eq!(Ending::Signal(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(Ending::from(ExitStatus::from_raw(0x0300)), Ending::Status(3));
        assert_eq!(Ending::from(ExitStatus::from_raw(15)), Ending::Signal(15));
    }
}
