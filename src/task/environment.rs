//! What every task is: episodes out, conversations in, rewards back.
//!
//! Invariant: an episode is a pure function of the task's settings and data and of (seed, stream, index); a reward is one of
//! the conversation alone. So any of them can be asked again, in any order, by any process.

use std::fmt::Debug;

use serde_json::Value;

use super::error::TaskError;
use super::message::Message;
use crate::counter::Counter;

/// A conversation to be had: the model answers each turn and sees all that went before.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// What it is called in messages, such as `row 17`.
    pub name: String,
    /// What stands before the first turn: a system message, examples.
    pub before: Vec<Message>,
    /// The turns that are known beforehand, at least one.
    pub turns: Vec<Turn>,
    /// What its task needs to score it, and nobody else reads.
    pub info: Value,
}

/// One turn of an episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The user message.
    pub prompt: String,
    /// The lines of the right answer; empty where a task cannot say it.
    pub expected: Vec<String>,
}

/// What was said so far: as many answers as prompts, or one prompt more.
#[derive(Clone, Copy, Debug)]
pub struct Played<'a> {
    /// The episode.
    pub episode: &'a Episode,
    /// The user messages that were asked.
    pub prompts: &'a [String],
    /// What the model answered, one for each turn.
    pub answers: &'a [String],
}

impl Played<'_> {
    /// The whole conversation, from the system message to the last answer.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = self.episode.before.clone();
        for (turn, prompt) in self.prompts.iter().enumerate() {
            messages.push(Message::user(prompt));
            messages.extend(self.answers.get(turn).map(Message::assistant));
        }
        messages
    }
}

/// What an episode earned.
#[derive(Clone, Debug, PartialEq)]
pub struct Reward {
    /// The reward of the episode.
    pub total: f64,
    /// One score per turn of the episode, where the task scores turns.
    pub turns: Vec<f64>,
    /// What it is made of, or what else was measured, by name: logged, never trained on.
    pub parts: Vec<(String, f64)>,
}

impl Reward {
    /// A reward of one turn.
    pub fn single(total: f64, parts: &[(&str, f64)]) -> Self {
        let parts = parts.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Self { total, turns: vec![total], parts }
    }
}

/// A source of episodes and rewards.
pub trait Environment: Debug + Send + Sync {
    /// How many episodes there are: `None` where any index is one, drawn by (seed, stream, index).
    ///
    /// # Errors
    /// When the list cannot be made.
    fn count(&self, seed: u64, stream: &str) -> Result<Option<u64>, TaskError> {
        let _ = (seed, stream);
        Ok(None)
    }

    /// The episodes of these indices, in this order.
    ///
    /// # Errors
    /// When one cannot be made.
    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError>;

    /// The next user message of each conversation; `None` where it is over.
    ///
    /// # Errors
    /// When an outside program fails.
    fn respond(&self, played: &[Played<'_>]) -> Result<Vec<Option<String>>, TaskError> {
        let next = |played: &Played<'_>| {
            played.episode.turns.get(played.answers.len()).map(|turn| turn.prompt.clone())
        };
        Ok(played.iter().map(next).collect())
    }

    /// What each conversation earned.
    ///
    /// # Errors
    /// When an outside program fails.
    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError>;

    /// The least and the greatest reward.
    fn range(&self) -> (f64, f64) {
        (0.0, 1.0)
    }

    /// The perfect answer to a turn, counted from 0; with a counter, one in the right format and with the right parts in
    /// random order. `None` where the task cannot say it.
    fn demonstration(&self, episode: &Episode, turn: usize, shuffle: Option<&mut Counter>) -> Option<String>;

    /// Strings of the answer format that a tokenizer does well to hold as single tokens.
    fn markers(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The first `count` indices of the study's training order, whose generator stands where making the evaluation's
    /// episodes with `eval_seed` leaves it.
    ///
    /// # Errors
    /// When the task has no such order.
    fn recycled(&self, eval_seed: u64, count: u64) -> Result<Vec<u64>, TaskError> {
        let _ = (eval_seed, count);
        Err(TaskError::NoRecycling)
    }
}
