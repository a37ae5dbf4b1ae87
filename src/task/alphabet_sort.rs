//! Alphabet-sort: put CamelCase names in order, over one or several turns.
//!
//! In: settings, a source of names, and for each episode a seed, a stream and an index. Out: the prompts of the turns,
//! the lines that answer them, and the reward of what a model wrote. Invariant: an episode is a pure function of the
//! settings, the names and (seed, stream, index).
//!
//! Source: the alphabet-sort environment of the `verifiers` collection as re-added in release 0.1.10, restated.
//!
//! Departures:
//! 1. Episodes are drawn by counter, each by itself, and not from one running Mersenne Twister; and a row of a file among
//!    those that are long enough, while the original walks the rows in order. `task.episodes = "python"` does as the original.
//! 2. Prompts are worded differently unless the manifest gives templates.
//! 3. Turn 3 and later may show a format example too, where a template asks for it.

use serde_json::Value;

use super::environment::{Environment, Episode, Played, Reward, Turn};
use super::error::TaskError;
use super::names::{NamePool, NameSource};
use super::prompts::{Prompts, Shown};
use super::python_episodes::{Drawn, PythonEpisodes, Sorted};
use super::reward::{Scoring, Tag};
use super::spec::{AlphabetSortSpec, Episodes, SortBy};
use crate::counter::Counter;

/// What marks a name of the present turn in a combined list.
const NEW_NAME: &str = " // new name!";

/// The task, ready to make episodes.
#[derive(Debug)]
pub struct AlphabetSort {
    turns: (u32, u32),
    names_per_turn: (u32, u32),
    sort_by: SortBy,
    scoring: Scoring,
    source: Source,
    prompts: Prompts,
}

/// How episodes are had.
#[derive(Debug)]
enum Source {
    Counter(NamePool),
    /// With the seed of all streams but the evaluation's.
    Python(PythonEpisodes, u64),
}

impl AlphabetSort {
    /// Checks the settings, compiles the templates and prepares the names.
    ///
    /// # Errors
    /// When bounds hold no value, a template is broken or uses an unknown variable, or no episode of the longest kind
    /// (`max_turns * max_names_per_turn` names) can be had from `names`; with the original's episodes, which leave out what is
    /// too long for a row, none of the shortest kind.
    pub fn new(spec: &AlphabetSortSpec, names: NameSource) -> Result<Self, TaskError> {
        let turns =
            bounds("task.min_turns", "task.min_turns..=task.max_turns", spec.min_turns, spec.max_turns)?;
        let names_per_turn = bounds(
            "task.min_names_per_turn",
            "task.min_names_per_turn..=task.max_names_per_turn",
            spec.min_names_per_turn,
            spec.max_names_per_turn,
        )?;
        if spec.similarity_power == 0 {
            return Err(TaskError::Zero { key: "task.similarity_power" });
        }
        Ok(Self {
            turns,
            names_per_turn,
            sort_by: spec.sort_by,
            scoring: Scoring { power: f64::from(spec.similarity_power), per_turn: spec.power_per_turn },
            source: match spec.episodes {
                Episodes::Counter => Source::Counter(NamePool::new(
                    names,
                    u64::from(spec.max_turns) * u64::from(spec.max_names_per_turn),
                    spec.row_names,
                )?),
                Episodes::Python { seed, order: _ } => {
                    Source::Python(PythonEpisodes::new(spec, names)?, seed)
                }
            },
            prompts: Prompts::new(spec)?,
        })
    }

    /// The `index`-th episode of `stream` (such as `train`, `eval`, `demonstration`, `fisher`) under `seed`.
    ///
    /// # Errors
    /// When a template fails on this very episode, or a list of the original's has no such one.
    pub fn episode(&self, seed: u64, stream: &str, index: u64) -> Result<Episode, TaskError> {
        match &self.source {
            Source::Counter(names) => self.drawn(names, seed, stream, index),
            Source::Python(episodes, own) => {
                let seed = seed_of(stream, seed, *own);
                let write = |sorted: Sorted<'_>, turns: &[Drawn]| {
                    let name = format!("row {} of seed {seed}", sorted.row);
                    let drawn = if sorted.by_first { SortBy::First } else { SortBy::Last };
                    self.write(name, sorted.names, drawn, turns)
                };
                episodes.with(seed, index, write).unwrap_or(Err(TaskError::NoEpisodes))
            }
        }
    }

    /// An episode drawn by counter.
    fn drawn(&self, names: &NamePool, seed: u64, stream: &str, index: u64) -> Result<Episode, TaskError> {
        let mut counter = Counter::new(seed, &format!("task/alphabet_sort/{stream}"), &[index]);
        let (fewest, most) = (u64::from(self.names_per_turn.0), u64::from(self.names_per_turn.1));
        let turns = counter.between(u64::from(self.turns.0), u64::from(self.turns.1));
        let counts: Vec<usize> = (0..turns).map(|_| counter.between(fewest, most) as usize).collect();
        let names = names.draw(&mut counter, counts.iter().sum());
        let drawn = if counter.below(2) == 0 { SortBy::First } else { SortBy::Last };
        let mut known = 0;
        let turns = counts.into_iter().map(|count| {
            let first = known == 0;
            let mut shown: Vec<usize> = (known..known + count).collect();
            counter.shuffle(&mut shown);
            known += count;
            let slots = counter.between(fewest, if first { most } else { known as u64 });
            let new_above = if first { slots } else { counter.below(slots) };
            Drawn { shown, slots, new_above }
        });
        let turns: Vec<Drawn> = turns.collect();
        self.write(format!("{stream} {index} of seed {seed}"), &names, drawn, &turns)
    }

    /// The texts of an episode. `drawn` is the key where the settings leave it open: it is drawn even where it is given, so
    /// that `sort_by` alone leaves the names of an episode as they are.
    fn write(
        &self,
        name: String,
        names: &[String],
        drawn: SortBy,
        turns: &[Drawn],
    ) -> Result<Episode, TaskError> {
        let key = if self.sort_by == SortBy::Either { drawn } else { self.sort_by };
        let mut known = 0;
        let written = (1..).zip(turns).map(|(turn, drawn)| {
            let Drawn { shown, slots, new_above } = drawn;
            let before = known;
            known += shown.len();
            let shuffled: Vec<String> = shown.iter().map(|at| names[*at].clone()).collect();
            let shown =
                Shown { turn, names: &shuffled, key: key_word(key), slots: *slots, new_above: *new_above };
            let prompt = self.prompts.render(&shown)?;
            Ok(Turn { prompt, expected: truth(&names[..known], before, key) })
        });
        let turns = written.collect::<Result<_, TaskError>>()?;
        Ok(Episode { name, before: Vec::new(), turns, info: Value::Null })
    }
}

/// The seed of a list of the original's: an evaluation has its own, and all else is drawn from the training episodes.
fn seed_of(stream: &str, seed: u64, own: u64) -> u64 {
    if stream == "eval" { seed } else { own }
}

impl Environment for AlphabetSort {
    fn count(&self, seed: u64, stream: &str) -> Result<Option<u64>, TaskError> {
        Ok(match &self.source {
            Source::Counter(_) => None,
            Source::Python(episodes, own) => Some(episodes.count(seed_of(stream, seed, *own)) as u64),
        })
    }

    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        indices.iter().map(|&index| self.episode(seed, stream, index)).collect()
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        let reward = |played: &Played<'_>| {
            let expected = played.episode.turns.iter().map(|turn| turn.expected.as_slice());
            self.scoring.reward(expected, played.answers)
        };
        Ok(played.iter().map(reward).collect())
    }

    /// With a counter, the right lines in random order: that shows the format and the copying, not the sorting.
    fn demonstration(&self, episode: &Episode, turn: usize, shuffle: Option<&mut Counter>) -> Option<String> {
        let mut lines = episode.turns.get(turn)?.expected.clone();
        if let Some(counter) = shuffle {
            counter.shuffle(&mut lines);
        }
        Some(answer(Tag::of(turn), &lines))
    }

    fn markers(&self) -> Vec<&'static str> {
        Tag::literals().to_vec()
    }

    fn recycled(&self, eval_seed: u64, count: u64) -> Result<Vec<u64>, TaskError> {
        match &self.source {
            Source::Counter(_) => Err(TaskError::NoRecycling),
            Source::Python(episodes, own) => Ok(episodes.recycled(*own, eval_seed, count)),
        }
    }
}

/// `low..=high` when it holds a value and does not begin at 0.
fn bounds(low_key: &'static str, keys: &'static str, low: u32, high: u32) -> Result<(u32, u32), TaskError> {
    if low == 0 {
        Err(TaskError::Zero { key: low_key })
    } else if low > high {
        Err(TaskError::Bounds { key: keys, low, high })
    } else {
        Ok((low, high))
    }
}

/// The word for the sort key in a prompt.
fn key_word(key: SortBy) -> &'static str {
    if key == SortBy::First { "FIRST" } else { "LAST" }
}

/// The part of a name that is compared: up to its second capital or from it on. A name of one capital has no last part.
fn sort_key(name: &str, key: SortBy) -> &str {
    let second = name.char_indices().skip(1).find(|(_, c)| c.is_uppercase());
    let (first, last) = name.split_at(second.map_or(name.len(), |(at, _)| at));
    if key == SortBy::First { first } else { last }
}

/// The lines of the right answer: all names so far in order of their keys (by code point, equals as introduced); from
/// the second turn on, those at `known` and after are marked as new.
fn truth(names: &[String], known: usize, key: SortBy) -> Vec<String> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&i| sort_key(&names[i], key));
    let line = |i: usize| {
        if known > 0 && i >= known { format!("{}{NEW_NAME}", names[i]) } else { names[i].clone() }
    };
    order.into_iter().map(line).collect()
}

/// Lines inside a tag.
fn answer(tag: Tag, lines: &[String]) -> String {
    format!("{}\n{}\n{}", tag.open(), lines.join("\n"), tag.close())
}

#[cfg(test)]
#[path = "alphabet_sort_tests.rs"]
pub(super) mod tests;
