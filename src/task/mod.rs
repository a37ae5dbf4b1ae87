//! Tasks: prompts, expected answers and rewards. Pure: text in, numbers out.
//!
//! In: a [`TaskSpec`] and the names for it. Out: episodes, demonstrations and rewards, each a pure function of the
//! settings and of (seed, stream, index). Invariant: a perfect answer earns exactly 1, any answer between 0 and 1.

mod alphabet_sort;
mod difflib;
mod error;
mod names;
mod prompts;
mod reward;
mod spec;
mod text;

#[cfg(test)]
mod oracle_tests;

pub use alphabet_sort::{AlphabetSort, Episode, Turn};
pub use difflib::ratio;
pub use error::TaskError;
pub use names::{NameSource, shipped_names};
pub use prompts::{check_prompts, default_prompts};
pub use reward::{Reward, Tag};
pub use spec::{
    AlphabetSortSpec, DataSpec, Episodes, HubDataset, NamesSpec, PromptTemplates, QuestionSpec, RowNames,
    SortBy, TaskSpec,
};

use crate::counter::Counter;

/// Any of the tasks.
#[derive(Clone, Debug)]
pub enum Task {
    /// `task.type = "alphabet_sort"`.
    AlphabetSort(AlphabetSort),
}

impl Task {
    /// Builds the task that `spec` describes, on `names` as read from where `spec` says.
    ///
    /// # Errors
    /// When the settings, the templates or the names do not serve; see [`AlphabetSort::new`].
    pub fn new(spec: &TaskSpec, names: NameSource) -> Result<Self, TaskError> {
        match spec {
            TaskSpec::AlphabetSort(spec) => AlphabetSort::new(spec, names).map(Self::AlphabetSort),
            TaskSpec::Gsm8k(_) => Err(TaskError::NotBuilt { what: "`task.type` = \"gsm8k\"" }),
            TaskSpec::Math(_) => Err(TaskError::NotBuilt { what: "`task.type` = \"math\"" }),
        }
    }

    /// The `index`-th episode of `stream` (such as `train`, `eval`, `demonstration`, `fisher`) under `seed`.
    ///
    /// # Errors
    /// When a template fails on this very episode.
    pub fn episode(&self, seed: u64, stream: &str, index: u64) -> Result<Episode, TaskError> {
        match self {
            Self::AlphabetSort(task) => task.episode(seed, stream, index),
        }
    }

    /// The reward of `completions`, one for each turn that was answered.
    pub fn reward(&self, episode: &Episode, completions: &[String]) -> Reward {
        match self {
            Self::AlphabetSort(task) => task.reward(episode, completions),
        }
    }

    /// The perfect answer to a turn, counted from 0.
    ///
    /// # Panics
    /// When the episode has no such turn.
    pub fn demonstration(&self, episode: &Episode, turn: usize) -> String {
        match self {
            Self::AlphabetSort(task) => task.demonstration(episode, turn),
        }
    }

    /// An answer to a turn in the right format, with the right lines in random order.
    ///
    /// # Panics
    /// When the episode has no such turn.
    pub fn shuffled_demonstration(&self, episode: &Episode, turn: usize, counter: &mut Counter) -> String {
        match self {
            Self::AlphabetSort(task) => task.shuffled_demonstration(episode, turn, counter),
        }
    }

    /// Strings of the answer format that a tokenizer does well to hold as single tokens.
    pub fn markers(&self) -> Vec<&'static str> {
        match self {
            Self::AlphabetSort(_) => AlphabetSort::tags().to_vec(),
        }
    }
}
