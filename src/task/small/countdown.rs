//! Countdown: an expression of given numbers that makes a target, as in the television game without division.
//!
//! `Use each of 3, 5, 7 once, with + - * and brackets, to make 22.` is answered by `3 * 5 + 7`.
//! Reward: 1 for an expression of these numbers with this value; 0.1 for one with another value; else 0. Parts: `correct`
//! and `valid`, whether it is an expression of these numbers at all.

use serde_json::{Value, json};

use super::super::environment::{Environment, Episode, Played, Reward};
use super::super::error::TaskError;
use super::super::spec::CountdownSpec;
use super::expression::evaluate;
use super::{question, within};
use crate::counter::Counter;

/// What an expression of the right numbers with the wrong value earns.
const VALID: f64 = 0.1;
/// The largest target.
const LARGEST_TARGET: i64 = 999;
/// Draws of an expression before the sum of the numbers is taken.
const DRAWS: u32 = 64;

/// The task, ready to make episodes.
#[derive(Clone, Copy, Debug)]
pub struct Countdown {
    numbers: u32,
    largest: u32,
}

impl Countdown {
    /// Checks the settings.
    ///
    /// # Errors
    /// When one is out of its bounds.
    pub fn new(spec: &CountdownSpec) -> Result<Self, TaskError> {
        let CountdownSpec { numbers, largest } = *spec;
        Ok(Self {
            numbers: within("task.numbers", numbers, 2, 6)?,
            largest: within("task.largest", largest, 1, 100)?,
        })
    }

    fn episode(self, seed: u64, stream: &str, index: u64) -> Episode {
        let mut counter = Counter::new(seed, &format!("task/countdown/{stream}"), &[index]);
        let numbers: Vec<i64> =
            (0..self.numbers).map(|_| counter.between(1, u64::from(self.largest)) as i64).collect();
        // The target comes from an expression, so there is an answer.
        let drawn = (0..DRAWS).find_map(|_| {
            let text = expression(&numbers, &mut counter);
            let (value, _) = evaluate(&text)?;
            (1..=LARGEST_TARGET).contains(&value).then_some((text, value))
        });
        let (answer, target) = drawn.unwrap_or_else(|| (join(&numbers, |_| '+'), numbers.iter().sum()));
        let listed = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let prompt = format!(
            "Use each of {listed} once, with + - * and brackets, to make {target}. Write the expression."
        );
        question(stream, seed, index, prompt, answer, json!({ "numbers": numbers, "target": target }))
    }
}

/// The numbers in random order, with random signs between them.
fn expression(numbers: &[i64], counter: &mut Counter) -> String {
    let mut order = numbers.to_vec();
    counter.shuffle(&mut order);
    join(&order, |_| ['+', '-', '*'][counter.below(3) as usize])
}

fn join(numbers: &[i64], mut sign: impl FnMut(usize) -> char) -> String {
    let mut text = String::new();
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            text.extend([' ', sign(at), ' ']);
        }
        text.push_str(&number.to_string());
    }
    text
}

impl Environment for Countdown {
    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        Ok(indices.iter().map(|&index| self.episode(seed, stream, index)).collect())
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        let reward = |played: &Played<'_>| {
            let info = &played.episode.info;
            let mut wanted: Vec<i64> =
                info["numbers"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
            wanted.sort_unstable();
            let value =
                played.answers.first().and_then(|answer| evaluate(answer)).and_then(|(value, mut used)| {
                    used.sort_unstable();
                    (used == wanted).then_some(value)
                });
            let correct = value.is_some() && value == info["target"].as_i64();
            let total = match (correct, value) {
                (true, _) => 1.0,
                (false, Some(_)) => VALID,
                (false, None) => 0.0,
            };
            let parts = [("correct", f64::from(correct)), ("valid", f64::from(value.is_some()))];
            Reward::single(total, &parts)
        };
        Ok(played.iter().map(reward).collect())
    }

    /// With a counter, any expression of the numbers.
    fn demonstration(&self, episode: &Episode, turn: usize, shuffle: Option<&mut Counter>) -> Option<String> {
        let answer = episode.turns.get(turn)?.expected.first()?;
        let Some(counter) = shuffle else { return Some(answer.clone()) };
        let (_, numbers) = evaluate(answer)?;
        Some(expression(&numbers, counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_uses_every_number_once() {
        let task = Countdown::new(&CountdownSpec { numbers: 3, largest: 9 }).expect("valid");
        let info = json!({ "numbers": [3, 5, 3], "target": 18 });
        let episode = question("train", 0, 0, String::new(), "3 * 5 + 3".into(), info);
        for (answer, total, correct, valid) in [
            ("3 * 5 + 3", 1.0, 1.0, 1.0),
            (" 3+(5*3) ", 1.0, 1.0, 1.0),
            ("5 + 3 + 3", 0.1, 0.0, 1.0),
            ("3 * 6", 0.0, 0.0, 0.0),
            ("3 * 5 + 3 = 18", 0.0, 0.0, 0.0),
            ("18", 0.0, 0.0, 0.0),
            ("3 * 5 + 3 + 3 - 3", 0.0, 0.0, 0.0),
        ] {
            let answers = [answer.to_owned()];
            let played = Played { episode: &episode, prompts: &[], answers: &answers };
            let reward = task.rewards(&[played]).expect("scored").remove(0);
            assert_eq!(
                reward,
                Reward::single(total, &[("correct", correct), ("valid", valid)]),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn every_task_has_the_answer_it_expects() {
        for (numbers, largest) in [(2, 1), (3, 9), (6, 100)] {
            let task = Countdown::new(&CountdownSpec { numbers, largest }).expect("valid");
            for episode in task.episodes(2, "train", &(0..100).collect::<Vec<_>>()).expect("episodes") {
                let answers = [task.demonstration(&episode, 0, None).expect("an answer")];
                let played = Played { episode: &episode, prompts: &[], answers: &answers };
                assert_eq!(task.rewards(&[played]).expect("scored")[0].total, 1.0, "{episode:?}");
                let mut counter = Counter::new(1, "test", &[]);
                let other = [task.demonstration(&episode, 0, Some(&mut counter)).expect("an answer")];
                let played = Played { episode: &episode, prompts: &[], answers: &other };
                assert!(task.rewards(&[played]).expect("scored")[0].total >= VALID, "{episode:?}");
            }
        }
    }
}
