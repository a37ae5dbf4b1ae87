//! Any of the tasks, in an order and with its rewards checked: the one door to environments.

use std::ops::Range;

use super::alphabet_sort::AlphabetSort;
use super::environment::{Environment, Episode, Played, Reward};
use super::error::TaskError;
use super::names::NameSource;
use super::order::{EvalRows, Order, drawn, sampled, shuffled};
use super::small::{Arithmetic, Countdown, Reverse};
use super::spec::{Episodes, TaskSpec};
use crate::counter::Counter;

/// Any of the tasks.
#[derive(Debug)]
pub struct Task {
    environment: Box<dyn Environment>,
    order: Order,
}

impl Task {
    /// A task made of an environment, whose list, if it has one, training asks in `order`.
    pub fn of(environment: impl Environment + 'static, order: Order) -> Self {
        Self { environment: Box::new(environment), order }
    }

    /// [`Task::of`] a boxed environment, shuffled.
    pub fn boxed(environment: Box<dyn Environment>) -> Self {
        Self { environment, order: Order::Shuffled }
    }

    /// Builds the task that `spec` describes, on `names` as read from where `spec` says.
    ///
    /// # Errors
    /// When the settings, the templates or the names do not serve; see [`AlphabetSort::new`]. Tasks with other data, or of an
    /// outside program, are made with [`Task::of`].
    pub fn new(spec: &TaskSpec, names: NameSource) -> Result<Self, TaskError> {
        Ok(match spec {
            TaskSpec::AlphabetSort(spec) => {
                let order = match spec.episodes {
                    Episodes::Counter => Order::Shuffled,
                    Episodes::Python { seed: _, order } => order,
                };
                Self::of(AlphabetSort::new(spec, names)?, order)
            }
            TaskSpec::Arithmetic(spec) => Self::of(Arithmetic::new(spec)?, Order::Shuffled),
            TaskSpec::Reverse(spec) => Self::of(Reverse::new(spec)?, Order::Shuffled),
            TaskSpec::Countdown(spec) => Self::of(Countdown::new(spec)?, Order::Shuffled),
            TaskSpec::Gsm8k(_) | TaskSpec::Math(_) | TaskSpec::Program(_) => {
                return Err(TaskError::NeedsData { task: spec.word() });
            }
        })
    }

    /// The episodes of these positions of training under `seed`.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn train(&self, seed: u64, positions: Range<u64>) -> Result<Vec<Episode>, TaskError> {
        const STREAM: &str = "train";
        let indices: Vec<u64> = match (self.count(seed, STREAM)?, self.order) {
            (None, _) => positions.collect(),
            (Some(count), Order::Shuffled) => shuffled(seed, positions, count),
            (Some(count), Order::Rows) => positions.map(|position| position % count).collect(),
            (Some(_), Order::Recycled { eval_seed, period }) => {
                let order = self.environment.recycled(eval_seed, period)?;
                positions.map(|position| order[(position % period) as usize]).collect()
            }
        };
        self.environment.episodes(seed, STREAM, &indices)
    }

    /// The episodes of a held-out evaluation of `examples`.
    ///
    /// # Errors
    /// When there are not as many, or one cannot be made.
    pub fn held_out(&self, seed: u64, rows: EvalRows, examples: u64) -> Result<Vec<Episode>, TaskError> {
        const STREAM: &str = "eval";
        let indices: Vec<u64> = match self.count(seed, STREAM)? {
            Some(count) if count < examples => return Err(TaskError::TooFewEpisodes { count, examples }),
            Some(count) if rows == EvalRows::Sample => sampled(seed, examples, count),
            _ => (0..examples).collect(),
        };
        self.environment.episodes(seed, STREAM, &indices)
    }

    /// The `index`-th episode of another stream (such as `demonstration` or `fisher`) under `seed`: from a list, one that is
    /// drawn with replacement.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn episode(&self, seed: u64, stream: &str, index: u64) -> Result<Episode, TaskError> {
        let index = match self.count(seed, stream)? {
            Some(count) => drawn(seed, stream, index, count),
            None => index,
        };
        let mut episodes = self.environment.episodes(seed, stream, &[index])?;
        episodes.pop().ok_or(TaskError::NoEpisodes)
    }

    /// How many episodes there are, where they are a fixed list.
    ///
    /// # Errors
    /// When the list cannot be made, or is empty.
    pub fn count(&self, seed: u64, stream: &str) -> Result<Option<u64>, TaskError> {
        match self.environment.count(seed, stream)? {
            Some(0) => Err(TaskError::NoEpisodes),
            count => Ok(count),
        }
    }

    /// The next user message of each conversation; `None` where it is over.
    ///
    /// # Errors
    /// When an outside program fails.
    pub fn respond(&self, played: &[Played<'_>]) -> Result<Vec<Option<String>>, TaskError> {
        self.environment.respond(played)
    }

    /// What each conversation earned.
    ///
    /// # Errors
    /// When an outside program fails, or a reward is not finite or outside of the declared range.
    pub fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        let rewards = self.environment.rewards(played)?;
        let (low, high) = self.environment.range();
        for (reward, played) in rewards.iter().zip(played) {
            let value = reward.total;
            let unfinite = reward.turns.iter().chain(reward.parts.iter().map(|(_, value)| value));
            let value = unfinite.copied().find(|value| !value.is_finite()).unwrap_or(value);
            if !value.is_finite() || reward.total < low || reward.total > high {
                return Err(TaskError::Reward { episode: played.episode.name.clone(), value, low, high });
            }
        }
        Ok(rewards)
    }

    /// What one conversation that took the episode's known turns earned.
    ///
    /// # Errors
    /// As [`Task::rewards`].
    pub fn reward(&self, episode: &Episode, answers: &[String]) -> Result<Reward, TaskError> {
        let prompts: Vec<String> = episode.turns.iter().map(|turn| turn.prompt.clone()).collect();
        let mut rewards = self.rewards(&[Played { episode, prompts: &prompts, answers }])?;
        rewards.pop().ok_or(TaskError::NoEpisodes)
    }

    /// The least and the greatest reward.
    pub fn range(&self) -> (f64, f64) {
        self.environment.range()
    }

    /// The perfect answer to a turn, counted from 0; `None` where the task cannot say it.
    pub fn demonstration(&self, episode: &Episode, turn: usize) -> Option<String> {
        self.environment.demonstration(episode, turn, None)
    }

    /// An answer to a turn in the right format, with the right parts in random order.
    pub fn shuffled_demonstration(
        &self,
        episode: &Episode,
        turn: usize,
        counter: &mut Counter,
    ) -> Option<String> {
        self.environment.demonstration(episode, turn, Some(counter))
    }

    /// Strings of the answer format that a tokenizer does well to hold as single tokens.
    pub fn markers(&self) -> Vec<&'static str> {
        self.environment.markers()
    }
}
