//! Racing and killed processes.

use crate::common::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::json;
use tickets::store::{RunState, Stage, Store};

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

pub fn spawn_helper(test: &str, variable: &str, folder: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
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
    for round in 0..rounds(25) {
        let mut child = spawn_helper("races::writer_process", "STORE_TEST_WRITER", folder.path());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Loading libraries takes longer than the moments that are of interest.
        while !line.contains("ready") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the writer ended");
        }
        // So many things are acknowledged, and then at any moment of the next.
        let mut heard: Vec<String> = Vec::new();
        let mut lines = stdout.lines().map_while(Result::ok);
        heard.extend(lines.by_ref().take(1 + (round * 7 % 23) as usize));
        std::thread::sleep(Duration::from_micros(round * 1300 % 9000));
        child.kill().unwrap();
        child.wait().unwrap();
        heard.extend(lines);
        let mut steps: BTreeMap<String, u32> = BTreeMap::new();
        for line in heard {
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
        store.remove_leftovers();
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
