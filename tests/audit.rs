//! `tickets verify store`: every kind of damage is found and named, a repair only moves, and notes are no damage.
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod common;
mod store_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Bench;
use serde_json::{Value, json};
use store_support::*;
use tickets::store::{Audit, FindingKind, RunState, Severity, Stage, Store, StoreError, audit};

/// A results folder with one of everything.
fn bench() -> (Bench, Store) {
    let bench = Bench::new();
    let store = everything(&bench.results());
    (bench, store)
}

/// Flips one bit of a file.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 4;
    fs::write(path, bytes).expect("a writable file");
}

/// The findings that are not notes: kind and path below `.store`.
fn damage(audit: &Audit) -> Vec<(&'static str, String)> {
    let bad = audit.findings.iter().filter(|finding| finding.severity != Severity::Note);
    let path = |path: &Path| path.strip_prefix(".store").unwrap().display().to_string();
    bad.map(|finding| (finding.kind.name(), path(&finding.path))).collect()
}

#[test]
fn a_sound_store_is_read_to_the_last_byte_and_left_as_it_is() {
    let (bench, store) = bench();
    let before = contents(&bench.results());
    let said = bench.run(&["verify", "store", "--json"]).ends(0).json();
    assert_eq!(said["clean"], true);
    assert_eq!(said["findings"], json!([]));
    assert!(said["format"].is_u64());
    let checked = &said["checked"];
    assert_eq!((&checked["artifacts"], &checked["runs"]), (&json!(3), &json!(3)));
    assert_eq!(checked["checkpoints"], 4 + 2 + 1, "{checked}");
    // Logs and the ignore file are all that nothing vouches for.
    let vouched = |path: &Path| !path.ends_with("log.txt") && !path.ends_with(".gitignore");
    let vouched = before.iter().filter(|(path, _)| vouched(path) && !path.ends_with("lock.guard"));
    let (files, bytes) = vouched.fold((0, 0), |(files, bytes), (_, body)| (files + 1, bytes + body.len()));
    assert_eq!((&checked["files"], &checked["bytes"]), (&json!(files), &json!(bytes)));
    bench
        .run(&["verify", "store"])
        .ends(0)
        .names(&["3 artifacts, 3 runs, 7 checkpoints", "nothing is damaged"]);
    assert_eq!(contents(&bench.results()), before, "nothing was written");
    bench.run(&["verify", "store", "--repair"]).ends(0);
    assert_eq!(contents(store.results()), before, "nothing was to repair");
    bench
        .run(&["verify", "store", "--results", "elsewhere"])
        .ends(5)
        .names(&["there is no store in elsewhere"]);
    assert!(!bench.path("elsewhere").exists());
}

/// Damages a file, finds it, repairs it, and finds nothing the second time. What was found.
#[track_caller]
fn found_and_repaired(what: &str, hurt: impl FnOnce(&Path)) -> (Bench, Store, Vec<(&'static str, String)>) {
    let (bench, store) = bench();
    hurt(&store.layout().root());
    let before = contents(store.results());
    let first = audit(store.results(), false).unwrap();
    assert!(!first.is_clean(), "{what}: {first:?}");
    assert_eq!(contents(store.results()), before, "{what}: only looked at");
    let repaired = audit(store.results(), true).unwrap();
    // What lay in a folder that was moved as a whole is not told again.
    let (of_first, of_repair) = (damage(&first), damage(&repaired));
    assert!(of_repair.iter().all(|found| of_first.contains(found)), "{what}: {of_repair:?}");
    let told = |found: &&(&str, String)| of_repair.contains(found) || found.1.contains("0002/checkpoints");
    assert!(of_first.iter().all(|found| told(&found)), "{what}: {of_first:?}");
    for finding in repaired.findings.iter().filter(|finding| finding.severity == Severity::Damage) {
        let moved = finding.moved_to.as_ref().unwrap_or_else(|| panic!("{what}: {finding:?}"));
        assert!(moved.starts_with(".store/quarantine"), "{what}: {finding:?}");
        assert!(store.results().join(moved).exists(), "{what}: {finding:?}");
    }
    let bodies_before = before.into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    let mut sorted = bodies_before;
    sorted.sort();
    assert!(none_is_lost(&sorted, &bodies(store.results())), "{what}: something was removed");
    let second = audit(store.results(), false).unwrap();
    assert!(second.is_clean(), "{what}: {second:?}");
    bench.run(&["verify", "store"]).ends(0);
    (bench, store, damage(&first))
}

#[test]
fn damage_of_every_kind_is_found_named_and_moved_aside() {
    let remove = |path: PathBuf| fs::remove_file(path).unwrap();
    let cut = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    };
    let middle = |path: PathBuf| flip(&path, fs::metadata(&path).unwrap().len() as usize / 2);
    for folder in
        ["base/base1", "scores/scores1", "mask/mask1", "run/open/attempts/0001/checkpoints/00000004"]
    {
        let file = if folder.starts_with("run") { "state" } else { "model" };
        let path = format!("{folder}/{file}");
        let marker = format!("{folder}/DONE.json");
        for (kind, at, expected) in
            [("damaged", &path, &path), ("missing", &path, &path), ("damaged", &marker, &marker)]
        {
            let (_, _, found) = found_and_repaired(&format!("{kind} {at}"), |root| match kind {
                "missing" => remove(root.join(at)),
                _ => middle(root.join(at)),
            });
            assert_eq!(found, [(kind, expected.clone())]);
        }
        let (_, _, found) = found_and_repaired(&format!("cut {path}"), |root| cut(root.join(&path)));
        assert_eq!(found, [("damaged", path.clone())]);
        let (_, _, found) = found_and_repaired(folder, |root| remove(root.join(&marker)));
        assert_eq!(found, [("missing", folder.to_owned())]);
    }
    for record in ["run/done/spec.json", "run/open/spec.json", "format"] {
        let (_, _, found) = found_and_repaired(record, |root| flip(&root.join(record), 3));
        assert_eq!(found, [("damaged", record.to_owned())]);
    }
    let records = ["provenance.json", "failed.json"].map(|name| format!("run/open/attempts/0001/{name}"));
    for record in records.iter().map(String::as_str).chain(["leases/run-open.1"]) {
        let (_, _, found) = found_and_repaired(record, |root| write(&root.join(record), "{\"format\": 1}"));
        assert_eq!(found, [("damaged", record.to_owned())]);
    }
    for file in ["base/x", "run/x"] {
        let (_, _, found) = found_and_repaired(file, |root| write(&root.join(file), "no folder"));
        assert_eq!(found, [("damaged", file.to_owned())]);
    }
}

#[test]
fn a_damaged_result_loses_its_marker_and_is_made_again() {
    for file in ["final/weights", "final/moments", "metrics.jsonl", "eval.jsonl"] {
        let path = format!("run/done/attempts/0002/{file}");
        for missing in [true, false] {
            let (_bench, store, found) = found_and_repaired(&path, |root| {
                let path = root.join(&path);
                if missing { fs::remove_file(path).unwrap() } else { flip(&path, 10) }
            });
            // Checkpoints go with the rows that they stand on.
            let kind = if missing { "missing" } else { "damaged" };
            assert!(found.contains(&(kind, path.clone())), "{found:?}");
            assert!(found.iter().all(|(_, path)| path.starts_with("run/done/attempts/0002")), "{found:?}");
            // The first attempt's checkpoint is still good; its later one went with the attempt that had taken it in.
            assert_eq!(store.run_state("done").unwrap(), RunState::Resumable { step: 2 }, "{path}");
            let mut again = store.begin("done").unwrap();
            advance(&mut again, 8);
            finish(again);
            assert_eq!(store.run_state("done").unwrap(), RunState::Done);
            assert!(audit(store.results(), false).unwrap().is_clean());
        }
    }
    // The marker alone: the attempt stays, and its newest checkpoint is gone on from.
    let (_bench, store, found) =
        found_and_repaired("marker", |root| flip(&root.join("run/done/DONE.json"), 40));
    assert_eq!(found, [("damaged", "run/done/DONE.json".to_owned())]);
    assert_eq!(store.run_state("done").unwrap(), RunState::Resumable { step: 8 });
}

#[test]
fn no_byte_of_a_result_changes_unnoticed() {
    let (bench, store) = bench();
    let root = store.layout().root();
    let unvouched = ["log.txt", ".gitignore", "lock.guard"];
    let mut tried = 0;
    for (path, body) in contents(&root) {
        if unvouched.iter().any(|name| path.ends_with(name)) || body.is_empty() {
            continue;
        }
        // The newline behind a record protects nothing; rows behind the last checkpoint may become other rows.
        let rows =
            path.extension().is_some_and(|end| end == "jsonl") && !path.starts_with("run/done/attempts/0002");
        let end = if rows { body.len() / 4 } else { body.len() - 1 };
        for at in [0, end / 3, end / 2, end - 1] {
            flip(&root.join(&path), at);
            let found = match audit(&bench.results(), false) {
                // One digit of the store's format makes it a newer one.
                Err(error) => {
                    assert!(
                        path.ends_with("format") && matches!(error, StoreError::Newer { .. }),
                        "{error:?}"
                    );
                    flip(&root.join(&path), at);
                    continue;
                }
                Ok(found) => found,
            };
            let named = |found: &(&str, String)| {
                path.starts_with(&found.1) || rows || Path::new(&found.1).starts_with(path.parent().unwrap())
            };
            assert!(
                !found.is_clean() && damage(&found).iter().all(named),
                "{} at {at}: {found:?}",
                path.display()
            );
            flip(&root.join(&path), at);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    assert!(audit(&bench.results(), false).unwrap().is_clean());
}

#[test]
fn rows_behind_the_last_checkpoint_cost_no_checkpoint() {
    // Five rows; the checkpoint after the fourth vouches for four.
    let rows = "run/open/attempts/0001/metrics.jsonl";
    let line = |body: &[u8], number: usize| -> usize {
        body.split(|byte| *byte == b'\n').take(number).map(|line| line.len() + 1).sum()
    };
    let (_bench, store, found) = found_and_repaired("the fifth row", |root| {
        let body = fs::read(root.join(rows)).unwrap();
        flip(&root.join(rows), line(&body, 4));
    });
    assert_eq!(found, [("damaged", rows.to_owned())]);
    assert_eq!(store.run_state("open").unwrap(), RunState::Resumable { step: 4 });
    assert_eq!(store.run_rows("open").unwrap().metrics.len(), 4);
    // The third row is part of what the checkpoint after the fourth vouches for, and not of the one before.
    let (_bench, store, found) = found_and_repaired("the third row", |root| {
        let body = fs::read(root.join(rows)).unwrap();
        flip(&root.join(rows), line(&body, 2));
    });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&("damaged", "run/open/attempts/0001/checkpoints/00000004".to_owned())));
    assert_eq!(store.run_state("open").unwrap(), RunState::Resumable { step: 2 });
}

#[test]
fn a_line_that_was_cut_short_is_no_damage() {
    let (bench, store) = bench();
    let rows = store.layout().attempt("open", 1).join("metrics.jsonl");
    let mut body = fs::read(&rows).unwrap();
    body.extend_from_slice(b"{\"step\":6,\"rew");
    fs::write(&rows, body).unwrap();
    bench.run(&["verify", "store"]).ends(0);
}

#[test]
fn a_newer_record_is_refused_and_never_moved() {
    for record in ["base/base1/DONE.json", "run/done/DONE.json", "run/open/spec.json", "leases/run-open.1"] {
        let (bench, store) = bench();
        let path = store.layout().root().join(record);
        if record.starts_with("leases") {
            lease(&store, "run-open");
        }
        let newer = fs::read_to_string(&path).unwrap().replace("\"format\":1", "\"format\":99");
        fs::write(&path, &newer).unwrap();
        bench.run(&["verify", "store"]).ends(5).names(&[
            "newer",
            record,
            "format 99",
            "1 could not be judged",
        ]);
        bench.run(&["verify", "store", "--repair"]).ends(5);
        assert_eq!(fs::read_to_string(&path).unwrap(), newer, "it was left alone");
        let found = audit(store.results(), false).unwrap();
        assert_eq!(damage(&found), [("newer", record.to_owned())]);
    }
    let (bench, store) = bench();
    fs::write(store.layout().format(), "tickets-store 99\n").unwrap();
    bench.run(&["verify", "store", "--repair"]).ends(5).names(&["format 99", "newer program"]);
}

#[test]
fn what_lies_around_is_noted_and_no_damage() {
    let (bench, store) = bench();
    let root = store.layout().root();
    for leftover in [".tmp-1-2", "base/.tmp-1-3/model", "run/open/attempts/0001/checkpoints/.tmp-1-4/state"] {
        write(&root.join(leftover), "half of it");
    }
    set_age(&root.join(".tmp-1-2"), Duration::from_hours(72));
    let strangers =
        ["notes.txt", "base/base1/extra", "run/done/attempts/old", "run/done/attempts/0002/final/x"];
    for stranger in strangers {
        write(&root.join(stranger), "whose?");
    }
    write(&root.join("quarantine/base-x-1/model"), "12345");
    write(&root.join("trash/1700000000-1/run/x/DONE.json"), "12345");
    lease(&store, "run-open");
    set_age(&root.join("leases/run-open.1"), Duration::from_hours(1));
    fs::remove_dir_all(root.join("scores/scores1")).unwrap();
    fs::remove_file(root.join("run/failed/spec.json")).unwrap();

    let said = bench.run(&["verify", "store", "--json"]).ends(0).json();
    assert_eq!(said["clean"], true);
    let found = said["findings"].as_array().unwrap();
    let of = |kind: &str| -> Vec<&str> {
        let of_kind = found.iter().filter(|finding| finding["kind"] == kind);
        of_kind.map(|finding| finding["path"].as_str().unwrap().strip_prefix(".store/").unwrap()).collect()
    };
    assert_eq!(
        of("leftover"),
        [".tmp-1-2", "base/.tmp-1-3", "leases/run-open.1", "run/open/attempts/0001/checkpoints/.tmp-1-4"]
    );
    assert_eq!(
        of("unknown"),
        ["base/base1/extra", "notes.txt", "run/done/attempts/0002/final/x", "run/done/attempts/old"]
    );
    assert_eq!(of("aside"), ["quarantine", "trash"]);
    assert_eq!(of("missing"), ["run/failed/spec.json", "scores/scores1"]);
    for finding in found {
        assert_eq!(finding["severity"], "note", "{finding}");
        assert_eq!(finding["moved_to"], Value::Null, "{finding}");
    }
    bench.run(&["verify", "store"]).ends(0).names(&[
        "3 days old",
        "60 min",
        "note: 1 thing, 5 B",
        "12 notes",
    ]);
    let before = contents(&bench.results());
    bench.run(&["verify", "store", "--repair"]).ends(0);
    assert_eq!(contents(&bench.results()), before, "notes are not repaired");
}

#[test]
fn what_is_in_use_is_left_in_place() {
    for task in ["run-open", "base-base1"] {
        let (bench, store) = bench();
        lease(&store, task);
        let root = store.layout().root();
        let ours = root.join("run/open/attempts/0001/checkpoints/00000004/state");
        for path in [&ours, &root.join("base/base1/model"), &root.join("mask/mask1/model")] {
            flip(path, 3);
        }
        bench.run(&["verify", "store", "--repair"]).ends(5).names(&["in use, so it was left in place"]);
        assert!(root.join("base/base1").exists(), "{task}: made, or stood on by the run");
        // A run in use keeps all that it stands on; a base that is being made keeps itself.
        assert_eq!(root.join("mask/mask1").exists(), task == "run-open", "{task}");
        assert_eq!(ours.exists(), task == "run-open", "{task}");
        fs::remove_dir_all(root.join("leases")).unwrap();
        bench.run(&["verify", "store", "--repair"]).ends(5);
        bench.run(&["verify", "store"]).ends(0);
    }
}

#[test]
fn a_store_at_work_does_not_look_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = everything(folder.path());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..12 {
                let run = format!("busy{round}");
                describe(&store, &run, "one", &[("base", "base1")]);
                let mut attempt = store.begin(&run).unwrap();
                for step in 1..=20 {
                    attempt.metrics(&row(step)).unwrap();
                    let state = vec![u8::try_from(step).unwrap(); 20_000];
                    attempt.checkpoint(step, &[("state", &state)], json!({}), 1).unwrap();
                }
                finish(attempt);
                publish(&store, Stage::Mask, &run);
            }
            over.store(true, Ordering::Release);
        });
        let mut audits = 0;
        while !over.load(Ordering::Acquire) || audits == 0 {
            let found = audit(folder.path(), false).unwrap();
            assert!(found.is_clean(), "{:?}", damage(&found));
            audits += 1;
        }
    });
    let found = audit(folder.path(), false).unwrap();
    assert!(found.findings.iter().all(|finding| finding.kind != FindingKind::Leftover), "{found:?}");
}
