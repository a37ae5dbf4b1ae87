//! What can be wrong with a program, in words.

use std::fmt;
use std::io;

use super::ending::Ending;
use super::{MOST_BYTES, PROTOCOL};
use crate::exit::{Code, Failure};

/// Lines of a program's standard error that a message quotes, and the most characters of one.
const QUOTED: (usize, usize) = (6, 240);

/// A request that came to nothing.
#[derive(Debug)]
pub struct ExternalError {
    /// The command line of the program.
    pub command: String,
    /// Which worker, from 0.
    pub worker: u32,
    /// What it was asked for, such as `to score episode train 3`.
    pub request: String,
    /// It had been asked before, and that worker had died or not answered.
    pub again: bool,
    /// What happened.
    pub trouble: Box<Trouble>,
    /// The last lines that it wrote to standard error.
    pub last: Vec<String>,
}

/// What a worker did.
#[derive(Debug)]
pub enum Trouble {
    /// The process could not be started.
    Start(io::Error),
    /// It ended without an answer.
    Ended {
        /// How.
        ending: Ending,
        /// The beginning of a line that it left without an end.
        partial: Option<String>,
    },
    /// It closed its standard output, and did not end.
    OutputClosed,
    /// It closed its standard input, and did neither answer nor end.
    InputClosed,
    /// It did not answer within so many seconds.
    TimedOut(f64),
    /// A line of more than [`MOST_BYTES`].
    LongLine,
    /// It wrote this when nothing was asked.
    Unasked(String),
    /// A line that is not UTF-8.
    NotUtf8(String),
    /// A line that is not a JSON object.
    NotJson {
        /// The beginning of the line.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// The answer to another request.
    WrongId {
        /// The number that was asked with.
        asked: u64,
        /// What it answered with.
        got: String,
    },
    /// It speaks another version of the protocol.
    Version(String),
    /// The answer lacks something, or has something else in its place.
    Shape(String),
    /// It introduced itself as something else than before.
    Changed {
        /// The first time.
        before: String,
        /// Now.
        now: String,
    },
    /// It has longer conversations than the task's settings allow.
    Turns {
        /// Its turns.
        turns: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// A reward that is none.
    Reward {
        /// Which reward, of which episode.
        what: String,
        /// What it is, such as `NaN`.
        is: String,
    },
    /// The program itself reports an error.
    Said(String),
}

impl Trouble {
    /// Whether the worker died or did not answer, so that another one may do better.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Ended { .. } | Self::OutputClosed | Self::InputClosed | Self::TimedOut(_) | Self::Start(_)
        )
    }

    /// Whether the worker has answered as the protocol wants, and can be asked again.
    pub(super) fn leaves_worker(&self) -> bool {
        matches!(self, Self::Said(_))
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ended { ending: Ending::Status(127), .. } => {
                Some("the shell found no such command: is it installed, and on the PATH?")
            }
            Self::Ended { ending: Ending::Status(126), .. } => Some(
                "the shell may not execute it: make it executable (chmod +x), or name its interpreter in the command",
            ),
            Self::Ended { .. } | Self::OutputClosed => Some(
                "a program answers requests until its standard input ends; what went wrong is on its standard error",
            ),
            Self::InputClosed => Some("a program reads requests from its standard input until that ends"),
            Self::TimedOut(_) => Some(
                "does it flush its output after every answer? if it only needs longer, raise the time-out",
            ),
            Self::LongLine | Self::Unasked(_) | Self::NotUtf8(_) | Self::NotJson { .. } => Some(
                "standard output is for answers alone, one JSON object a line in UTF-8: write all else to standard error",
            ),
            Self::WrongId { .. } => Some("an answer repeats the `id` of its request"),
            Self::Version(_) => Some("docs/protocol.md describes the version that this program speaks"),
            Self::Shape(_) => Some("docs/protocol.md has an example of every answer"),
            Self::Changed { .. } => Some("a program says the same of itself at every start"),
            Self::Turns { .. } => {
                Some("raise `task.max_turns`, by which the length of a conversation is known beforehand")
            }
            Self::Reward { .. } => {
                Some("a reward is a finite number in the `range` that the program declares in its `hello`")
            }
            Self::Start(_) | Self::Said(_) => None,
        }
    }
}

impl ExternalError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.trouble.hint().map(str::to_owned)
    }

    /// Whether the same request may well succeed another time.
    pub fn is_transient(&self) -> bool {
        self.trouble.is_transient()
    }
}

impl fmt::Display for ExternalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = format!("worker {} of the program `{}`", self.worker, self.command);
        match &*self.trouble {
            Trouble::Start(error) => write!(out, "{who} could not be started: {error}")?,
            Trouble::Ended { ending, partial: None } => {
                write!(out, "{who} ended without an answer: {ending}")?;
            }
            Trouble::Ended { ending, partial: Some(line) } => {
                write!(
                    out,
                    "{who} ended in the middle of an answer: {ending}; the answer begins with {line}"
                )?;
            }
            Trouble::OutputClosed => write!(out, "{who} closed its standard output without an answer")?,
            Trouble::InputClosed => {
                write!(out, "{who} closed its standard input without an answer")?;
            }
            Trouble::TimedOut(seconds) => write!(out, "{who} did not answer within {seconds} s")?,
            Trouble::LongLine => write!(out, "{who} wrote a line of more than {} MiB", MOST_BYTES >> 20)?,
            Trouble::Unasked(line) => write!(out, "{who} wrote when nothing was asked: {line}")?,
            Trouble::NotUtf8(line) => write!(out, "{who} answered with a line that is not UTF-8: {line}")?,
            Trouble::NotJson { line, why } => {
                write!(out, "{who} answered with a line that is not a JSON object ({why}): {line}")?;
            }
            Trouble::WrongId { asked, got } => {
                write!(out, "{who} answered request {asked} with the id {got}")?;
            }
            Trouble::Version(got) => {
                write!(
                    out,
                    "{who} speaks version {got} of the protocol, and tickets speaks version {PROTOCOL}"
                )?;
            }
            Trouble::Shape(what) => write!(out, "{who} gave an answer of the wrong form: {what}")?,
            Trouble::Changed { before, now } => {
                write!(out, "{who} says of itself {now}, and said before {before}")?;
            }
            Trouble::Turns { turns, allowed } => {
                write!(out, "{who} has episodes of {turns} turns, and `task.max_turns` is {allowed}")?;
            }
            Trouble::Reward { what, is } => write!(out, "{what} is {is}, by {who}")?,
            Trouble::Said(text) => write!(out, "{who} reports an error: {text}")?,
        }
        write!(out, "\n  it was asked {}", self.request)?;
        if self.again {
            write!(out, ", for the second time and by a fresh process")?;
        }
        let (most, longest) = QUOTED;
        if !self.last.is_empty() {
            write!(out, "\n  its last words on standard error:")?;
        }
        for line in &self.last[self.last.len().saturating_sub(most)..] {
            let short: String = line.chars().take(longest).collect();
            write!(out, "\n    | {short}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ExternalError {}

impl From<ExternalError> for Failure {
    fn from(error: ExternalError) -> Self {
        let hint = error.hint();
        Self::new(Code::Environment, error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_who_what_and_the_last_words() {
        let mut error = ExternalError {
            command: "python3 mine.py".to_owned(),
            worker: 2,
            request: "to score episode train 3".to_owned(),
            again: true,
            trouble: Box::new(Trouble::Ended { ending: Ending::Status(1), partial: None }),
            last: (0..9).map(|number| format!("line {number}")).collect(),
        };
        assert_eq!(
            error.to_string(),
            "worker 2 of the program `python3 mine.py` ended without an answer: exit status 1\n  \
             it was asked to score episode train 3, for the second time and by a fresh process\n  \
             its last words on standard error:\n    | line 3\n    | line 4\n    | line 5\n    | line 6\n    | line 7\n    | line 8"
        );
        assert!(error.is_transient());
        *error.trouble =
            Trouble::Reward { what: "the reward of episode train 3".to_owned(), is: "NaN".to_owned() };
        error.last.clear();
        error.again = false;
        assert_eq!(
            error.to_string(),
            "the reward of episode train 3 is NaN, by worker 2 of the program `python3 mine.py`\n  \
             it was asked to score episode train 3"
        );
        assert!(!error.is_transient());
    }
}
