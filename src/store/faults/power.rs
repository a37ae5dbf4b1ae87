//! The power goes after every change of every chapter: what was acknowledged is there and verifies, nothing half written
//! is taken for whole, and the chapter can be carried on to the same end.

use std::path::Path;

use super::check::{check, outcome};
use super::dice::{Dice, rounds};
use super::model::{Disk, Left};
use super::scenario::{Chapter, Diary};
use super::{Change, Fault, watch, workplace};

/// What a chapter did in a folder, from an empty one on.
struct Played {
    folder: tempfile::TempDir,
    changes: Vec<Change>,
    diary: Diary,
    /// Changes before this one were made by an earlier process.
    began: usize,
}

impl Played {
    fn new() -> Self {
        let folder = workplace();
        Self { folder, changes: Vec::new(), diary: Diary::default(), began: 0 }
    }

    /// Plays a chapter, once more or for the first time.
    fn play(&mut self, chapter: Chapter, fault: Option<(usize, Fault)>) -> usize {
        self.began = self.changes.len();
        let mut diary = Diary::default();
        let results = self.folder.path().join("results");
        let (played, seen) = watch(fault, || chapter.play(&results, &mut diary));
        if fault.is_none() {
            played.unwrap_or_else(|error| panic!("{chapter:?}: {error}"));
        }
        let entries = diary.entries.into_iter().map(|(at, fact)| (self.began + at, fact));
        self.diary.entries.extend(entries);
        self.changes.extend(seen.changes);
        seen.asked
    }

    fn disk_after(&self, changes: usize) -> Disk {
        let mut disk = Disk::new(self.folder.path());
        self.changes[..changes].iter().for_each(|change| disk.apply(change));
        disk
    }
}

/// Looks at a disk after the power went, and carries on.
fn carry_on(
    disk: &Disk,
    left: Left,
    dice: &mut Dice,
    chapter: Chapter,
    diary: &Diary,
    changes: usize,
    when: &str,
) -> std::collections::BTreeMap<String, Vec<u8>> {
    let target = workplace();
    disk.lose_power(left, dice, target.path());
    let results = target.path().join("results");
    let known = diary.until(changes);
    check(&results, &known, true, &when);
    let mut later = Diary::default();
    let (again, _) = watch(None, || chapter.play(&results, &mut later));
    again.unwrap_or_else(|error| panic!("{when}: it cannot be carried on: {error}"));
    check(&results, &later.until(usize::MAX), false, &when);
    outcome(&results)
}

fn describe(changes: &[Change], at: usize, root: &Path) -> String {
    let last =
        at.checked_sub(1).map(|at| format!("{:?}", changes[at]).replace(&root.display().to_string(), ""));
    format!("{at} changes, the last {last:?}")
}

fn lose_power_everywhere(left: &[Left], rounds: u64) {
    for chapter in Chapter::ALL {
        let mut played = Played::new();
        played.play(chapter, None);
        let expected = outcome(&played.folder.path().join("results"));
        for changes in 0..=played.changes.len() {
            let disk = played.disk_after(changes);
            for (round, left) in (0..rounds).flat_map(|round| left.iter().map(move |left| (round, *left))) {
                let what = describe(&played.changes, changes, played.folder.path());
                let when = format!("{chapter:?}, {left:?} is left after {what}, round {round}");
                let mut dice = Dice::new((changes as u64) << 32 | round);
                let found = carry_on(&disk, left, &mut dice, chapter, &played.diary, changes, &when);
                assert_eq!(found, expected, "{when}");
            }
        }
    }
}

#[test]
fn a_loss_of_power_that_leaves_only_what_was_forced_does_no_harm() {
    lose_power_everywhere(&Left::CERTAIN[..1], 1);
}

#[test]
fn a_loss_of_power_that_leaves_names_without_bytes_does_no_harm() {
    lose_power_everywhere(&Left::CERTAIN[1..], 1);
}

#[test]
fn a_loss_of_power_that_leaves_anything_does_no_harm() {
    lose_power_everywhere(&Left::DRAWN, rounds(1));
}

/// One process is killed anywhere, or does something and is told that it failed; another carries on to the end; then the
/// power goes. What the first one did but did not force to the disk is not taken for durable by the second.
#[test]
fn what_an_earlier_process_left_undone_is_made_durable_by_the_next() {
    for chapter in Chapter::ALL {
        let asked = Played::new().play(chapter, None);
        for (at, fault) in (0..asked).flat_map(|at| [(at, Fault::Kill), (at, Fault::AnswerLost)]) {
            let mut played = Played::new();
            played.play(chapter, Some((at, fault)));
            played.play(chapter, None);
            // When the second one has acknowledged something for the first time, and at its end.
            let acknowledged = played.diary.entries.iter().map(|(at, _)| *at);
            let end = played.changes.len();
            let first = acknowledged.filter(|at| *at > played.began).min().unwrap_or(end);
            for changes in [first, end] {
                let by_first = played.began;
                let when =
                    format!("{chapter:?}, {fault:?} at {at}: {changes} changes, {by_first} of the first");
                let target = workplace();
                let disk = played.disk_after(changes);
                disk.lose_power(Left::Nothing, &mut Dice::new(0), target.path());
                check(&target.path().join("results"), &played.diary.until(changes), true, &when);
            }
        }
    }
}

/// First something goes wrong in one process, then the power goes while another carries on: what the first one did but did
/// not force to the disk must not be taken for durable by the second.
#[test]
fn a_loss_of_power_after_another_fault_does_no_harm() {
    let chapters = Chapter::ALL.map(|chapter| {
        let mut played = Played::new();
        let asked = played.play(chapter, None);
        (chapter, asked, outcome(&played.folder.path().join("results")))
    });
    for round in 0..rounds(400) {
        let mut dice = Dice::new(round);
        let (chapter, asked, expected) = &chapters[dice.below(chapters.len())];
        let mut played = Played::new();
        let (at, fault) = (dice.below(*asked), dice.pick(&Fault::ALL));
        played.play(*chapter, Some((at, fault)));
        played.play(*chapter, None);
        let changes = played.began + dice.below(played.changes.len() - played.began + 1);
        let left = dice.pick(&[Left::Nothing, Left::Names, Left::NamesAndZeros, Left::Journal, Left::Any]);
        let what = describe(&played.changes, changes, played.folder.path());
        let when = format!(
            "round {round}: {chapter:?}, {fault:?} at {at}, then {left:?} is left after {what}, {} of them by the first process",
            played.began
        );
        let disk = played.disk_after(changes);
        let found = carry_on(&disk, left, &mut dice, *chapter, &played.diary, changes, &when);
        assert_eq!(&found, expected, "{when}");
    }
}
