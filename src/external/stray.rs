//! Processes that have left the process group of their worker: found by a mark in their environment, and ended.
//!
//! A program that makes a daemon of a part of itself (`setsid`) takes it out of the group. The environment is inherited all
//! the same, so the mark of the worker finds it.

use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that holds the mark.
pub(super) const VARIABLE: &str = "STARTED_BY_TICKETS";
/// How often the processes are gone through: one that is being ended may be starting another.
const ROUNDS: usize = 4;

/// Ends every process that has this mark in its environment.
pub(super) fn end_all(mark: &str) {
    for _ in 0..ROUNDS {
        if end_some(mark) == 0 {
            break;
        }
    }
}

/// The same once; how many there were.
fn end_some(mark: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| end(*id, mark)).count()
}

/// Whether this process had the mark and was sent its end. It is held by a file descriptor before it is looked at, so that
/// the signal reaches no other process that has got its number.
fn end(id: i32, mark: &str) -> bool {
    let Some(pid) = Pid::from_raw(id) else { return false };
    if !is_marked(id, mark) {
        return false;
    }
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    is_marked(id, mark) && pidfd_send_signal(held, Signal::KILL).is_ok()
}

fn is_marked(id: i32, mark: &str) -> bool {
    let wanted = format!("{VARIABLE}={mark}");
    // A process that has ended, even if nobody has asked for its status, has no environment.
    let environment = std::fs::read(Path::new("/proc").join(id.to_string()).join("environ"));
    environment.is_ok_and(|text| text.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}
