//! Episodes as the original environment of alphabet-sort draws them: a list, made row by row with CPython's `random`.
//!
//! In: rows of names in the order of the file, the bounds of an episode, a seed. Out: the drawn episodes, and the generator
//! as it stands behind the last. Invariant: the same rows, bounds and seed give the episodes of the original, in its order
//! (`tests/oracles/alphabet_sort_cases.py`); a row that is too short for what was drawn is skipped after those draws.
//!
//! Source: the alphabet-sort environment of the `verifiers` collection as re-added in release 0.1.10, restated.
//!
//! Departure: a name that cannot stand on a line of an answer is refused, where an episode can have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::TaskError;
use super::names::{NameSource, distinct_names, refuse};
use super::spec::{AlphabetSortSpec, RowNames};
use crate::generators::numpy::Generator;
use crate::generators::python::Random;

/// The seed with which the study shuffled its training episodes.
const SHUFFLE: u64 = 42;
/// The most names of an episode: all its bounds are drawn for every row, however short.
const MOST: u64 = 1_000_000;

/// One turn, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drawn {
    /// Which of the names are new, in the order in which they are shown.
    pub shown: Vec<usize>,
    /// Lines of the format example.
    pub slots: u64,
    /// Lines above this number are shown as new ones.
    pub new_above: u64,
}

/// One episode of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    row: usize,
    by_first: bool,
    turns: Vec<Drawn>,
}

/// A list and what is left of its generator.
#[derive(Debug)]
struct List {
    episodes: Vec<Listed>,
    after: Random,
}

/// An episode, before it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sorted<'t> {
    /// The row of the file, counted from 1.
    pub row: usize,
    /// The names of the row, of which the first are used.
    pub names: &'t [String],
    /// Whether the key is the first part of a name.
    pub by_first: bool,
}

/// The rows, and the lists that were made of them.
#[derive(Debug)]
pub(super) struct PythonEpisodes {
    turns: (u64, u64),
    names_per_turn: (u64, u64),
    /// Without spaces and repeats, and no longer than an episode can be.
    rows: Vec<Vec<String>>,
    /// By seed.
    made: Mutex<BTreeMap<u64, Arc<List>>>,
}

impl PythonEpisodes {
    /// Prepares the rows. The bounds of `spec` hold a value.
    pub(super) fn new(spec: &AlphabetSortSpec, names: NameSource) -> Result<Self, TaskError> {
        let not = |what: &str| TaskError::PythonEpisodes { what: what.to_owned() };
        let NameSource::Rows(rows) = names else {
            return Err(not("needs a list of rows: `task.names` or `task.dataset`"));
        };
        if spec.row_names != RowNames::First {
            return Err(not("takes the first names of a row: `task.row_names` = \"sample\" does not apply"));
        }
        let times = |turns: u32, names: u32| u64::from(turns) * u64::from(names);
        let fewest = times(spec.min_turns, spec.min_names_per_turn);
        let most = times(spec.max_turns, spec.max_names_per_turn);
        if most > MOST {
            let what = format!("allows {MOST} names in an episode, and the longest would have {most}");
            return Err(not(&what));
        }
        let prepared = (1..).zip(rows).map(|(row, names)| {
            let long_enough = names.len() as u64 >= fewest;
            let mut names = distinct_names(names);
            names.truncate(most as usize);
            if long_enough {
                names.iter().try_for_each(|(name, joined)| refuse(row, name, joined))?;
            }
            Ok(names.into_iter().map(|(_, joined)| joined).collect())
        });
        let rows = prepared.collect::<Result<Vec<Vec<String>>, TaskError>>()?;
        let largest = rows.iter().map(Vec::len).max().unwrap_or(0);
        if (largest as u64) < fewest {
            let what =
                format!("finds no episode: the shortest has {fewest} names, the longest row {largest}");
            return Err(not(&what));
        }
        let pair = |low: u32, high: u32| (u64::from(low), u64::from(high));
        Ok(Self {
            turns: pair(spec.min_turns, spec.max_turns),
            names_per_turn: pair(spec.min_names_per_turn, spec.max_names_per_turn),
            rows,
            made: Mutex::default(),
        })
    }

    /// How many episodes a seed gives.
    pub(super) fn count(&self, seed: u64) -> usize {
        self.list(seed).episodes.len()
    }

    /// Hands an episode of a seed's list on, if there are so many.
    pub(super) fn with<T>(
        &self,
        seed: u64,
        index: u64,
        write: impl FnOnce(Sorted<'_>, &[Drawn]) -> T,
    ) -> Option<T> {
        let list = self.list(seed);
        let Listed { row, by_first, turns } = list.episodes.get(usize::try_from(index).ok()?)?;
        Some(write(Sorted { row: row + 1, names: &self.rows[*row], by_first: *by_first }, turns))
    }

    /// The first `count` indices that the study's process asks after an evaluation: from the list of `seed` as NumPy permuted
    /// it, one at a time, by the one generator of the process, which stands behind the list of `eval_seed`.
    pub(super) fn recycled(&self, seed: u64, eval_seed: u64, count: u64) -> Vec<u64> {
        let pool = Generator::new(SHUFFLE).permutation(self.count(seed) as u64);
        if pool.is_empty() {
            return Vec::new();
        }
        let mut random = self.list(eval_seed).after.clone();
        (0..count).map(|_| *random.choice(&pool)).collect()
    }

    /// The list of a seed, which is made once.
    fn list(&self, seed: u64) -> Arc<List> {
        // Whoever panicked here left whole lists behind.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(made.entry(seed).or_insert_with(|| Arc::new(self.make(seed))))
    }

    fn make(&self, seed: u64) -> List {
        let mut random = Random::new(seed);
        let episodes = (0..self.rows.len()).filter_map(|row| self.draw(row, &mut random)).collect();
        List { episodes, after: random }
    }

    /// The episode of a row, if it is long enough for what is drawn first.
    fn draw(&self, row: usize, random: &mut Random) -> Option<Listed> {
        let (least, most) = self.names_per_turn;
        let turns = random.randint(self.turns.0, self.turns.1);
        let counts: Vec<usize> = (0..turns).map(|_| random.randint(least, most) as usize).collect();
        if self.rows[row].len() < counts.iter().sum() {
            return None;
        }
        let by_first = *random.choice(&[true, false]);
        let mut known = 0;
        let turns = counts.into_iter().map(|count| {
            let mut shown: Vec<usize> = (known..known + count).collect();
            random.shuffle(&mut shown);
            let first = known == 0;
            known += count;
            let slots = random.randint(least, if first { most } else { known as u64 });
            let new_above = if first { slots } else { random.randint(0, slots - 1) };
            Drawn { shown, slots, new_above }
        });
        let turns = turns.collect();
        Some(Listed { row, by_first, turns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::alphabet_sort::tests::spec;

    fn rows(lengths: &[usize]) -> NameSource {
        let row = |length: &usize| (0..*length).map(|n| format!("Name {n} A")).collect();
        NameSource::Rows(lengths.iter().map(row).collect())
    }

    fn two_turns(lengths: &[usize]) -> PythonEpisodes {
        let spec = AlphabetSortSpec { min_turns: 2, max_turns: 2, ..spec() };
        PythonEpisodes::new(&spec, rows(lengths)).expect("rows")
    }

    #[test]
    fn rows_are_walked_in_order_and_short_ones_cost_their_first_draws() {
        // CPython 3.11.7, random.seed(7): the counts drawn for rows of 0, 10, 4 and 10 names are 2 + 4, 1 + 5, 4 + 1 and
        // 1 + 5, so the first and the third are too short; choice([True, False]) gives True, then False; and so on.
        let list = two_turns(&[0, 10, 4, 10]).list(7);
        let turn = |shown: &[usize], slots, new_above| Drawn { shown: shown.to_vec(), slots, new_above };
        assert_eq!(
            list.episodes,
            [
                Listed {
                    row: 1,
                    by_first: true,
                    turns: vec![turn(&[0], 3, 3), turn(&[2, 4, 3, 1, 5], 1, 0)]
                },
                Listed {
                    row: 3,
                    by_first: false,
                    turns: vec![turn(&[0], 1, 1), turn(&[2, 3, 4, 1, 5], 5, 4)]
                },
            ]
        );
        assert_eq!(list.after.clone().next_u32(), 1_703_729_684);
    }

    #[test]
    fn recycled_problems_are_drawn_behind_the_list_of_the_evaluation() {
        // NumPy 2.4.6: default_rng(42).permutation(2) is [1, 0]. The draw behind the list above is 1703729684, whose first
        // two bits are 01: item 1 of the permuted list, which is episode 0.
        let episodes = two_turns(&[0, 10, 4, 10]);
        let first = episodes.recycled(7, 7, 5);
        assert_eq!(first[0], 0);
        assert_eq!(episodes.recycled(7, 7, 3), first[..3]);
        assert!(two_turns(&[2, 0]).recycled(1, 2, 3).iter().all(|index| *index == 0));
    }

    #[test]
    fn a_list_is_made_once() {
        let episodes = two_turns(&[10, 10]);
        assert!(Arc::ptr_eq(&episodes.list(3), &episodes.list(3)));
        assert_eq!(episodes.count(3), episodes.list(3).episodes.len());
        assert!(episodes.with(3, 2, |_, _| ()).is_none());
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let error = |spec: &AlphabetSortSpec, names| {
            PythonEpisodes::new(spec, names).expect_err("refused").to_string()
        };
        assert_eq!(
            error(&spec(), NameSource::Shipped),
            "`task.episodes` = \"python\" needs a list of rows: `task.names` or `task.dataset`"
        );
        let sampled = AlphabetSortSpec { row_names: RowNames::Sample, ..spec() };
        assert!(error(&sampled, rows(&[9])).contains("`task.row_names` = \"sample\" does not apply"));
        let long = AlphabetSortSpec { min_turns: 2, min_names_per_turn: 3, ..spec() };
        assert_eq!(
            error(&long, rows(&[5, 2])),
            "`task.episodes` = \"python\" finds no episode: the shortest has 6 names, the longest row 5"
        );
        let endless = AlphabetSortSpec { max_turns: u32::MAX, ..spec() };
        assert!(error(&endless, rows(&[5])).contains("the longest would have 21474836475"));
    }

    #[test]
    fn only_names_that_an_episode_can_have_are_looked_at() {
        let one = AlphabetSortSpec { max_turns: 1, max_names_per_turn: 2, ..spec() };
        let with = |row: &[&str]| {
            let row = row.iter().map(ToString::to_string).collect();
            PythonEpisodes::new(&one, NameSource::Rows(vec![row])).map(|_| ())
        };
        assert!(with(&["A", "B", " "]).is_ok());
        let error = with(&["A", "A", " "]).expect_err("blank");
        assert_eq!(error.to_string(), "task.names, row 1: the name \" \" is blank");
    }
}
