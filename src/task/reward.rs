//! The reward of alphabet-sort: what an answer has to look like and how near the truth it comes.
//!
//! In: the turns of an episode and one completion per turn. Out: a number in `[0, 1]` per turn and for the episode.
//! Invariant: the lines expected, inside their tag, score exactly 1.
//!
//! Source: the alphabet-sort environment of the `verifiers` collection as re-added in release 0.1.10, restated. Equal to it in
//! every bit under CPython 3.11, whose `sum` adds from left to right; that of 3.12 and later carries along what rounding
//! loses, which is another reward for 412 of the 10,400 transcripts of `tests/reference`, by 11 units in the last place at most.

use super::difflib::ratio;
use super::environment::Reward;
use super::text::{lower, strip};

/// The element that an answer stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// The first turn.
    Sorted,
    /// Every later turn: the list holds the names of all turns so far.
    Combined,
}

impl Tag {
    /// The tag of a turn, counted from 0.
    pub fn of(turn: usize) -> Self {
        if turn == 0 { Self::Sorted } else { Self::Combined }
    }

    /// `<...>`.
    pub fn open(self) -> &'static str {
        match self {
            Self::Sorted => "<alphabetical_sorted>",
            Self::Combined => "<combined_alphabetical_sorted>",
        }
    }

    /// `</...>`.
    pub fn close(self) -> &'static str {
        match self {
            Self::Sorted => "</alphabetical_sorted>",
            Self::Combined => "</combined_alphabetical_sorted>",
        }
    }

    /// All opening and closing tags.
    pub fn literals() -> [&'static str; 4] {
        [Self::Sorted.open(), Self::Sorted.close(), Self::Combined.open(), Self::Combined.close()]
    }
}

/// How similarities become a reward.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// Exponent on the similarity.
    pub power: f64,
    /// Raise each turn, then average; otherwise average, then raise.
    pub per_turn: bool,
}

impl Scoring {
    /// The reward of an episode whose turns want `expected`.
    pub fn reward<'t>(
        self,
        turns: impl ExactSizeIterator<Item = &'t [String]>,
        completions: &[String],
    ) -> Reward {
        let count = turns.len();
        let mut completions = completions.iter();
        let turns: Vec<f64> = turns
            .enumerate()
            .map(|(turn, expected)| {
                completions.next().map_or(0.0, |text| self.turn(Tag::of(turn), expected, text))
            })
            .collect();
        let sum = turns.iter().fold(0.0, |sum, score| sum + score);
        let mean = if count == 0 { 0.0 } else { sum / count as f64 };
        let total = if self.per_turn { mean } else { mean.powf(self.power) };
        Reward { total, turns, parts: Vec::new() }
    }

    /// One turn: the only attempt counts; of several, the last, and only if each was better than the one before.
    fn turn(self, tag: Tag, expected: &[String], completion: &str) -> f64 {
        let truth = expected.iter().map(|line| lower(strip(line))).collect::<Vec<_>>().join("\n");
        let mut last = None;
        for attempt in attempts(tag, completion) {
            let score = self.attempt(attempt, &truth);
            if last.is_some_and(|before| score <= before) {
                return 0.0;
            }
            last = Some(score);
        }
        last.unwrap_or(0.0)
    }

    /// One attempt: blank lines do not count, nor do case and the white space around a line.
    fn attempt(self, content: &str, truth: &str) -> f64 {
        let lines: Vec<String> =
            content.split('\n').map(strip).filter(|line| !line.is_empty()).map(lower).collect();
        if lines.is_empty() || truth.is_empty() {
            return 0.0;
        }
        let similarity = ratio(&lines.join("\n"), truth);
        if self.per_turn { similarity.powf(self.power) } else { similarity }
    }
}

/// The contents of each `<tag>...</tag>`, shortest first match from the left, without overlap.
fn attempts(tag: Tag, completion: &str) -> impl Iterator<Item = &str> {
    let mut rest = completion;
    std::iter::from_fn(move || {
        let (_, inside) = rest.split_once(tag.open())?;
        let (content, after) = inside.split_once(tag.close())?;
        rest = after;
        Some(content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWER_4: Scoring = Scoring { power: 4.0, per_turn: true };

    fn wrap(content: &str) -> String {
        format!("<alphabetical_sorted>{content}</alphabetical_sorted>")
    }

    #[track_caller]
    fn check(scoring: Scoring, expected: &[&str], completion: &str, score: f64) {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        let found = scoring.turn(Tag::Sorted, &expected, completion);
        assert_eq!(found.to_bits(), score.to_bits(), "{completion:?}: {found} {score}");
    }

    #[test]
    fn an_answer_counts_inside_its_own_closed_tag_only() {
        check(POWER_4, &["Ab", "Cd"], &wrap("\nAb\nCd\n"), 1.0);
        check(POWER_4, &["Ab", "Cd"], "Ab\nCd", 0.0);
        check(POWER_4, &["Ab", "Cd"], "<alphabetical_sorted>\nAb\nCd\n", 0.0);
        check(
            POWER_4,
            &["Ab", "Cd"],
            "<combined_alphabetical_sorted>\nAb\nCd\n</combined_alphabetical_sorted>",
            0.0,
        );
        check(POWER_4, &["Ab", "Cd"], "<ALPHABETICAL_SORTED>\nAb\nCd\n</ALPHABETICAL_SORTED>", 0.0);
        check(POWER_4, &["Ab", "Cd"], &format!("Well:\n{} done", wrap("Ab\nCd")), 1.0);
    }

    #[test]
    fn case_blank_lines_and_outer_space_do_not_count() {
        check(POWER_4, &["Ab", "Cd // new name!"], &wrap("\n\n  aB\t\n \n CD // New Name! \u{1f}\n"), 1.0);
        // Inner space does: "a b" against "ab" is 2 * 2 / 5.
        check(POWER_4, &["ab"], &wrap("a b"), 0.8_f64.powf(4.0));
        check(POWER_4, &["ab"], &wrap(" \n\t\n"), 0.0);
        check(POWER_4, &["ab"], &wrap(""), 0.0);
    }

    #[test]
    fn similarity_is_raised_to_the_power() {
        // "b\na" against "a\nb": the longest run is one character, the first of "b" in the answer, which has nothing on
        // its left in the answer and nothing on its right in the truth: 2 * 1 / 6 = 1/3.
        check(POWER_4, &["a", "b"], &wrap("b\na"), (1.0_f64 / 3.0).powf(4.0));
        check(Scoring { power: 4.0, per_turn: false }, &["a", "b"], &wrap("b\na"), 1.0 / 3.0);
        check(Scoring { power: 1.0, per_turn: true }, &["a", "b"], &wrap("b\na"), 1.0 / 3.0);
    }

    #[test]
    fn several_attempts_must_get_better_each_time() {
        let (bad, fair, good) = (wrap("zz"), wrap("ab"), wrap("ab\ncd"));
        // "ab" against "ab\ncd": 2 * 2 / 7.
        let fair_score = (4.0_f64 / 7.0).powf(4.0);
        check(POWER_4, &["ab", "cd"], &fair, fair_score);
        check(POWER_4, &["ab", "cd"], &format!("{bad}{fair}{good}"), 1.0);
        check(POWER_4, &["ab", "cd"], &format!("{bad}\n{fair}"), fair_score);
        check(POWER_4, &["ab", "cd"], &format!("{good}{good}"), 0.0);
        check(POWER_4, &["ab", "cd"], &format!("{good}{fair}"), 0.0);
        check(POWER_4, &["ab", "cd"], &format!("{fair}{bad}{good}"), 0.0);
        // An attempt that is never closed is none.
        check(POWER_4, &["ab", "cd"], &format!("{good}<alphabetical_sorted>ab"), 1.0);
    }

    #[test]
    fn the_shortest_match_from_the_left_is_taken() {
        // An opening tag inside the content is part of it; a closing tag before any opening one is text.
        let nested = wrap("<alphabetical_sorted>\nab\n");
        let similarity = 2.0 * 2.0 / (21.0 + 1.0 + 2.0 + 2.0);
        check(Scoring { power: 1.0, per_turn: true }, &["ab"], &nested, similarity);
        check(POWER_4, &["ab"], &format!("</alphabetical_sorted>{}</alphabetical_sorted>", wrap("ab")), 1.0);
    }

    #[test]
    fn turns_are_averaged_and_missing_ones_count_as_zero() {
        let one: &[String] = &["ab".into()];
        let turns = [one, one];
        let first = wrap("ab");
        let second = "<combined_alphabetical_sorted>a b</combined_alphabetical_sorted>".to_owned();
        let reward = |scoring: Scoring, texts: &[String]| scoring.reward(turns.into_iter(), texts);

        assert_eq!(
            reward(POWER_4, std::slice::from_ref(&first)),
            Reward { total: 0.5, turns: vec![1.0, 0.0], parts: Vec::new() }
        );
        assert_eq!(reward(POWER_4, &[]), Reward { total: 0.0, turns: vec![0.0, 0.0], parts: Vec::new() });
        // Raised per turn: (1 + 0.8^2) / 2. Raised after averaging: ((1 + 0.8) / 2)^2.
        let per_turn = reward(Scoring { power: 2.0, per_turn: true }, &[first.clone(), second.clone()]);
        assert!((per_turn.total - 0.82).abs() < 1e-15, "{per_turn:?}");
        let after = reward(Scoring { power: 2.0, per_turn: false }, &[first.clone(), second.clone()]);
        assert!((after.total - 0.81).abs() < 1e-15, "{after:?}");
        assert_eq!(after.turns, [1.0, 0.8]);
        // A completion too many is nobody's.
        assert_eq!(
            reward(POWER_4, &[first.clone(), second.clone(), first]),
            reward(POWER_4, &[wrap("ab"), second])
        );
    }
}
