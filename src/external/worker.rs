//! One process of a program: a line in, a line out, within a time.
//!
//! Its pipes are read and written as they become ready, all three in one place, so that neither side waits for the other
//! forever and no thread is left behind at a pipe that something else holds open.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use super::MOST_BYTES;
use super::ending::Ending;
use super::error::Trouble;
use super::group::{Group, wait_for};
use super::lines::{Lines, excerpt};
use super::log::{Log, Said};

/// How often a silent process is looked at: the end of one whose pipes are still held is not an event of the pipes.
const LOOK: Duration = Duration::from_millis(200);
/// The wait for the end of a process that has closed its output, and for what it still has to say.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The wait after SIGTERM.
const TERM_WAIT: Duration = Duration::from_secs(1);

/// A process of the program.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    lines: Lines,
    said: Said,
    ending: Option<Ending>,
    /// Ends all of it when it is dropped.
    group: Group,
}

impl Worker {
    /// Starts the process.
    pub fn start(line: &OsStr, number: u32, log: Log) -> Result<Self, Trouble> {
        Self::spawn(line, number, log).map_err(Trouble::Start)
    }

    fn spawn(line: &OsStr, number: u32, log: Log) -> io::Result<Self> {
        let group = Group::start()?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Python orders its sets by it, and draws it anew for every process.
        command.env("PYTHONHASHSEED", "0");
        group.admit(&mut command);
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let worker = Self {
            child,
            stdin,
            stdout,
            stderr,
            lines: Lines::default(),
            said: Said::new(log, number),
            ending: None,
            group,
        };
        worker.stdin.as_ref().map_or(Ok(()), never_wait)?;
        worker.stdout.as_ref().map_or(Ok(()), never_wait)?;
        worker.stderr.as_ref().map_or(Ok(()), never_wait)?;
        Ok(worker)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line, with its end, and waits for the answer.
    pub fn exchange(&mut self, request: &str, limit: Duration) -> Result<Vec<u8>, Trouble> {
        let deadline = Instant::now() + limit;
        let mut unsent = request.as_bytes();
        if let Some(line) = self.unasked() {
            return Err(Trouble::Unasked(line));
        }
        loop {
            if unsent.is_empty() {
                match self.lines.next() {
                    Some(line) if line.len() > MOST_BYTES => return Err(Trouble::LongLine),
                    Some(line) => return Ok(line),
                    None if self.lines.is_full() => return Err(Trouble::LongLine),
                    None => {}
                }
            }
            if self.stdout.is_none() || (self.stdin.is_none() && !unsent.is_empty()) {
                return Err(self.over());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let late = Trouble::TimedOut(limit.as_secs_f64());
                return Err(if self.is_deaf() { Trouble::InputClosed } else { late });
            }
            // The end of the process is looked for when its pipes are quiet: what it had written counts.
            if !self.pump(&mut unsent, left.min(LOOK))
                && self.has_ended()
                && !self.pump(&mut unsent, Duration::ZERO)
            {
                return Err(self.over());
            }
        }
    }

    /// Whether it has ended, or closed what it would be asked by.
    pub fn is_over(&mut self) -> bool {
        self.pump(&mut [].as_slice(), Duration::ZERO);
        self.stdout.is_none() || self.stdin.is_none() || self.has_ended()
    }

    /// Whether nobody reads its input any more.
    fn is_deaf(&self) -> bool {
        let Some(stdin) = &self.stdin else { return true };
        let mut polled = [PollFd::new(stdin, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::ERR)
    }

    /// What it has written that was not asked for.
    fn unasked(&mut self) -> Option<String> {
        self.pump(&mut [].as_slice(), Duration::ZERO);
        let line = self.lines.next().unwrap_or_else(|| self.lines.rest().to_vec());
        (!line.is_empty()).then(|| excerpt(&line))
    }

    /// The last lines of its standard error.
    pub fn last(&mut self) -> Vec<String> {
        self.said.last()
    }

    /// Ends its input, by which it is asked to end.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Asks it to end, waits so long, and ends it. Returns how it ended, and what it wrote without being asked.
    pub fn close(mut self, grace: Duration) -> (Ending, Option<String>) {
        self.hang_up();
        self.wait(grace);
        let unasked = self.unasked();
        let ending = self.ending.unwrap_or(Ending::Killed);
        if ending == Ending::Killed {
            self.group.signal(Signal::TERM);
            self.wait(TERM_WAIT);
        }
        (ending, unasked)
    }

    /// Waits for the end of the process, at most so long, and hears what it says meanwhile.
    fn wait(&mut self, most: Duration) {
        let deadline = Instant::now() + most;
        let mut pause = Duration::from_millis(1);
        while !self.has_ended() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.stdout.is_none() && self.stderr.is_none() {
                std::thread::sleep(pause.min(left));
            } else {
                self.pump(&mut [].as_slice(), pause.min(left));
            }
            pause = (pause * 2).min(LOOK);
        }
        self.pump(&mut [].as_slice(), Duration::ZERO);
    }

    /// Why there will be no answer, after its last words.
    fn over(&mut self) -> Trouble {
        self.wait(LAST_WORDS);
        let deadline = Instant::now() + LAST_WORDS;
        while self.stderr.is_some() && Instant::now() < deadline {
            if !self.pump(&mut [].as_slice(), LOOK / 4) {
                break;
            }
        }
        let partial = (!self.lines.rest().is_empty()).then(|| excerpt(self.lines.rest()));
        match self.ending {
            Some(ending) => Trouble::Ended { ending, partial },
            None if self.stdout.is_none() => Trouble::OutputClosed,
            None => Trouble::InputClosed,
        }
    }

    fn has_ended(&mut self) -> bool {
        if self.ending.is_none() {
            self.ending = self.child.try_wait().ok().flatten().map(Ending::from);
        }
        self.ending.is_some()
    }

    /// Moves what can be moved, after waiting at most so long for something that can. Whether something was moved.
    fn pump(&mut self, unsent: &mut &[u8], wait: Duration) -> bool {
        // A program that writes without end is stopped by a full pipe.
        let stdout = self.stdout.as_ref().filter(|_| !self.lines.is_full());
        let stdin = self.stdin.as_ref().filter(|_| !unsent.is_empty());
        let mut polled: Vec<PollFd> = Vec::with_capacity(3);
        polled.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        polled.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        polled.extend(stdin.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        let limit = Timespec::try_from(wait).ok();
        // An interrupted wait is one without an event.
        let ready = poll(&mut polled, limit.as_ref()).unwrap_or(0);
        if ready == 0 {
            return false;
        }
        let (reads, writes) = (stdout.is_some(), stdin.is_some());
        let mut moved = false;
        if reads {
            moved |= read(&mut self.stdout, |bytes| self.lines.push(bytes));
        }
        moved |= read(&mut self.stderr, |bytes| self.said.push(bytes));
        if writes {
            moved |= write(&mut self.stdin, unsent);
        }
        moved
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.said.flush();
        if self.ending.is_none() {
            self.group.signal(Signal::KILL);
            wait_for(&mut self.child, TERM_WAIT * 5);
        }
    }
}

/// A pipe's end of this side answers at once, ready or not. The program's own end is not touched.
fn never_wait(pipe: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&pipe)?;
    Ok(fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

/// Reads what is there; the pipe is dropped at its end. Whether anything came of it.
fn read(pipe: &mut Option<impl Read>, mut take: impl FnMut(&[u8])) -> bool {
    let Some(open) = pipe else { return false };
    let mut buffer = [0; 1 << 14];
    match open.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(count) => take(&buffer[..count]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
        Err(_) => *pipe = None,
    }
    true
}

/// Writes what goes; the pipe is dropped when nobody reads it. Whether anything came of it.
fn write(pipe: &mut Option<ChildStdin>, unsent: &mut &[u8]) -> bool {
    let Some(open) = pipe else { return false };
    match open.write(unsent) {
        Ok(count) => *unsent = &unsent[count..],
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
        Err(_) => *pipe = None,
    }
    true
}
