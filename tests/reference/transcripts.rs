//! Rewards against CPython's, to the bit, on random transcripts.
//!
//! The transcripts are not in the fixture: they are drawn here as in tests/oracles/alphabet_sort_cases.py, by CPython's
//! generator, in the same order of draws. The functions are those of the script.

use tickets::generators::python::Random;
use tickets::task::{Episode, Reward, Scoring};

use super::alphabet_sort::{Parts, fixture};
use super::table::row;

const MARK: &str = " // new name!";
const TAGS: [&str; 2] = ["alphabetical_sorted", "combined_alphabetical_sorted"];

/// Draws parts of transcripts.
struct Writer<'t> {
    random: Random,
    parts: &'t Parts,
}

impl Writer<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.random.randbelow(bound as u64) as usize
    }

    /// The first, but for one chance of each item among so many.
    fn usually<'i, T>(&mut self, items: &'i [T], chances: usize) -> &'i T {
        let at = self.below(chances);
        items.get(at).unwrap_or(&items[0])
    }

    fn edited(&mut self, text: &str, times: usize) -> String {
        let parts = self.parts;
        let mut text: Vec<char> = text.chars().collect();
        for _ in 0..times {
            let (kind, at) = (self.below(4), self.below(text.len() + 1));
            let after = (at + 1).min(text.len());
            match kind {
                0 => text.insert(at, *self.random.choice(&parts.noise)),
                1 => drop(text.splice(at..after, [])),
                2 => {
                    let other = *self.random.choice(&parts.noise);
                    text.splice(at..after, [other]);
                }
                _ => {
                    let to = self.below(text.len() + 1);
                    let (low, high) = (at.min(to), at.max(to));
                    text = [&text[high..], &text[low..high], &text[..low]].concat();
                }
            }
        }
        text.into_iter().collect()
    }

    /// Lines that are right, or wrong in a way that models have.
    fn chosen(&mut self, expected: &[String]) -> Vec<String> {
        let each = |change: fn(&str) -> String| expected.iter().map(|line| change(line)).collect();
        match self.below(14) {
            0 => {
                let order = self.random.sample(expected.len(), expected.len()).unwrap();
                order.into_iter().map(|at| expected[at].clone()).collect()
            }
            1 => expected[..self.below(expected.len() + 1)].to_vec(),
            2 => each(|line| line.replace(MARK, "")),
            3 => each(|line| line.replace(MARK, "") + MARK),
            4 => each(str::to_uppercase),
            5 => each(str::to_lowercase),
            6 => [expected, &[self.random.choice(expected).clone()]].concat(),
            7 => expected.iter().rev().cloned().collect(),
            _ => expected.to_vec(),
        }
    }

    fn block(&mut self, turn: usize, expected: &[String], edits: usize) -> String {
        let parts = self.parts;
        let chosen = self.chosen(expected).join("\n");
        let body = self.edited(&chosen, edits);
        let between = self.usually(&parts.between, 28);
        let around = [self.usually(&parts.around, 30), self.usually(&parts.around, 30)];
        let lines: Vec<String> =
            body.split('\n').map(|line| format!("{}{line}{}", around[0], around[1])).collect();
        let (own, other) = (TAGS[turn.min(1)], TAGS[1 - turn.min(1)]);
        let wrap = self.usually(&parts.wraps, 42);
        wrap.replace("{own}", own).replace("{other}", other).replace("{body}", &lines.join(between))
    }

    fn completion(&mut self, turn: usize, expected: &[String]) -> String {
        let parts = self.parts;
        let blocks = *self.usually(&[1, 2, 2, 3, 4, 0], 12);
        let better = self.below(3) > 0;
        let mut text = self.usually(&parts.talk, 12).clone();
        for left in (0..blocks).rev() {
            let edits = if better && blocks > 1 {
                left * 4 + self.below(3)
            } else {
                *self.usually(&[0, 1, 2, 5, 12, 40], 10)
            };
            text += &self.block(turn, expected, edits);
            text.push_str(self.usually::<String>(&parts.talk, 12));
        }
        match self.below(24) {
            0 => {
                let kept = self.below(text.chars().count() + 1);
                text.chars().take(kept).collect()
            }
            1 => text.to_uppercase(),
            _ => text,
        }
    }
}

/// The reward of a transcript, and what it holds.
fn transcript(number: u64, episodes: &[Episode], parts: &Parts) -> (Reward, Vec<String>) {
    let mut writer = Writer { random: Random::new(number), parts };
    let episode = writer.random.choice(episodes);
    let power = writer.random.randint(1, 8) as f64;
    let per_turn = writer.below(4) > 0;
    let turns = episode.turns.len();
    let fewer = writer.below(turns + 1);
    let answered = *writer.usually(&[turns, turns + 1, fewer], 24);
    let said: Vec<String> = (0..answered)
        .map(|turn| writer.completion(turn, &episode.turns[turn.min(turns - 1)].expected))
        .collect();
    let expected = episode.turns.iter().map(|turn| turn.expected.as_slice());
    (Scoring { power, per_turn }.reward(expected, &said), said)
}

fn float(bits: &str) -> f64 {
    match bits {
        "0" => 0.0,
        "1" => 1.0,
        bits => f64::from_bits(u64::from_str_radix(bits, 16).unwrap()),
    }
}

/// Units in the last place between two numbers of one sign.
fn ulps(a: f64, b: f64) -> u64 {
    a.to_bits().abs_diff(b.to_bits())
}

#[test]
fn rewards_of_random_transcripts_are_those_of_cpython() {
    let fixture = fixture();
    // CPython raises to a power by way of the C library, and so does this program. Where this one rounds as that of the
    // fixture, nothing may differ; else what lies in the middle between two floats may.
    let same = |(base, power, result): &(String, u32, String)| {
        float(base).powf(f64::from(*power)).to_bits() == float(result).to_bits()
    };
    let rounds_alike = fixture.powers.iter().all(same);
    let (mut number, mut unequal, mut near, mut turns) = (0, 0, 0, 0);
    let (mut zero, mut one) = (0, 0);
    for case in &fixture.rewards {
        let episodes = fixture.list(case.settings, case.seed);
        for line in &case.lines {
            let (reward, said) = transcript(number, &episodes, &fixture.parts);
            let is_near = line.ends_with('~');
            let expected: Vec<f64> = line.trim_end_matches('~').split(' ').map(float).collect();
            let found: Vec<f64> = [vec![reward.total], reward.turns].concat();
            assert_eq!(found.len(), expected.len());
            let off = found.iter().zip(&expected).map(|(a, b)| ulps(*a, *b)).max().unwrap();
            let may = if is_near && !rounds_alike { 32 } else { 0 };
            assert!(off <= may, "transcript {number}: {found:?} is not {expected:?}: {said:?}");
            unequal += usize::from(off > 0);
            near += usize::from(is_near);
            turns += expected.len() - 1;
            zero += expected[1..].iter().filter(|score| **score == 0.0).count();
            one += expected[1..].iter().filter(|score| **score == 1.0).count();
            number += 1;
        }
    }
    let counts = &fixture.counts;
    assert_eq!(
        (number as usize, turns, zero, one),
        (counts.transcripts, counts.turns, counts.zero, counts.one)
    );
    let bound = if rounds_alike { 0 } else { near };
    let what = format!("rewards of transcripts of {turns} turns, and of every turn (unequal in their bits)");
    row(
        &what,
        &fixture.against("difflib, re and str"),
        number as usize,
        unequal as f64,
        f64::from(bound as u32),
    );
}

#[test]
fn the_transcripts_have_what_is_hard() {
    let counts = fixture().counts;
    assert!(counts.transcripts >= 10_000 && counts.between > 10_000, "scores between 0 and 1");
    assert!(counts.long > 2_000 && counts.autojunk > 1_000, "texts of 200 characters and more");
    assert!(counts.unicode > 10_000 && counts.better > 1_000 && counts.nested > 1_000);
    assert!(counts.unanswered > 300);
    // The sum of CPython 3.12 and later is another one, seldom.
    assert!(counts.sum > 0 && counts.sum < counts.transcripts / 20, "{}", counts.sum);
}
