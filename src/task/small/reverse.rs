//! A text backwards: `Write backwards: qwert` is answered by `trewq`.
//!
//! Reward: the share of places with the right letter, of the longer of answer and truth. Parts: `correct`, whether all are.

use serde_json::Value;

use super::super::environment::{Environment, Episode, Played, Reward};
use super::super::error::TaskError;
use super::super::spec::ReverseSpec;
use super::super::text::strip;
use super::{question, truth, within};
use crate::counter::Counter;

/// The task, ready to make episodes.
#[derive(Clone, Copy, Debug)]
pub struct Reverse {
    length: u32,
}

impl Reverse {
    /// Checks the settings.
    ///
    /// # Errors
    /// When the length is out of its bounds.
    pub fn new(spec: &ReverseSpec) -> Result<Self, TaskError> {
        Ok(Self { length: within("task.length", spec.length, 1, 1000)? })
    }

    fn episode(self, seed: u64, stream: &str, index: u64) -> Episode {
        let mut counter = Counter::new(seed, &format!("task/reverse/{stream}"), &[index]);
        let length = counter.between(u64::from(self.length.div_ceil(2)), u64::from(self.length));
        let text: String = (0..length).map(|_| char::from(b'a' + counter.below(26) as u8)).collect();
        let answer = text.chars().rev().collect();
        question(stream, seed, index, format!("Write backwards: {text}"), answer, Value::Null)
    }
}

impl Environment for Reverse {
    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        Ok(indices.iter().map(|&index| self.episode(seed, stream, index)).collect())
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        let reward = |played: &Played<'_>| {
            let (truth, answer) =
                (truth(played.episode), played.answers.first().map_or("", |text| strip(text)));
            let right = truth.chars().zip(answer.chars()).filter(|(wanted, found)| wanted == found).count();
            let longer = truth.chars().count().max(answer.chars().count()).max(1);
            let share = right as f64 / longer as f64;
            Reward::single(share, &[("correct", f64::from(right == longer))])
        };
        Ok(played.iter().map(reward).collect())
    }

    /// With a counter, the right letters in random order.
    fn demonstration(&self, episode: &Episode, turn: usize, shuffle: Option<&mut Counter>) -> Option<String> {
        let answer = episode.turns.get(turn)?.expected.first()?;
        let mut letters: Vec<char> = answer.chars().collect();
        if let Some(counter) = shuffle {
            counter.shuffle(&mut letters);
        }
        Some(letters.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted() {
        let task = Reverse::new(&ReverseSpec { length: 6 }).expect("valid");
        let episode = question("train", 0, 0, String::new(), "abcd".into(), Value::Null);
        for (answer, total, correct) in [
            ("abcd", 1.0, 1.0),
            (" abcd\n", 1.0, 1.0),
            ("abdc", 0.5, 0.0),
            ("ab", 0.5, 0.0),
            ("abcdefgh", 0.5, 0.0),
            ("ABCD", 0.0, 0.0),
            ("", 0.0, 0.0),
        ] {
            let answers = [answer.to_owned()];
            let played = Played { episode: &episode, prompts: &[], answers: &answers };
            let reward = task.rewards(&[played]).expect("scored").remove(0);
            assert_eq!(reward, Reward::single(total, &[("correct", correct)]), "{answer:?}");
        }
    }

    #[test]
    fn texts_are_of_half_the_length_at_least() {
        let task = Reverse::new(&ReverseSpec { length: 5 }).expect("valid");
        let mut lengths = std::collections::BTreeSet::new();
        for episode in task.episodes(1, "train", &(0..200).collect::<Vec<_>>()).expect("episodes") {
            let text = episode.turns[0].prompt.strip_prefix("Write backwards: ").expect("a text");
            assert_eq!(truth(&episode), text.chars().rev().collect::<String>());
            lengths.insert(text.len());
        }
        assert_eq!(lengths, [3, 4, 5].into());
        assert!(Reverse::new(&ReverseSpec { length: 0 }).is_err());
    }
}
