//! The process group of a worker, and the watcher that leads it.
//!
//! The watcher is a shell that waits at a pipe whose other end only this process holds. When this process ends, be it by
//! SIGKILL, the pipe closes and the watcher ends the group. While the watcher has not been asked for its status no other
//! process or group can get its number, so that a signal to the group never goes astray.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::stray;

/// What the watcher does. `$0` is the mark of the worker. The shell's own id is that of the group, because it leads it.
const WATCH: &str = r#"trap '' HUP INT QUIT TERM
read -r end
for file in $(grep -lsaF -e "$0" /proc/[0-9]*/environ); do
  stray=${file#/proc/}
  kill -s KILL "${stray%/environ}"
done
kill -s KILL -- "-$$""#;

/// The longest wait for a process that was sent SIGKILL. One that waits for a broken disk may take longer; it is left.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// A process group with its watcher.
#[derive(Debug)]
pub(super) struct Group {
    watcher: Child,
    /// Closes when this process ends. Nothing is ever written.
    _line: Option<ChildStdin>,
    mark: String,
}

impl Group {
    /// A new group, with nothing but the watcher in it.
    pub fn start() -> io::Result<Self> {
        // Not a draw: a name that no other worker has, on this machine and in its containers.
        let mark = format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(std::process::id()));
        let mut watcher = Command::new("/bin/sh")
            .args(["-c", WATCH, &format!("{}={mark}", stray::VARIABLE)])
            .env_remove(stray::VARIABLE)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let line = watcher.stdin.take();
        Ok(Self { watcher, _line: line, mark })
    }

    /// Lets a command start in this group, with its mark.
    pub fn admit(&self, command: &mut Command) {
        command.process_group(self.watcher.id().cast_signed()).env(stray::VARIABLE, &self.mark);
    }

    /// Sends a signal to all in the group. The watcher heeds SIGKILL alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(id) = Pid::from_raw(self.watcher.id().cast_signed()) {
            // A group all of whose processes have ended needs no signal.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        stray::end_all(&self.mark);
        wait_for(&mut self.watcher, KILL_WAIT);
    }
}

/// Waits for a process to end, at most so long; whether it did.
pub(super) fn wait_for(child: &mut Child, most: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + most;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => {}
            Err(_) => return None,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
