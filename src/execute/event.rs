//! What a worker process tells the sweep: one JSON object per line on its standard output.
//!
//! In: what happens in a stage. Out: lines such as `{"event":{"progress":{"step":3,"message":"reward 0.31"}}}`; the last
//! line is `"finished"`, `{"paused":{..}}`, `{"failed":{..}}`, `{"busy":{..}}`,
//! `"already"` or `"lost"`.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::trainer::StageFailure;

/// Something that happened in a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A phase begins.
    Phase {
        /// Its name, as in "warm start", "scores", "train".
        name: String,
        /// How many steps it has.
        steps: u32,
    },
    /// So many steps of the phase are complete.
    Progress {
        /// Complete steps.
        step: u32,
        /// What is worth showing, as in "reward 0.31".
        message: String,
    },
    /// An attempt of a run begins.
    Attempt {
        /// Its number.
        number: u32,
    },
    /// Something that the user should see.
    Note(String),
}

/// A line of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// The stage is complete.
    Finished,
    /// The stage was complete before this worker could begin: another had done it.
    Already,
    /// The stage stopped when asked to.
    Paused {
        /// Steps that are complete and saved.
        step: Option<u32>,
    },
    /// The stage failed.
    Failed(StageFailure),
    /// Another worker is at this stage, so nothing was done.
    Busy {
        /// Who that is.
        holder: String,
    },
    /// The worker lost its lease in mid-work; what it had saved stays.
    Lost,
}

/// The worker's end of the protocol. Lines are written whole, from whichever thread, each after an empty one.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<Box<dyn Write + Send>>>);

impl Wire {
    /// Sends lines to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Sends one line. That nobody listens any more is no reason to fail: what counts is in the store.
    pub fn send(&self, message: &Message) {
        let text = serde_json::to_string(message).expect("messages hold only strings and numbers");
        // A library may have printed half a line of its own: a line of the protocol begins on a new one.
        let line = format!("\n{text}\n");
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::trainer::FailureClass;
    use super::*;

    #[test]
    fn lines_are_as_documented_and_read_back() {
        let failure = StageFailure::new(FailureClass::BadConfig, "no\nsuch thing").at(3);
        for (message, line) in [
            (
                Message::Event(Event::Progress { step: 3, message: "reward 0.31".into() }),
                r#"{"event":{"progress":{"step":3,"message":"reward 0.31"}}}"#,
            ),
            (Message::Event(Event::Note("x".into())), r#"{"event":{"note":"x"}}"#),
            (Message::Finished, r#""finished""#),
            (Message::Paused { step: Some(2) }, r#"{"paused":{"step":2}}"#),
            (Message::Event(Event::Attempt { number: 3 }), r#"{"event":{"attempt":{"number":3}}}"#),
            (Message::Busy { holder: "x".into() }, r#"{"busy":{"holder":"x"}}"#),
            (Message::Lost, r#""lost""#),
            (Message::Already, r#""already""#),
            (
                Message::Failed(failure),
                r#"{"failed":{"class":"bad-config","step":3,"message":"no\nsuch thing","hint":null}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
            assert_eq!(serde_json::from_str::<Message>(line).unwrap(), message);
        }
    }
}
