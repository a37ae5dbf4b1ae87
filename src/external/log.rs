//! What programs write to their standard error: the last lines are kept for messages, all of it goes to a sink.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Where lines of a log go: each call is one line, without its end.
pub type Sink = Box<dyn FnMut(&str) + Send>;

/// Lines that are kept of a worker.
const KEPT: usize = 20;
/// The longest line; a longer one is cut in two.
const LONGEST: usize = 2000;
/// What one process may bring to the log.
const MOST: usize = 16 << 20;

/// The log of a program, which its workers share.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Sink>>);

impl Log {
    pub fn new(sink: Sink) -> Self {
        Self(Arc::new(Mutex::new(sink)))
    }

    /// Writes a line.
    pub fn line(&self, text: &str) {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(text);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Log")
    }
}

/// What one process has written.
#[derive(Debug)]
pub(super) struct Said {
    log: Log,
    worker: u32,
    partial: Vec<u8>,
    last: VecDeque<String>,
    logged: usize,
}

impl Said {
    pub fn new(log: Log, worker: u32) -> Self {
        Self { log, worker, partial: Vec::new(), last: VecDeque::new(), logged: 0 }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            while self.partial.len() > LONGEST {
                let rest = self.partial.split_off(LONGEST);
                self.flush();
                self.partial = rest;
            }
            if self.partial.last() == Some(&b'\n') {
                self.flush();
            }
        }
    }

    /// Ends a line that has no end.
    pub fn flush(&mut self) {
        let line = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&line);
        // Colours and the like would upset a terminal.
        let text: String =
            text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        if text.trim().is_empty() {
            return;
        }
        if self.logged <= MOST {
            self.logged += text.len() + 1;
            let worker = self.worker;
            if self.logged > MOST {
                self.log.line(&format!("worker {worker}: what else this process writes is left out"));
            } else {
                self.log.line(&format!("worker {worker}: {text}"));
            }
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    /// The last lines.
    pub fn last(&mut self) -> Vec<String> {
        self.flush();
        self.last.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> (Log, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        (Log::new(Box::new(move |line| kept.lock().expect("lines").push(line.to_owned()))), lines)
    }

    #[test]
    fn lines_are_whole_printable_and_the_last_are_kept() {
        let (log, lines) = heard();
        let mut said = Said::new(log, 3);
        said.push(b"one\ntw");
        said.push(b"o\x1b\xff\n\n");
        said.push(&[b'x'; LONGEST + 1]);
        let last = said.last();
        assert_eq!(last[..2], ["one", "two \u{fffd}"]);
        assert_eq!(last[2..].iter().map(String::len).collect::<Vec<_>>(), [LONGEST, 1]);
        assert_eq!(lines.lock().expect("lines")[0], "worker 3: one");
        for number in 0..100 {
            said.push(format!("{number}\n").as_bytes());
        }
        assert_eq!(said.last().len(), KEPT);
        assert_eq!(said.last()[KEPT - 1], "99");
    }

    #[test]
    fn a_flood_does_not_fill_the_log() {
        let (log, lines) = heard();
        let mut said = Said::new(log, 0);
        let line = [[b'y'; 999].as_slice(), b"\n"].concat();
        for _ in 0..MOST / 1000 + 50 {
            said.push(&line);
        }
        let lines = lines.lock().expect("lines");
        assert_eq!(lines.len(), MOST / 1000 + 1);
        assert_eq!(lines[lines.len() - 1], "worker 0: what else this process writes is left out");
    }
}
