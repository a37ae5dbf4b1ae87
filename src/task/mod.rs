//! Tasks: prompts, expected answers and rewards. Pure: text in, numbers out.
//!
//! In: a [`TaskSpec`] and the data for it. Out: episodes, demonstrations and rewards by way of [`Task`], which is any
//! [`Environment`] with an order and with its rewards checked. Invariant: a perfect answer earns the most that there is, and
//! every reward that leaves the room is finite and in the declared range.

mod alphabet_sort;
mod difflib;
mod environment;
mod error;
mod math;
mod message;
mod names;
mod order;
mod prompts;
mod python_episodes;
mod questions;
mod reward;
mod small;
mod spec;
#[expect(clippy::module_inception, reason = "the room is named after its main type")]
mod task;
mod text;

#[cfg(test)]
mod oracle_tests;

pub use alphabet_sort::AlphabetSort;
pub use difflib::ratio;
pub use environment::{Environment, Episode, Played, Reward, Turn};
pub use error::TaskError;
pub use math::{boxed, equivalent, gsm8k_correct, gsm8k_truth};
pub use message::Message;
pub use names::{NameSource, shipped_names};
pub use order::{EvalRows, Order};
pub use prompts::{check_prompts, default_prompts};
pub use questions::{Marking, QuestionRow, Questions};
pub use reward::{Scoring, Tag};
pub use small::{Arithmetic, Countdown, Mixture, Reverse};
pub use spec::{
    AlphabetSortSpec, ArithmeticSpec, CountdownSpec, DataSpec, Episodes, HubDataset, NamesSpec, ProgramSpec,
    PromptTemplates, QuestionSpec, ReverseSpec, RowNames, Serving, SortBy, TaskSpec,
};
pub use task::Task;
