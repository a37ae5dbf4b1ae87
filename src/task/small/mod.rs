//! Small tasks that a tiny model learns on a CPU in minutes: one question, one short answer, checked by rule.
//!
//! The whole answer is read, white space around it left out. Every episode is a function of (seed, stream, index).

mod arithmetic;
mod countdown;
mod expression;
mod mixture;
mod reverse;

use serde_json::Value;

pub use arithmetic::Arithmetic;
pub use countdown::Countdown;
pub use mixture::Mixture;
pub use reverse::Reverse;

use super::environment::{Episode, Turn};
use super::error::TaskError;

/// An episode of one question.
fn question(stream: &str, seed: u64, index: u64, prompt: String, answer: String, info: Value) -> Episode {
    Episode {
        name: format!("{stream} {index} of seed {seed}"),
        before: Vec::new(),
        turns: vec![Turn { prompt, expected: vec![answer] }],
        info,
    }
}

/// The right answer of an episode of one question.
fn truth(episode: &Episode) -> &str {
    episode.turns.first().and_then(|turn| turn.expected.first()).map_or("", String::as_str)
}

/// A setting that has to be within bounds.
fn within(key: &'static str, value: u32, low: u32, high: u32) -> Result<u32, TaskError> {
    if (low..=high).contains(&value) { Ok(value) } else { Err(TaskError::Outside { key, value, low, high }) }
}
