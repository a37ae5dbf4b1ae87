//! A disk that is really full and one that is really read-only: a small file system of its own, mounted in a namespace of
//! its own (`unshare -rm`), around a process that works in the store.
//!
//! Where a namespace cannot be had the tests say so and end.

use crate::common::*;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tickets::store::{Checkpoint, RunState, Stage, Store, StoreError, digest};

const RUNS: u32 = 3;

/// Runs a test of this file as a process that may mount; what it printed. `None` where that is not possible.
fn in_a_namespace(test: &str, variable: &str) -> Option<String> {
    let possible = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED {test}: `unshare -rm` does not work here, so nothing can be mounted");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new("unshare")
        .arg("-rm")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "it wrote outside of its mount");
    Some(said)
}

fn mount(options: &[&str]) {
    let done = Command::new("mount").args(options).status().unwrap();
    assert!(done.success(), "mount {options:?}: {done}");
}

/// What a worker does, from where the store is to the end. `saved` is told of every acknowledged step.
fn work(results: &Path, saved: &mut dyn FnMut(u32, u32)) -> Result<(), StoreError> {
    let store = Store::open(results)?.with_notices(|line| panic!("nothing is damaged: {line}"));
    // Large beside a page, so that it does not fit for long.
    store.publish(Stage::Base, "base", &[("model", &[7; 9000])], json!({}))?;
    for number in 0..RUNS {
        let run = format!("run{number}");
        store.describe_run(&run, json!({"label": run}).as_object().unwrap().clone())?;
        if store.run_state(&run)? == RunState::Done {
            continue;
        }
        let mut attempt = store.begin(&run)?;
        for step in attempt.resumed().map_or(0, Checkpoint::step) + 1..=6 {
            attempt.metrics(&row(step))?;
            attempt.log(&format!("step {step}"))?;
            if step % 2 == 0 {
                attempt.checkpoint(step, &[("state", &state(step).repeat(200))], json!({}), 1)?;
                saved(number, step);
            }
        }
        attempt.finish(&[("weights", &[number as u8; 5000])], json!({}))?;
        saved(number, u32::MAX);
    }
    store.write_result(Path::new("grid/summary.csv"), &[b'x'; 3000])
}

/// Nothing that was acknowledged is gone.
fn look(results: &Path, saved: &[u32]) {
    let store = Store::open_read_only(results).unwrap();
    for (number, step) in saved.iter().enumerate() {
        let run = format!("run{number}");
        match store.result(&run).unwrap() {
            Some(result) => result.verify().unwrap(),
            None => assert!(
                *step == 0 || *step < u32::MAX && store.saved_step(&run).unwrap() >= Some(*step),
                "{run} lost step {step}"
            ),
        }
    }
}

/// A digest of everything that a user would look at.
fn outcome(results: &Path) -> String {
    let store = Store::open_read_only(results).unwrap();
    let mut all = store.artifact(Stage::Base, "base").unwrap().unwrap().read("model").unwrap();
    for number in 0..RUNS {
        let result = store.result(&format!("run{number}")).unwrap().unwrap();
        for file in result.files().keys() {
            all.extend(result.read(file).unwrap());
        }
    }
    all.extend(std::fs::read(results.join("grid/summary.csv")).unwrap());
    digest(&all)
}

/// Works on a file system of a few pages, which grows by a few pages or names whenever it is full; several times, because
/// with every way to grow it gets full at other moments.
#[test]
fn full_disk_process() {
    let Ok(folder) = std::env::var("STORE_TEST_FULL") else { return };
    for round in 0..rounds(3) {
        let mut dice = Dice::new(round);
        let (mut pages, mut names) = (5 + dice.below(4), 20 + dice.below(10));
        mount(&["-t", "tmpfs", "-o", &format!("size={}k,nr_inodes={names}", 4 * pages), "small", &folder]);
        let results = Path::new(&folder).join("results");
        let mut saved = [0; RUNS as usize];
        let mut full = 0;
        while let Err(error) = work(&results, &mut |run, step| saved[run as usize] = step) {
            assert!(error.is_disk_full(), "round {round}: {error:?}");
            assert!(error.hint().unwrap().contains("free some space"), "{:?}", error.hint());
            full += 1;
            assert!(full < 1000, "round {round}: it never ends");
            look(&results, &saved);
            match dice.below(3) {
                0 => names += 6 + dice.below(12),
                _ => pages += 2 + dice.below(4),
            }
            mount(&["-o", &format!("remount,size={}k,nr_inodes={names}", 4 * pages), &folder]);
        }
        look(&results, &saved);
        println!("full {full} {}", outcome(&results));
    }
}

#[test]
fn a_full_disk_stops_the_work_and_more_room_carries_it_to_the_same_end() {
    let undisturbed = workplace();
    work(undisturbed.path(), &mut |_, _| {}).unwrap();
    let Some(said) = in_a_namespace("mounts::full_disk_process", "STORE_TEST_FULL") else { return };
    let ends =
        said.lines().filter_map(|line| line.split_once("full ")?.1.split_once(' ')).collect::<Vec<_>>();
    assert_eq!(ends.len() as u64, rounds(3), "{said}");
    for (times, found) in ends {
        assert_eq!(found, outcome(undisturbed.path()));
        assert!(times.parse::<u32>().unwrap() > 5, "it was full {times} times: too few to say anything");
    }
}

/// Works, finds its file system read-only, and works on when it is not.
#[test]
fn read_only_process() {
    let Ok(folder) = std::env::var("STORE_TEST_READ_ONLY") else { return };
    mount(&["-t", "tmpfs", "-o", "size=10m", "small", &folder]);
    let results = Path::new(&folder).join("results");
    let store = Store::open(&results).unwrap().with_notices(|line| println!("notice: {line}"));
    store.publish(Stage::Base, "base", &[("model", &[7; 9000])], json!({})).unwrap();
    store.publish(Stage::Mask, "hurt", &[("mask", b"0110")], json!({})).unwrap();
    let mut attempt = store.begin("run0").unwrap();
    attempt.metrics(&row(1)).unwrap();
    attempt.metrics(&row(2)).unwrap();
    attempt.checkpoint(2, &[("state", &state(2).repeat(200))], json!({}), 1).unwrap();
    drop(attempt);
    std::fs::write(store.layout().artifact(Stage::Mask, "hurt").join("mask"), b"0111").unwrap();
    mount(&["-o", "remount,ro", &folder]);

    let told = |error: StoreError| {
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("read-only"), "{error}");
        assert!(error.hint().unwrap().contains("--results"), "{:?}", error.hint());
    };
    told(Store::open(&results).unwrap_err());
    told(store.publish(Stage::Base, "other", &[("model", b"1")], json!({})).unwrap_err());
    told(store.begin("run0").unwrap_err());
    told(store.begin("run1").unwrap_err());
    told(store.write_result(Path::new("a.csv"), b"1").unwrap_err());
    told(store.describe_run("run1", serde_json::Map::new()).unwrap_err());
    // What is damaged cannot be moved aside, and is not handed out for that.
    told(store.artifact(Stage::Mask, "hurt").unwrap().unwrap().read("mask").unwrap_err());
    told(store.verified_artifact(Stage::Mask, "hurt").unwrap_err());

    let reader = Store::open_read_only(&results).unwrap();
    assert_eq!(reader.run_state("run0").unwrap(), RunState::Resumable { step: 2 });
    assert_eq!(reader.run_rows("run0").unwrap().metrics, [row(1), row(2)]);
    reader.artifact(Stage::Base, "base").unwrap().unwrap().verify().unwrap();

    mount(&["-o", "remount,rw", &folder]);
    assert!(store.verified_artifact(Stage::Mask, "hurt").unwrap().is_none());
    work(&results, &mut |_, _| {}).unwrap();
    println!("done {}", outcome(&results));
}

#[test]
fn a_read_only_disk_is_said_and_read() {
    let undisturbed = workplace();
    work(undisturbed.path(), &mut |_, _| {}).unwrap();
    let Some(said) = in_a_namespace("mounts::read_only_process", "STORE_TEST_READ_ONLY") else { return };
    assert!(said.contains(&format!("done {}", outcome(undisturbed.path()))), "{said}");
    assert!(said.contains("notice: "), "the damage was reported once it could be moved aside: {said}");
}
