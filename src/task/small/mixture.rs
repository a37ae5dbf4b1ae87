//! Several tasks in turn: what a base is warm-started on that knows the formats of all of them.
//!
//! The n-th episode is one of task n modulo their number, so every task has the same share.

use serde_json::{Value, json};

use super::super::environment::{Environment, Episode, Played, Reward};
use super::super::error::TaskError;
use super::super::task::Task;
use crate::counter::Counter;

/// Several tasks in turn.
#[derive(Debug)]
pub struct Mixture {
    tasks: Vec<Task>,
}

impl Mixture {
    /// At least one task.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(tasks: Vec<Task>) -> Result<Self, TaskError> {
        if tasks.is_empty() { Err(TaskError::NoEpisodes) } else { Ok(Self { tasks }) }
    }

    /// The task of an episode, and the episode as that task made it.
    fn of(&self, episode: &Episode) -> Option<(&Task, Episode)> {
        let task = self.tasks.get(episode.info["task"].as_u64()? as usize)?;
        Some((task, Episode { info: episode.info["info"].clone(), ..episode.clone() }))
    }
}

impl Environment for Mixture {
    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        let tasks = self.tasks.len() as u64;
        indices
            .iter()
            .map(|index| {
                let number = index % tasks;
                let mut episode = self.tasks[number as usize].episode(seed, stream, index / tasks)?;
                let info: Value = std::mem::take(&mut episode.info);
                episode.info = json!({ "task": number, "info": info });
                Ok(episode)
            })
            .collect()
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        played
            .iter()
            .map(|played| {
                let (task, episode) = self.of(played.episode).ok_or(TaskError::NoEpisodes)?;
                let mut rewards = task.rewards(&[Played { episode: &episode, ..*played }])?;
                rewards.pop().ok_or(TaskError::NoEpisodes)
            })
            .collect()
    }

    fn demonstration(&self, episode: &Episode, turn: usize, shuffle: Option<&mut Counter>) -> Option<String> {
        let (task, episode) = self.of(episode)?;
        match shuffle {
            Some(counter) => task.shuffled_demonstration(&episode, turn, counter),
            None => task.demonstration(&episode, turn),
        }
    }

    fn markers(&self) -> Vec<&'static str> {
        let mut markers: Vec<&'static str> = self.tasks.iter().flat_map(Task::markers).collect();
        markers.sort_unstable();
        markers.dedup();
        markers
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::order::Order;
    use super::super::super::spec::{ArithmeticSpec, CountdownSpec};
    use super::super::{Arithmetic, Countdown};
    use super::*;

    #[test]
    fn tasks_take_turns_and_score_their_own() {
        let sums = Arithmetic::new(&ArithmeticSpec { digits: 2, terms: 2 }).expect("valid");
        let games = Countdown::new(&CountdownSpec { numbers: 3, largest: 9 }).expect("valid");
        let mixture = Mixture::new(vec![Task::of(sums, Order::Shuffled), Task::of(games, Order::Shuffled)])
            .expect("two");
        let episodes = mixture.episodes(3, "train", &[0, 1, 2, 3]).expect("episodes");
        let alone = sums.episodes(3, "train", &[0, 1]).expect("episodes");
        assert_eq!((&episodes[0].turns, &episodes[2].turns), (&alone[0].turns, &alone[1].turns));
        for episode in &episodes {
            let answers = [mixture.demonstration(episode, 0, None).expect("an answer")];
            let reward =
                mixture.rewards(&[Played { episode, prompts: &[], answers: &answers }]).expect("scored");
            assert_eq!(reward[0].total, 1.0);
        }
        assert!(episodes[1].turns[0].prompt.starts_with("Use each") && Mixture::new(Vec::new()).is_err());
    }
}
