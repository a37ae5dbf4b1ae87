//! Racing and killed processes, and the lock.

use crate::common::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::json;
use tickets::store::{RunState, Stage, Store, StoreError};

#[test]
fn racing_publishers_of_one_id_give_one_winner() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let id = format!("id{round}");
        let (store, _) = open(folder.path());
        let barrier = Arc::new(Barrier::new(4));
        let contents: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4u8)
                .map(|racer| {
                    let (store, barrier, id) = (store.clone(), barrier.clone(), &id);
                    scope.spawn(move || {
                        barrier.wait();
                        let bytes = vec![racer % 2; 1000];
                        store
                            .publish(Stage::Mask, id, &[("mask", &bytes)], json!({}))
                            .unwrap()
                            .read("mask")
                            .unwrap()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(contents.iter().all(|bytes| *bytes == contents[0]), "everyone is told of the same winner");
        assert!(store.verified_artifact(Stage::Mask, &id).unwrap().is_some());
    }
    let (store, _) = open(folder.path());
    let leftovers: Vec<_> = fs::read_dir(store.layout().stage(Stage::Mask))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp-"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn racing_attempts_of_one_run_give_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut attempt = store.begin("run").unwrap();
                attempt.metrics(&row(1)).unwrap();
                barrier.wait();
                attempt.finish(&[("weights", b"w")], json!({"attempt": 1})).unwrap();
            });
        }
    });
    assert_eq!(store.next_attempt("run").unwrap(), 5, "each had an attempt of its own");
    assert!(store.quarantined().unwrap().is_empty(), "they were identical");
    store.result("run").unwrap().unwrap().verify().unwrap();
}

#[test]
fn the_lock_refuses_a_second_holder_and_names_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let lock = store.lock("sweep of x").unwrap();
    let error = store.lock("sweep of y").unwrap_err();
    match &error {
        StoreError::Locked { pid, purpose, foreign, .. } => {
            assert_eq!((*pid, purpose.as_str(), *foreign), (std::process::id(), "sweep of x", false));
        }
        other => panic!("{other:?}"),
    }
    assert!(error.hint().unwrap().contains("--wait"));
    drop(lock);
    drop(store.lock("sweep of y").unwrap());
    assert!(notices.lock().unwrap().is_empty());
    assert!(store.holder().unwrap().is_none());
}

/// A process that takes the lock and is killed while it holds it.
#[test]
fn lock_holder_process() {
    let Ok(folder) = std::env::var("STORE_TEST_LOCK") else { return };
    let _lock = Store::open(Path::new(&folder)).unwrap().lock("doomed").unwrap();
    println!("locked");
    std::thread::sleep(Duration::from_mins(1));
}

fn spawn_helper(test: &str, variable: &str, folder: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_holder_is_taken_over_at_once_by_exactly_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut child = spawn_helper("races::lock_holder_process", "STORE_TEST_LOCK", folder.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    assert!(matches!(store.lock("early"), Err(StoreError::Locked { pid, .. }) if pid == child.id()));
    fs::write(store.layout().stage(Stage::Base).join(".tmp-1-1"), b"half").unwrap();
    child.kill().unwrap();
    // Not waited for yet: a zombie holds nothing.
    let barrier = Barrier::new(4);
    let locks: Vec<_> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    // The kernel needs a moment to end the killed process.
                    for _ in 0..200 {
                        match store.lock("next") {
                            Err(StoreError::Locked { purpose, .. }) if purpose == "doomed" => {
                                std::thread::sleep(Duration::from_millis(5));
                            }
                            other => return other,
                        }
                    }
                    panic!("the dead holder was never taken over");
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    assert_eq!(locks.iter().filter(|lock| lock.is_ok()).count(), 1);
    assert_eq!(notices.lock().unwrap().len(), 1, "{:?}", notices.lock().unwrap());
    assert!(!store.layout().stage(Stage::Base).join(".tmp-1-1").exists(), "leftovers are removed");
    child.wait().unwrap();
}

/// A process that writes without end: artifacts, attempts, checkpoints, results; and says what it has done.
#[test]
fn writer_process() {
    let Ok(folder) = std::env::var("STORE_TEST_WRITER") else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    println!("ready");
    let first = store.runs().unwrap().len() as u32;
    // The last run may be unfinished: go on with it.
    for number in first.saturating_sub(1).. {
        let run = format!("run{number:05}");
        if store.run_state(&run).unwrap() == RunState::Done {
            continue;
        }
        store.publish(Stage::Mask, &run, &[("mask", run.repeat(500).as_bytes())], json!({})).unwrap();
        println!("ack mask {run}");
        let mut attempt = store.begin(&run).unwrap();
        let start = attempt.resumed().map_or(0, tickets::store::Checkpoint::step);
        for step in start + 1..=8 {
            attempt.metrics(&row(step)).unwrap();
            if step % 2 == 0 {
                attempt.checkpoint(step, &[("state", &state(step))], json!({}), 2).unwrap();
                println!("ack step {run} {step}");
            }
        }
        attempt.finish(&[("weights", run.repeat(300).as_bytes())], json!({"run": run})).unwrap();
        println!("ack done {run}");
    }
}

#[test]
fn kill_9_at_any_moment_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut masks: Vec<String> = Vec::new();
    let mut done: Vec<String> = Vec::new();
    // On a slow disk a writer gets little done before it is killed: then there are more of them.
    let least = rounds(25);
    for round in 0..least + 200 {
        if round >= least && done.len() > 5 {
            break;
        }
        let mut child = spawn_helper("races::writer_process", "STORE_TEST_WRITER", folder.path());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Loading libraries takes longer than the moments that are of interest.
        while !line.contains("ready") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the writer ended");
        }
        let reader =
            std::thread::spawn(move || stdout.lines().map_while(Result::ok).collect::<Vec<String>>());
        std::thread::sleep(Duration::from_millis(2 + 13 * round % 90 + 20 * round.saturating_sub(least)));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut steps: BTreeMap<String, u32> = BTreeMap::new();
        for line in reader.join().unwrap() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["ack", "mask", run] => masks.push((*run).to_owned()),
                ["ack", "step", run, step] => {
                    steps.insert((*run).to_owned(), step.parse().unwrap());
                }
                ["ack", "done", run] => done.push((*run).to_owned()),
                _ => {}
            }
        }
        let store =
            Store::open(folder.path()).unwrap().with_notices(|line| panic!("nothing is damaged: {line}"));
        drop(store.lock("check").unwrap());
        for run in &masks {
            store
                .verified_artifact(Stage::Mask, run)
                .unwrap()
                .unwrap_or_else(|| panic!("mask {run} vanished"));
        }
        for run in &done {
            let result = store.result(run).unwrap().unwrap_or_else(|| panic!("result {run} vanished"));
            result.verify().unwrap();
            let rows = store.run_rows(run).unwrap();
            assert_eq!(rows.metrics, (1..=8).map(row).collect::<Vec<_>>());
        }
        for (run, step) in steps {
            match store.run_state(&run).unwrap() {
                RunState::Done => {}
                RunState::Resumable { step: saved } => assert!(saved >= step, "{run}: {saved} < {step}"),
                other => panic!("{run} is {other:?} although step {step} was acknowledged"),
            }
        }
        // Every marker that exists vouches for what is there.
        for run in store.runs().unwrap() {
            if let Some(result) = store.result(&run).unwrap() {
                result.verify().unwrap();
            }
        }
    }
    assert!(done.len() > 5, "the writers got {} runs done: too few to say anything", done.len());
}
