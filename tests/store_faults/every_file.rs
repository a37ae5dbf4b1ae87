//! Every kind of file that a store has, cut to every class of length and with bits flipped: what is damaged is never taken
//! for whole, nothing panics, and a sweep ends with the same results.
//!
//! The files are found by walking a store that has them all, so a kind that is new is covered too.

use crate::common::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tickets::store::{RunState, Stage, Store, StoreError};

const RUNS: [&str; 3] = ["finished", "unfinished", "failed"];
const STAGES: [(Stage, &str, &[u8]); 3] =
    [(Stage::Base, "b1", b"a base"), (Stage::Scores, "s1", b"scores"), (Stage::Mask, "m1", b"011010")];

fn describe(store: &Store, run: &str) {
    let what = json!({"label": run, "manifest": "m", "stages": {"trajectory": "t"}, "settings": {"seed": 1}});
    store.describe_run(run, what.as_object().unwrap().clone()).unwrap();
}

/// Scores are written piece by piece, all else at once.
fn make(store: &Store, stage: Stage, id: &str, bytes: &[u8]) {
    let meta = json!({"x": 1.5});
    if stage != Stage::Scores {
        store.publish(stage, id, &[("data", bytes), ("config.json", b"{}")], meta).unwrap();
        return;
    }
    let mut new = store.begin_artifact(stage, id).unwrap();
    new.file("data", |file| bytes.chunks(4).try_for_each(|piece| file.append(piece))).unwrap();
    new.file("config.json", |file| file.append(b"{}")).unwrap();
    new.publish(meta).unwrap();
}

/// A store with a file of every kind: artifacts, a finished, an unfinished and a failed run, something in quarantine.
fn full_store(folder: &Path) {
    let (store, _) = open(folder);
    for (stage, id, bytes) in STAGES {
        make(&store, stage, id, bytes);
    }
    store.publish(Stage::Mask, "m1", &[("data", b"1")], json!({})).unwrap();
    for run in RUNS {
        describe(&store, run);
        let mut attempt = store.begin(run).unwrap();
        attempt.keep_bytes(1000);
        attempt.log("a line").unwrap();
        attempt.describe(json!({"build": "x"}).as_object().unwrap().clone()).unwrap();
        advance(&mut attempt, 5, 2);
        match run {
            "finished" => finish(attempt),
            "failed" => {
                attempt.fail(&json!({"class": "nan", "step": 5, "message": "m", "hint": null})).unwrap();
            }
            _ => {}
        }
    }
    store.write_result(Path::new("grid/summary.csv"), b"a,b\n1,2\n").unwrap();
}

/// What a sweep does: whatever is missing or does not verify is made again.
fn sweep(store: &Store) {
    for (stage, id, bytes) in STAGES {
        if store.verified_artifact(stage, id).unwrap().is_none() {
            store.publish(stage, id, &[("data", bytes), ("config.json", b"{}")], json!({})).unwrap();
        }
    }
    for run in RUNS {
        describe(store, run);
        while let Some(result) = store.result(run).unwrap() {
            if result.verify().is_ok() {
                break;
            }
        }
        if store.run_state(run).unwrap() != RunState::Done {
            let mut attempt = store.begin(run).unwrap();
            advance(&mut attempt, 5, 2);
            finish(attempt);
        }
    }
    store.write_result(Path::new("grid/summary.csv"), b"a,b\n1,2\n").unwrap();
}

fn outcome(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let store = Store::open_read_only(folder).unwrap();
    let mut found = BTreeMap::new();
    for (stage, id, _) in STAGES {
        let artifact = store.verified_artifact(stage, id).unwrap().unwrap();
        for file in artifact.files().keys() {
            found.insert(format!("{}/{file}", stage.name()), artifact.read(file).unwrap());
        }
    }
    for run in RUNS {
        let result = store.result(run).unwrap().unwrap();
        for file in result.files().keys() {
            found.insert(format!("{run}/{file}"), result.read(file).unwrap());
        }
        found.insert(run.to_owned(), format!("{:?}", store.described(run).unwrap().unwrap()).into_bytes());
    }
    found
}

/// Damage is an error that says so, or an answer that is right; nothing panics and nothing changes.
fn look(folder: &Path, what: &str) {
    let files = files_below(folder);
    let damage = |error: &StoreError| {
        assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Newer { .. }), "{what}: {error:?}");
        assert!(error.hint().is_some());
    };
    match Store::open_read_only(folder) {
        Err(error) => damage(&error),
        Ok(store) => {
            for (stage, id, bytes) in STAGES {
                match store.verified_artifact(stage, id) {
                    Ok(Some(found)) => assert_eq!(found.read("data").unwrap(), bytes, "{what}"),
                    Ok(None) => panic!("{what}: {} is passed over in silence", stage.name()),
                    Err(error) => damage(&error),
                }
            }
            for run in RUNS {
                let expected: Vec<_> = (1..=5).map(row).collect();
                match store.run_rows(run) {
                    Ok(rows) if rows.done.is_some() => assert_eq!(rows.metrics, expected, "{what}"),
                    Ok(_) => {}
                    Err(error) => damage(&error),
                }
                let _ = store.run_state(run).map_err(|error| damage(&error));
                let _ = store.described(run).map_err(|error| damage(&error));
                let _ = store.saved_step(run).map_err(|error| damage(&error));
                store.log_tail(run, 5).unwrap();
            }
            for relative in store.relatives("t", "none").unwrap() {
                assert!(expected_rows(&relative.metrics), "{what}: rows of {}", relative.run);
            }
            store.quarantined().unwrap();
        }
    }
    assert_eq!(files_below(folder), files, "{what}: looking changed something");
}

fn expected_rows(rows: &[tickets::store::Row]) -> bool {
    rows.iter().zip(1..).all(|(found, step)| *found == row(step))
}

fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Versions of a file that a bad disk might give back, with a word on each.
fn damages(bytes: &[u8], dice: &mut Dice) -> Vec<(String, Vec<u8>)> {
    let length = bytes.len();
    let mut found = Vec::new();
    let mut lengths = vec![0, 1, length / 4, length / 2, length.saturating_sub(2), length.saturating_sub(1)];
    let mut flips = vec![(0, 0), (length / 2, 3), (length.saturating_sub(2), 6)];
    for _ in 0..rounds(2) {
        lengths.push(dice.below(length));
        flips.push((dice.below(length), dice.pick(&[0, 1, 2, 3, 4, 5, 6, 7])));
    }
    lengths.sort_unstable();
    lengths.dedup();
    for length in lengths.into_iter().filter(|cut| *cut < length) {
        found.push((format!("cut to {length} bytes"), bytes[..length].to_vec()));
    }
    for (at, bit) in flips.into_iter().filter(|(at, _)| *at < length) {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << bit;
        found.push((format!("bit {bit} of byte {at} flipped"), flipped));
    }
    found.push(("zeros".to_owned(), vec![0; length]));
    found.push(("more behind it".to_owned(), [bytes, b"{}\nx"].concat()));
    found
}

#[test]
fn every_file_may_be_damaged_in_every_way() {
    let original = workplace();
    full_store(original.path());
    let undamaged = workplace();
    full_store(undamaged.path());
    sweep(&open(undamaged.path()).0);
    let expected = outcome(undamaged.path());
    let format = Store::open_read_only(original.path()).unwrap().layout().format();
    let files = files_below(original.path());
    let mut dice = Dice::new(5);
    let mut kinds = std::collections::BTreeSet::new();
    for (damaged, bytes) in &files {
        kinds.insert(damaged.file_name().unwrap().to_owned());
        for (how, hurt) in damages(bytes, &mut dice) {
            let copy = workplace();
            let place = |path: &Path| copy.path().join(path.strip_prefix(original.path()).unwrap());
            for (path, bytes) in &files {
                fs::create_dir_all(place(path).parent().unwrap()).unwrap();
                fs::write(place(path), if path == damaged { &hurt } else { bytes }).unwrap();
            }
            let what = format!("{}: {how}", damaged.strip_prefix(original.path()).unwrap().display());
            look(copy.path(), &what);
            // One bit of its number, and a record says that it is of a newer program: then it is refused, and left alone.
            let stated = serde_json::from_slice::<serde_json::Value>(&hurt).unwrap_or_default();
            if stated["format"].as_u64() > Some(1) {
                continue;
            }
            match Store::open(copy.path()) {
                Ok(store) => {
                    let store = store.with_notices(|_| {});
                    sweep(&store);
                    assert_eq!(outcome(copy.path()), expected, "{what}");
                }
                // Whether a store of which this is not known is ours to write in cannot be told.
                Err(StoreError::Damaged { path, .. } | StoreError::Newer { path, .. }) => {
                    assert_eq!((path, damaged), (place(&format), &format), "{what}");
                }
                Err(other) => panic!("{what}: {other:?}"),
            }
        }
    }
    for kind in ["format", "DONE.json", "failed.json", "spec.json", "metrics.jsonl", "eval.jsonl", "state"] {
        assert!(kinds.contains(std::ffi::OsStr::new(kind)), "{kind} is not among the files");
    }
}
