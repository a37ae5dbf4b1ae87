//! Every operation of every chapter fails once in every way: nothing acknowledged is lost, nothing half done is taken for
//! whole, the error says what it is, and the same again, undisturbed, ends as if nothing had happened.

use super::check::{check, outcome};
use super::scenario::{Chapter, Diary};
use super::{Fault, Operation, Seen, watch, workplace};
use crate::store::{StoreError, fs};

/// Whether the store may go on after this operation failed: what it only tidies up, and what it does on the way to saying
/// that something else failed.
fn is_ignorable(chapter: Chapter, seen: &Seen) -> bool {
    match seen.struck.as_ref().unwrap() {
        Operation::RemoveFile(_) | Operation::RemoveTree(_) => true,
        // Rows on the way to a failure.
        Operation::SyncFile(path) => {
            let first = path.to_string_lossy().contains("/attempts/0001/");
            chapter == Chapter::Failing || (chapter == Chapter::Leased && first)
        }
        // Checkpoints of a finished run that stay are said and harm nobody.
        Operation::Rename(_, to) => to.to_string_lossy().contains(fs::TEMPORARY),
        Operation::SyncFolder(folder) => folder.ends_with("checkpoints"),
        _ => false,
    }
}

fn strike_everywhere(fault: Fault) {
    for chapter in Chapter::ALL {
        let undisturbed = workplace();
        let (played, all) = watch(None, || chapter.play(undisturbed.path(), &mut Diary::default()));
        played.unwrap();
        let expected = outcome(undisturbed.path());
        assert!(!expected.is_empty());
        for at in 0..all.asked {
            let folder = workplace();
            let mut diary = Diary::default();
            let (played, seen) = watch(Some((at, fault)), || chapter.play(folder.path(), &mut diary));
            let when = format!("{chapter:?}, {fault:?} at {at}, {:?}: {played:?}", seen.struck);
            match &played {
                Ok(()) => assert!(is_ignorable(chapter, &seen), "{when}: nobody was told"),
                Err(StoreError::DiskFull { .. }) => assert!(fault.is_full(), "{when}"),
                Err(StoreError::Io { .. }) => assert!(!fault.is_full(), "{when}"),
                Err(other) => panic!("{when}: another kind of error: {other:?}"),
            }
            check(folder.path(), &diary.until(usize::MAX), false, &when);
            let (again, _) = watch(None, || chapter.play(folder.path(), &mut diary));
            again.unwrap_or_else(|error| panic!("{when}: the same again fails: {error}"));
            check(folder.path(), &diary.until(usize::MAX), false, &when);
            assert_eq!(outcome(folder.path()), expected, "{when}");
        }
    }
}

#[test]
fn an_io_error_anywhere_does_no_harm() {
    strike_everywhere(Fault::Io);
}

#[test]
fn an_answer_that_is_lost_anywhere_does_no_harm() {
    strike_everywhere(Fault::AnswerLost);
}

#[test]
fn a_disk_that_is_full_for_a_moment_does_no_harm() {
    strike_everywhere(Fault::FullOnce);
    strike_everywhere(Fault::ShortOnce);
}

#[test]
fn a_disk_that_is_full_from_somewhere_on_does_no_harm() {
    strike_everywhere(Fault::FullForGood);
}

#[test]
fn a_kill_anywhere_does_no_harm() {
    strike_everywhere(Fault::Kill);
    strike_everywhere(Fault::KillHalfway);
}
