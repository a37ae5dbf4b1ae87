//! Sums and differences of whole numbers: `Compute 12 + 7 - 30.` is answered by `-11`.
//!
//! Reward: 1 for the right number, else 0. Parts: `number`, whether the answer is a whole number at all.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::environment::{Environment, Episode, Played, Reward};
use super::super::error::TaskError;
use super::super::spec::ArithmeticSpec;
use super::super::text::strip;
use super::{question, truth, within};
use crate::counter::Counter;

/// The task, ready to make episodes.
#[derive(Clone, Copy, Debug)]
pub struct Arithmetic {
    digits: u32,
    terms: u32,
}

impl Arithmetic {
    /// Checks the settings.
    ///
    /// # Errors
    /// When one is out of its bounds.
    pub fn new(spec: &ArithmeticSpec) -> Result<Self, TaskError> {
        let ArithmeticSpec { digits, terms } = *spec;
        Ok(Self { digits: within("task.digits", digits, 1, 9)?, terms: within("task.terms", terms, 2, 16)? })
    }

    fn episode(self, seed: u64, stream: &str, index: u64) -> Episode {
        let mut counter = Counter::new(seed, &format!("task/arithmetic/{stream}"), &[index]);
        // The number of digits is drawn first: short numbers are as frequent as long ones.
        let mut number = || {
            let digits = counter.between(1, u64::from(self.digits)) as u32;
            let low = if digits == 1 { 0 } else { 10_u64.pow(digits - 1) };
            (counter.between(low, 10_u64.pow(digits) - 1) as i64, counter.below(2) == 0)
        };
        let (mut value, _) = number();
        let mut prompt = format!("Compute {value}");
        for _ in 1..self.terms {
            let (term, add) = number();
            value += if add { term } else { -term };
            let _ = write!(prompt, " {} {term}", if add { '+' } else { '-' });
        }
        prompt.push('.');
        question(stream, seed, index, prompt, value.to_string(), Value::Null)
    }
}

/// A whole number as Python's `int` reads it, but for underscores: a sign, then digits.
fn whole(text: &str) -> Option<i128> {
    let text = strip(text);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

impl Environment for Arithmetic {
    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        Ok(indices.iter().map(|&index| self.episode(seed, stream, index)).collect())
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        let reward = |played: &Played<'_>| {
            let found = played.answers.first().and_then(|answer| whole(answer));
            let right = found.is_some() && found == whole(truth(played.episode));
            Reward::single(f64::from(right), &[("number", f64::from(found.is_some()))])
        };
        Ok(played.iter().map(reward).collect())
    }

    /// With a counter, the right digits in random order.
    fn demonstration(&self, episode: &Episode, turn: usize, shuffle: Option<&mut Counter>) -> Option<String> {
        let answer = episode.turns.get(turn)?.expected.first()?;
        let Some(counter) = shuffle else { return Some(answer.clone()) };
        let (sign, digits) = answer.split_at(usize::from(answer.starts_with('-')));
        let mut digits: Vec<char> = digits.chars().collect();
        counter.shuffle(&mut digits);
        Some(format!("{sign}{}", digits.into_iter().collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reward(expected: &str, answer: &str) -> Reward {
        let task = Arithmetic::new(&ArithmeticSpec { digits: 2, terms: 2 }).expect("valid");
        let episode = question("train", 0, 0, "Compute it.".into(), expected.into(), Value::Null);
        let answers = [answer.to_owned()];
        let mut rewards =
            task.rewards(&[Played { episode: &episode, prompts: &[], answers: &answers }]).expect("scored");
        rewards.remove(0)
    }

    #[test]
    fn an_answer_is_the_number_and_nothing_else() {
        for (answer, total, number) in [
            ("-11", 1.0, 1.0),
            (" -11\n", 1.0, 1.0),
            ("-011", 1.0, 1.0),
            ("11", 0.0, 1.0),
            ("+12", 0.0, 1.0),
            ("It is -11", 0.0, 0.0),
            ("--11", 0.0, 0.0),
            ("", 0.0, 0.0),
            ("-", 0.0, 0.0),
            (&"9".repeat(500), 0.0, 0.0),
        ] {
            assert_eq!(reward("-11", answer), Reward::single(total, &[("number", number)]), "{answer:?}");
        }
    }

    #[test]
    fn questions_are_answered_by_what_they_ask() {
        let task = Arithmetic::new(&ArithmeticSpec { digits: 3, terms: 4 }).expect("valid");
        let mut lengths = std::collections::BTreeSet::new();
        for episode in task.episodes(5, "train", &(0..300).collect::<Vec<_>>()).expect("episodes") {
            let text = episode.turns[0].prompt.strip_prefix("Compute ").and_then(|t| t.strip_suffix('.'));
            let words: Vec<&str> = text.expect("a question").split(' ').collect();
            let mut value: i64 = words[0].parse().expect("a number");
            for pair in words[1..].chunks(2) {
                let term: i64 = pair[1].parse().expect("a number");
                value += if pair[0] == "+" { term } else { -term };
                lengths.insert(pair[1].len());
            }
            assert_eq!(words.len(), 7);
            assert_eq!(truth(&episode), value.to_string());
        }
        assert_eq!(lengths, [1, 2, 3].into());
    }

    #[test]
    fn a_shuffled_answer_has_the_right_digits() {
        let task = Arithmetic::new(&ArithmeticSpec { digits: 2, terms: 2 }).expect("valid");
        let episode = question("train", 0, 0, String::new(), "-123".into(), Value::Null);
        let mut counter = Counter::new(1, "test", &[]);
        let seen: std::collections::BTreeSet<String> =
            (0..60).filter_map(|_| task.demonstration(&episode, 0, Some(&mut counter))).collect();
        assert_eq!(seen, ["-123", "-132", "-213", "-231", "-312", "-321"].map(str::to_owned).into());
        assert_eq!(task.demonstration(&episode, 0, None).as_deref(), Some("-123"));
    }
}
