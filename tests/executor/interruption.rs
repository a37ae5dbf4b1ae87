//! Ctrl-C, SIGTERM, kill -9: what is saved, and what the next sweep does.

use crate::bench::*;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;
use tickets::execute::{Message, Requests, SweepOptions, WorkStage};
use tickets::exit::Code;
use tickets::store::{RunState, Store};

pub fn start_sweeper(bench: &Bench) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["bench::sweeper_process", "--exact", "--nocapture", "--test-threads=1"])
        .env("EXECUTOR_TEST_SWEEP", &bench.folder)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_for("the sweep to begin", || bench.folder.join("ready").exists());
    child
}

pub fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Rows written so far, over all runs.
pub fn rows_written(bench: &Bench) -> usize {
    let store = Store::open_read_only(&bench.folder).unwrap();
    bench
        .plan()
        .runs
        .iter()
        .map(|run| store.run_rows(&run.id.to_string()).map_or(0, |rows| rows.metrics.len()))
        .sum()
}

/// Process ids of live workers of this bench.
pub fn workers(bench: &Bench) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let line = fs::read(entry.path().join("environ")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("EXECUTOR_TEST_ARGS") && line.contains(bench.folder.to_str().unwrap()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn a_sweep_that_is_asked_to_stop_saves_and_goes_on_to_the_same_numbers() {
    for after in [1, 7, 15] {
        let bench = Bench::new(&json!({"sleep_ms": 10}));
        let requests = Requests::none();
        let mut watcher = Watcher { stop_after: Some((after, requests.clone())), ..Watcher::default() };
        let summary = bench.sweep_with(&SweepOptions { requests, ..bench.options() }, &mut watcher);
        assert!(summary.interrupted);
        assert!(!summary.is_complete());
        assert!(summary.failed.is_empty(), "{summary:?}");
        assert!(!summary.paused.is_empty());
        assert_eq!(summary.finished.len() + summary.paused.len() + summary.left.len(), 4, "{summary:?}");
        for (label, step) in &summary.paused {
            let run = bench.plan().find(label).unwrap().clone();
            let state = bench.store().run_state(&run.id.to_string()).unwrap();
            assert_eq!(state, step.map_or(RunState::Pending, |step| RunState::Resumable { step }), "{label}");
        }
        bench.calls();
        let summary = bench.sweep();
        assert!(summary.is_complete());
        let calls = bench.calls();
        assert!(calls.iter().any(|call| call.starts_with("run ") && !call.ends_with(" from 0")), "{calls:?}");
        assert_eq!(bench.outcome(), uninterrupted());
    }
}

#[test]
fn ctrl_c_in_a_terminal_is_one_request() {
    let bench = Bench::new(&json!({"sleep_ms": 60}));
    let mut child = start_sweeper(&bench);
    wait_for("rows", || rows_written(&bench) >= 3);
    // The terminal sends the signal to the whole group: the sweep and its workers.
    kill_process_group(pid(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    let summary = fs::read_to_string(bench.folder.join("summary.txt")).unwrap();
    let words: Vec<&str> = summary.split(' ').collect();
    assert_ne!(words[1], "0", "some run was paused: {summary}");
    assert_eq!(words[2], "true");
    // Stopped at a step boundary with everything saved: the rows that are there need not be repeated.
    let store = bench.store();
    let mut resumable = 0;
    for run in bench.plan().runs {
        let id = run.id.to_string();
        if let RunState::Resumable { step } = store.run_state(&id).unwrap() {
            assert_eq!(store.run_rows(&id).unwrap().metrics.len(), step as usize, "{}", run.label);
            resumable += 1;
        }
    }
    assert!(resumable > 0);
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn sigterm_to_the_sweep_alone_reaches_the_workers() {
    let bench = Bench::new(&json!({"sleep_ms": 60}));
    let mut child = start_sweeper(&bench);
    wait_for("rows", || rows_written(&bench) >= 3);
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(fs::read_to_string(bench.folder.join("summary.txt")).unwrap().ends_with("true"));
    assert!(workers(&bench).is_empty());
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_hangup_that_nohup_has_ignored_stays_ignored() {
    let bench = Bench::new(&json!({"sleep_ms": 40}));
    let test = std::env::current_exe().unwrap();
    // As `nohup` does.
    let script = format!(
        "trap '' HUP; exec '{}' bench::sweeper_process --exact --nocapture --test-threads=1",
        test.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .env("EXECUTOR_TEST_SWEEP", &bench.folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("rows", || rows_written(&bench) >= 2);
    kill_process(pid(&child), Signal::HUP).unwrap();
    assert!(child.wait().unwrap().success());
    let summary = fs::read_to_string(bench.folder.join("summary.txt")).unwrap();
    assert!(summary.starts_with("4 0 false"), "all were finished, none was paused: {summary}");
}

#[test]
fn a_shared_stage_that_alone_is_asked_to_stop_ends_the_sweep_as_interrupted() {
    for stage in ["base", "scores"] {
        let bench = Bench::new(&json!({stage: {"class": "interrupted", "step": 0}}));
        let summary = bench.sweep();
        assert!(summary.interrupted && summary.failed.is_empty(), "{stage}: {summary:?}");
        assert_eq!(summary.finished.len(), if stage == "base" { 0 } else { 3 }, "{summary:?}");
        bench.script(&json!({}));
        assert!(bench.sweep().is_complete());
        assert_eq!(bench.outcome(), uninterrupted());
    }
}

#[test]
fn a_second_request_stops_at_once() {
    let bench = Bench::new(&json!({"sleep_ms": 20000}));
    let start = Instant::now();
    let mut child = start_sweeper(&bench);
    wait_for("the base", || !bench.calls().is_empty());
    kill_process_group(pid(&child), Signal::INT).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    kill_process_group(pid(&child), Signal::INT).unwrap();
    child.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "it waited for the step");
    assert!(workers(&bench).is_empty());
}

#[test]
fn kill_9_of_the_sweep_leaves_no_orphans_and_no_lease_and_loses_nothing() {
    let expected = uninterrupted();
    for rows in [2, 11, 20] {
        let bench = Bench::new(&json!({"sleep_ms": 80}));
        let mut child = start_sweeper(&bench);
        wait_for("rows", || rows_written(&bench) >= rows);
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("the workers to end", || workers(&bench).is_empty());
        if rows == 2 {
            assert!(
                !bench.calls().iter().any(|call| call.starts_with("end ")),
                "a worker went on without its sweep"
            );
        }
        bench.script(&json!({}));
        bench.calls();
        assert!(bench.sweep().is_complete());
        assert_eq!(counts(&bench.calls()).get("base"), None, "the base is not made again");
        assert_eq!(bench.outcome(), expected);
    }
}

#[test]
fn a_worker_that_is_asked_to_stop_pauses_at_a_step_boundary() {
    let bench = Bench::new(&json!({"full": {"class": "nan", "step": 6}}));
    bench.work("full", WorkStage::Base, &Requests::none());
    let asked = Requests::none();
    asked.raise(1);
    let (code, said) = bench.work("full", WorkStage::Run, &asked);
    assert_eq!((code, said.last()), (Code::Interrupted, Some(&Message::Paused { step: Some(0) })));
    assert_eq!(bench.state("full"), RunState::Pending);

    let (code, said) = bench.work("full", WorkStage::Run, &Requests::none());
    assert_eq!(code, Code::Permanent);
    assert!(matches!(said.last(), Some(Message::Failed(failure)) if failure.step == Some(6)), "{said:?}");
}
