//! Damaged, missing and contradicting files.

use crate::common::*;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tickets::store::{Attempt, RunState, Stage, Store, StoreError, reproducible_digest};

#[test]
fn an_artifact_is_there_completely_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    assert!(store.artifact(Stage::Base, "id1").unwrap().is_none());
    let files: [(&str, &[u8]); 2] = [("model", b"weights"), ("config.json", b"{}")];
    store.publish(Stage::Base, "id1", &files, json!({"seconds": 1})).unwrap();
    let found = store.artifact(Stage::Base, "id1").unwrap().unwrap();
    assert_eq!(found.read("model").unwrap(), b"weights");
    assert_eq!(found.meta()["seconds"], 1);
    assert_eq!(found.files()["model"].bytes, 7);
    assert!(matches!(found.read("other").unwrap_err(), StoreError::NoSuchFile { .. }));
    assert!(store.artifact(Stage::Mask, "id1").unwrap().is_none(), "stages do not share ids");

    // An identical second result changes nothing, measured times may differ.
    store.publish(Stage::Base, "id1", &files, json!({"seconds": 2})).unwrap();
    assert_eq!(store.artifact(Stage::Base, "id1").unwrap().unwrap().meta()["seconds"], 1);
    assert!(notices.lock().unwrap().is_empty());

    // A different one is kept apart and reported; the first still counts.
    let second = store.publish(Stage::Base, "id1", &[("model", b"WEIGHTS")], json!({})).unwrap();
    assert_eq!(second.read("model").unwrap(), b"weights");
    assert_eq!(store.quarantined().unwrap(), ["base-id1-1"]);
    assert!(notices.lock().unwrap()[0].contains("differs from the first"));
}

#[test]
fn truncation_and_bit_flips_of_an_artifact_are_noticed_and_it_is_made_again() {
    for file in ["model", "DONE.json"] {
        for damage in ["truncate", "flip", "remove"] {
            let folder = tempfile::tempdir().unwrap();
            let (store, notices) = open(folder.path());
            store.publish(Stage::Scores, "id", &[("model", b"weights")], json!({"x": 1.5})).unwrap();
            hurt(&store.layout().artifact(Stage::Scores, "id").join(file), damage);

            let read_only = Store::open_read_only(folder.path()).unwrap();
            assert!(matches!(
                read_only.verified_artifact(Stage::Scores, "id"),
                Err(StoreError::Damaged { .. })
            ));
            assert!(store.quarantined().unwrap().is_empty(), "reading only changes nothing");

            assert!(store.verified_artifact(Stage::Scores, "id").unwrap().is_none(), "{file} {damage}");
            assert_eq!(store.quarantined().unwrap(), ["scores-id-1"], "{file} {damage}");
            assert_eq!(notices.lock().unwrap().len(), 1, "{file} {damage}");
            store.publish(Stage::Scores, "id", &[("model", b"weights")], json!({})).unwrap();
            assert!(store.verified_artifact(Stage::Scores, "id").unwrap().is_some());
        }
    }
}

/// Damages a file: cuts its last byte, flips one bit in the middle, or removes it.
fn hurt(path: &Path, damage: &str) {
    let mut bytes = fs::read(path).unwrap();
    match damage {
        "truncate" => {
            // Two bytes: the last one of a marker is a newline that nothing depends on.
            bytes.truncate(bytes.len() - 2);
            fs::write(path, bytes).unwrap();
        }
        "flip" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        }
        _ => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn a_flip_that_only_a_digest_can_see_is_noticed_on_the_first_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.publish(Stage::Mask, "id", &[("mask", b"0123")], json!({})).unwrap();
    hurt(&store.layout().artifact(Stage::Mask, "id").join("mask"), "flip");
    let found = store.artifact(Stage::Mask, "id").unwrap().unwrap();
    assert!(matches!(found.read("mask"), Err(StoreError::Damaged { .. })));
    assert!(
        store.artifact(Stage::Mask, "id").unwrap().is_none(),
        "it was moved aside, so it will be made again"
    );
}

#[test]
fn a_resumed_run_has_the_rows_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut whole = store.begin("whole").unwrap();
    advance(&mut whole, 7, 2);
    finish(whole);
    let expected = store.run_rows("whole").unwrap();

    for stop in 0..=7 {
        let run = format!("cut{stop}");
        let mut first = store.begin(&run).unwrap();
        advance(&mut first, stop, 2);
        // The process is killed: nothing more is written, and the last line may be torn.
        let metrics = first.folder().join("metrics.jsonl");
        drop(first);
        fs::OpenOptions::new().append(true).open(&metrics).unwrap().write_all(b"{\"step\":99,\"rew").unwrap();
        let step = stop / 2 * 2;
        let state = store.run_state(&run).unwrap();
        assert_eq!(state, if step == 0 { RunState::Pending } else { RunState::Resumable { step } });
        assert_eq!(store.run_rows(&run).unwrap().metrics.len(), stop as usize, "the torn line is left out");

        let mut second = store.begin(&run).unwrap();
        assert_eq!(second.number(), 2);
        assert_eq!(second.resumed().map_or(0, tickets::store::Checkpoint::step), step);
        assert_eq!(second.metrics_rows().len(), step as usize);
        advance(&mut second, 7, 2);
        finish(second);
        let rows = store.run_rows(&run).unwrap();
        assert_eq!(rows.metrics, expected.metrics);
        assert_eq!(rows.evals, expected.evals);
        assert_eq!(reproducible_digest(&rows.metrics), reproducible_digest(&expected.metrics));
        assert_eq!(rows.attempt, Some(2));
        assert_eq!(rows.done.unwrap()["weights_digest"], "ab");
        assert_eq!(store.run_state(&run).unwrap(), RunState::Done);
    }
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
    for (file, damage) in [
        ("state", "flip"),
        ("state", "truncate"),
        ("state", "remove"),
        ("DONE.json", "flip"),
        ("DONE.json", "remove"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (store, notices) = open(folder.path());
        let mut attempt = store.begin("run").unwrap();
        advance(&mut attempt, 6, 2);
        drop(attempt);
        hurt(&store.layout().checkpoint("run", 1, 6).join(file), damage);
        let mut attempt = store.begin("run").unwrap();
        assert_eq!(attempt.resumed().unwrap().step(), 4, "{file} {damage}");
        assert_eq!(attempt.resumed().unwrap().meta()["seen"], 4);
        assert!(notices.lock().unwrap()[0].contains("checkpoint 6"), "{:?}", notices.lock().unwrap());
        advance(&mut attempt, 6, 2);
        assert_eq!(attempt.metrics_rows(), (1..=6).map(row).collect::<Vec<_>>());
    }
}

#[test]
fn damage_in_rows_before_a_checkpoint_makes_it_unusable_and_damage_after_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 5, 9);
    let metrics = attempt.folder().join("metrics.jsonl");
    drop(attempt);
    // Row 3 lies between checkpoints 2 and 4, row 5 after both.
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.replace("\"step\":3", "\"step\":8")).unwrap();
    assert_eq!(store.begin("run").unwrap().resumed().unwrap().step(), 2);
    assert!(notices.lock().unwrap()[0].contains("its first 4 rows"), "{:?}", notices.lock().unwrap());

    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 5, 9);
    drop(attempt);
    let metrics = store.layout().attempt("run", 1).join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.replace("{\"step\":5", "{\"step\";5")).unwrap();
    assert!(
        matches!(store.run_rows("run"), Err(StoreError::Damaged { .. })),
        "a complete bad line is damage"
    );
    assert_eq!(store.begin("run").unwrap().resumed().unwrap().step(), 4);
    assert!(notices.lock().unwrap().is_empty());
}

#[test]
fn every_damaged_file_of_a_finished_run_is_noticed() {
    for file in [
        "attempts/0001/metrics.jsonl",
        "attempts/0001/eval.jsonl",
        "attempts/0001/final/weights",
        "DONE.json",
    ] {
        for damage in ["truncate", "flip", "remove"] {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = open(folder.path());
            let mut attempt = store.begin("run").unwrap();
            advance(&mut attempt, 4, 2);
            finish(attempt);
            assert!(
                fs::read_dir(run_folder(&store, "run").join("attempts/0001/checkpoints"))
                    .unwrap()
                    .next()
                    .is_none()
            );
            let path = run_folder(&store, "run").join(file);
            if file.ends_with("weights") && damage == "truncate" {
                fs::write(&path, b"").unwrap();
            } else if file.ends_with("weights") && damage == "flip" {
                fs::write(&path, b"W").unwrap();
            } else {
                hurt(&path, damage);
            }
            let read_only = Store::open_read_only(folder.path()).unwrap();
            if file == "DONE.json" && damage == "remove" {
                assert!(read_only.result("run").unwrap().is_none());
            } else {
                let verified = read_only.result("run").and_then(|found| found.unwrap().verify());
                assert!(matches!(verified, Err(StoreError::Damaged { .. })), "{file} {damage}");
            }
            // For a sweep the run is to be done again.
            if let Some(found) = store.result("run").unwrap() {
                found.verify().unwrap_err();
            }
            assert_eq!(store.run_state("run").unwrap(), RunState::Pending, "{file} {damage}");
            let mut again = store.begin("run").unwrap();
            advance(&mut again, 4, 2);
            finish(again);
            assert_eq!(store.run_state("run").unwrap(), RunState::Done);
        }
    }
}

#[test]
fn the_first_result_of_a_run_wins_and_a_different_second_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut attempts: Vec<Attempt> = (0..3).map(|_| store.begin("run").unwrap()).collect();
    for attempt in &mut attempts {
        advance(attempt, 2, 2);
    }
    let third = attempts.pop().unwrap();
    let mut second = attempts.pop().unwrap();
    finish(attempts.pop().unwrap());
    // Another time measured, the same content.
    third.finish(&[("weights", b"w"), ("moments", b"mm")], json!({"wall_seconds": 9})).unwrap();
    assert!(notices.lock().unwrap().is_empty());
    second.metrics(&row(3)).unwrap();
    finish(second);
    assert!(notices.lock().unwrap()[0].contains("attempt 2"), "{:?}", notices.lock().unwrap());
    assert_eq!(store.quarantined().unwrap(), ["run-run-1"]);
    let rows = store.run_rows("run").unwrap();
    assert_eq!((rows.attempt, rows.metrics.len()), (Some(1), 2));
}

#[test]
fn a_failure_counts_until_the_next_attempt_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 3, 2);
    attempt.fail(&json!({"class": "nan", "step": 3, "message": "loss is NaN"})).unwrap();
    let failed = RunState::Failed { class: "nan".into(), step: Some(3), message: "loss is NaN".into() };
    assert_eq!(store.run_state("run").unwrap(), failed);
    assert_eq!(failed.name(), "failed");
    let path = store.layout().failure("run", 1);
    for damage in ["flip", "truncate"] {
        let whole = fs::read(&path).unwrap();
        hurt(&path, damage);
        let read_only = Store::open_read_only(folder.path()).unwrap();
        assert!(matches!(read_only.run_state("run"), Err(StoreError::Damaged { .. })));
        fs::write(&path, whole).unwrap();
    }
    let attempt = store.begin("run").unwrap();
    assert_eq!(attempt.resumed().unwrap().step(), 2);
    assert_eq!(store.run_state("run").unwrap(), RunState::Resumable { step: 2 });
    drop(attempt);
    let killed = json!({"class": "killed", "step": null, "message": "signal 9"});
    store.record_failure("run", Some(2), &killed).unwrap();
    assert!(matches!(store.run_state("run").unwrap(), RunState::Failed { class, .. } if class == "killed"));
    let classes = |store: &Store| {
        let failures = store.failures("run").unwrap();
        failures
            .into_iter()
            .map(|(n, failure)| (n, failure["class"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(classes(&store), [(1, "nan".to_owned()), (2, "killed".to_owned())]);
    // One that did not come to begin an attempt is an attempt of its own.
    store.record_failure("run", None, &killed).unwrap();
    assert_eq!(classes(&store).len(), 3);
    assert_eq!(store.next_attempt("run").unwrap(), 4);

    assert!(store.forgive("run").unwrap());
    assert_eq!(store.run_state("run").unwrap(), RunState::Resumable { step: 2 });
    assert!(!store.forgive("run").unwrap(), "there is nothing to forgive");
    assert!(store.layout().attempt("run", 3).join("forgiven.json").exists(), "the record stays");
    assert_eq!(store.begin("run").unwrap().resumed().unwrap().step(), 2);
}

#[test]
fn the_same_checkpoint_twice_is_one_and_another_of_the_same_step_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 2, 2);
    attempt.checkpoint(2, &[("state", &state(2))], json!({"seen": 2}), 2).unwrap();
    assert!(attempt.checkpoint(2, &[("state", b"other")], json!({"seen": 2}), 2).is_err());
    attempt.metrics(&row(3)).unwrap();
    assert!(
        attempt.checkpoint(2, &[("state", &state(2))], json!({"seen": 2}), 2).is_err(),
        "it has more rows now"
    );
    drop(attempt);
    assert_eq!(store.begin("run").unwrap().resumed().unwrap().read("state").unwrap(), state(2));
}

#[test]
fn old_checkpoints_are_removed_across_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 6, 2);
    let kept = |number| {
        let path = store.layout().checkpoints("run", number);
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(kept(1), ["00000004", "00000006"]);
    drop(attempt);
    let mut attempt = store.begin("run").unwrap();
    assert_eq!(
        kept(2),
        ["00000006"],
        "what it goes on from is its own, whatever becomes of the other attempt"
    );
    advance(&mut attempt, 8, 2);
    assert_eq!(
        (kept(1), kept(2)),
        (Vec::<String>::new(), vec!["00000006".to_owned(), "00000008".to_owned()])
    );
}
