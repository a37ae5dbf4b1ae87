//! Where an episode's names come from: the shipped lists, or rows of a user's file.
//!
//! In: a source of names and a counter. Out: the names of one episode, in the order in which turns introduce them.
//! Invariant: names are distinct within an episode, and none is empty or breaks a line.

use std::sync::OnceLock;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::RowNames;
use super::error::TaskError;
use super::reward::Tag;
use super::text::strip;
use crate::counter::Counter;

/// Given names, one a line, in code-point order.
const GIVEN: &str = include_str!("names/given.txt");
/// Surnames, one a line, in code-point order.
const SURNAMES: &str = include_str!("names/surnames.txt");

/// The names that a task draws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The shipped lists: a given name and a surname joined, such as `AnnaMoss`. No two names of an episode share
    /// either part, so that the right order never hangs on a tie.
    Shipped,
    /// Rows of a user's file. Spaces (U+0020) are removed from each name and repeats within a row dropped; an episode
    /// picks one of the rows that are long enough, each with the same chance, and takes names from it as
    /// [`RowNames`] says.
    Rows(Vec<Vec<String>>),
}

/// The most names that one episode can have of the shipped lists.
pub fn shipped_names() -> usize {
    // A plan asks for every run.
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| GIVEN.lines().count().min(SURNAMES.lines().count()))
}

/// A checked source of names.
#[derive(Clone, Debug)]
pub(super) enum NamePool {
    /// The shipped lists.
    Shipped { given: Vec<&'static str>, surnames: Vec<&'static str> },
    /// Rows, longest first, equals in the order of the file.
    Rows { rows: Vec<Vec<String>>, pick: RowNames },
}

impl NamePool {
    /// Checks that `source` serves episodes of up to `needed` names.
    pub(super) fn new(source: NameSource, needed: u64, pick: RowNames) -> Result<Self, TaskError> {
        let (pool, rows) = match source {
            NameSource::Shipped => {
                (Self::Shipped { given: GIVEN.lines().collect(), surnames: SURNAMES.lines().collect() }, None)
            }
            NameSource::Rows(rows) => {
                let read = rows.len();
                let mut rows = rows
                    .into_iter()
                    .enumerate()
                    .map(clean)
                    .collect::<Result<Vec<Vec<String>>, TaskError>>()?;
                rows.sort_by_key(|row| Reverse(row.len()));
                (Self::Rows { rows, pick }, Some(read))
            }
        };
        let largest = pool.largest();
        if (largest as u64) < needed {
            return Err(TaskError::TooFewNames { largest, needed, rows });
        }
        Ok(pool)
    }

    /// The most names that one episode can have.
    fn largest(&self) -> usize {
        match self {
            Self::Shipped { given, surnames } => given.len().min(surnames.len()),
            Self::Rows { rows, .. } => rows.first().map_or(0, Vec::len),
        }
    }

    /// The names of one episode; `count` is at most what the pool was checked for.
    pub(super) fn draw(&self, counter: &mut Counter, count: usize) -> Vec<String> {
        match self {
            Self::Shipped { given, surnames } => {
                let given = distinct(counter, given, count);
                let surnames = distinct(counter, surnames, count);
                given.iter().zip(surnames).map(|(first, last)| format!("{first}{last}")).collect()
            }
            Self::Rows { rows, pick } => {
                let eligible = rows.partition_point(|row| row.len() >= count);
                let row = &rows[counter.below(eligible as u64) as usize];
                match pick {
                    RowNames::First => row[..count].to_vec(),
                    RowNames::Sample => distinct(counter, row, count),
                }
            }
        }
    }
}

/// `count` different items, in random order: the head of a shuffle.
fn distinct<T: Clone>(counter: &mut Counter, items: &[T], count: usize) -> Vec<T> {
    let mut items = items.to_vec();
    for i in 0..count {
        let j = counter.between(i as u64, items.len() as u64 - 1) as usize;
        items.swap(i, j);
    }
    items.truncate(count);
    items
}

/// A row without spaces and repeats.
fn clean((index, row): (usize, Vec<String>)) -> Result<Vec<String>, TaskError> {
    let names = distinct_names(row);
    names.iter().try_for_each(|(name, joined)| refuse(index + 1, name, joined))?;
    Ok(names.into_iter().map(|(_, joined)| joined).collect())
}

/// The names of a row, each once, with what is left of it without spaces (U+0020).
pub(super) fn distinct_names(row: Vec<String>) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let pairs = row.into_iter().map(|name| {
        let joined = name.replace(' ', "");
        (name, joined)
    });
    pairs.filter(|(_, joined)| seen.insert(joined.clone())).collect()
}

/// Fails for a name that cannot stand on a line of an answer; rows are counted from 1.
pub(super) fn refuse(row: usize, name: &str, joined: &str) -> Result<(), TaskError> {
    let reason = if strip(joined).is_empty() {
        "is blank"
    } else if joined.contains('\n') {
        "breaks the line"
    } else if Tag::literals().iter().any(|tag| joined.contains(tag)) {
        "contains a tag of the answer format"
    } else {
        return Ok(());
    };
    Err(TaskError::BadName { row, name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> NameSource {
        NameSource::Rows(rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect())
    }

    #[test]
    fn the_shipped_lists_are_sorted_unique_and_camel_case() {
        for (list, least) in [(GIVEN, 500), (SURNAMES, 500)] {
            let names: Vec<&str> = list.lines().collect();
            assert!(names.len() >= least, "{}", names.len());
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted and unique");
            for name in names {
                let (head, tail) = name.split_at(1);
                assert!(head.bytes().all(|b| b.is_ascii_uppercase()), "{name}");
                assert!(!tail.is_empty() && tail.bytes().all(|b| b.is_ascii_lowercase()), "{name}");
            }
        }
    }

    #[test]
    fn the_shipped_lists_are_part_of_every_run() {
        // Another list draws other episodes: when this digest must change, so must the revision of the stages that
        // depend on the task.
        let digest = blake3::hash([GIVEN, SURNAMES].concat().as_bytes()).to_hex();
        assert_eq!(&digest[..16], "d9cd0bc29a6e405a");
    }

    #[test]
    fn shipped_names_share_no_part_within_an_episode() {
        let pool = NamePool::new(NameSource::Shipped, 100, RowNames::First).expect("enough names");
        let names = pool.draw(&mut Counter::new(1, "test", &[]), 100);
        let split = |name: &String| name.rfind(|c: char| c.is_ascii_uppercase()).expect("two parts");
        let given: BTreeSet<&str> = names.iter().map(|name| &name[..split(name)]).collect();
        let surnames: BTreeSet<&str> = names.iter().map(|name| &name[split(name)..]).collect();
        assert_eq!((names.len(), given.len(), surnames.len()), (100, 100, 100));
    }

    #[test]
    fn rows_lose_spaces_and_repeats() {
        let pool = NamePool::new(rows(&[&["Anna Moss", "B C  D", "AnnaMoss", "Eve"]]), 3, RowNames::First)
            .expect("three names");
        let names = pool.draw(&mut Counter::new(0, "test", &[]), 3);
        assert_eq!(names, ["AnnaMoss", "BCD", "Eve"]);
    }

    #[test]
    fn only_rows_that_are_long_enough_are_drawn() {
        let source = rows(&[&["A"], &["B", "C", "D"], &["E", "F"], &["G", "H", "I"]]);
        let pool = NamePool::new(source, 3, RowNames::First).expect("two rows of three");
        let firsts = |count: usize| -> BTreeSet<String> {
            (0..200).map(|n| pool.draw(&mut Counter::new(n, "test", &[]), count).remove(0)).collect()
        };
        assert_eq!(firsts(3), BTreeSet::from(["B".into(), "G".into()]));
        assert_eq!(firsts(2), BTreeSet::from(["B".into(), "E".into(), "G".into()]));
        assert_eq!(firsts(1), BTreeSet::from(["A".into(), "B".into(), "E".into(), "G".into()]));
    }

    #[test]
    fn sampled_rows_use_all_their_names_without_repeats() {
        let pool =
            NamePool::new(rows(&[&["A", "B", "C", "D", "E"]]), 2, RowNames::Sample).expect("five names");
        let mut seen = BTreeSet::new();
        for n in 0..200 {
            let names = pool.draw(&mut Counter::new(n, "test", &[]), 2);
            assert_ne!(names[0], names[1]);
            seen.extend(names);
        }
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn too_few_names_say_how_many_there_are() {
        let error = NamePool::new(rows(&[&["A", "A", "B"], &["C"]]), 6, RowNames::First)
            .expect_err("two names at most");
        assert_eq!(
            error.to_string(),
            "task.names has at most 2 distinct names for an episode, and the longest episode needs 6"
        );
        assert!(error.hint().expect("advice").contains("2 were read"));
        let error = NamePool::new(rows(&[]), 1, RowNames::First).expect_err("no rows");
        assert_eq!(error.hint().as_deref(), Some("the file has no rows"));
        assert!(NamePool::new(NameSource::Shipped, 100_000, RowNames::First).is_err());
    }

    #[test]
    fn names_that_cannot_be_answered_are_refused() {
        for (name, reason) in [
            ("  ", "is blank"),
            ("\t", "is blank"),
            ("A\nB", "breaks the line"),
            ("</alphabetical_sorted>", "contains a tag of the answer format"),
        ] {
            let error =
                NamePool::new(rows(&[&["Fine"], &["Good", name]]), 1, RowNames::First).expect_err("refused");
            assert_eq!(error.to_string(), format!("task.names, row 2: the name {name:?} {reason}"));
        }
    }
}
