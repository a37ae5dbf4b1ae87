//! Several workers on one store: leases, takeover, and what happens without leases.

use crate::bench::*;
use crate::interruption::{pid, rows_written, start_sweeper, wait_for, workers};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tickets::execute::{Requests, SweepOptions, WorkStage};
use tickets::exit::Code;
use tickets::store::{Asked, RunState, Terms, run_task};

/// A sweep in a process of its own; what it says in the end is `SUMMARY <finished> <elsewhere> <complete>`.
fn sweeper(bench: &Bench) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["bench::sweeper_process", "--exact", "--nocapture", "--test-threads=1"])
        .env("EXECUTOR_TEST_SWEEP", &bench.folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn summary(child: Child) -> (usize, usize, bool) {
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    for failed in said.lines().filter(|line| line.contains("FAILED RUN")) {
        eprintln!("{failed}");
    }
    let line = said.lines().find_map(|line| line.split_once("SUMMARY ")).expect(&said).1;
    let words: Vec<&str> = line.split(' ').collect();
    (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse().unwrap())
}

#[test]
fn workers_that_share_a_store_do_everything_once() {
    let bench = Bench::new(&json!({"sleep_ms": 20}));
    let children: Vec<Child> = (0..4).map(|_| sweeper(&bench)).collect();
    let said: Vec<_> = children.into_iter().map(summary).collect();
    assert!(said.iter().all(|(.., complete)| *complete), "each stays until the grid is done: {said:?}");
    assert_eq!(said.iter().map(|(finished, ..)| finished).sum::<usize>(), 4, "{said:?}");
    assert!(said.iter().any(|(finished, ..)| *finished < 4), "the work was shared: {said:?}");
    let calls = bench.calls();
    for (call, count) in counts(&calls) {
        assert_eq!(count, 1, "{call} in {calls:?}");
    }
    assert_eq!(bench.outcome(), uninterrupted());
    assert!(bench.store().claims().unwrap().is_empty());
}

#[test]
fn without_leases_there_is_still_exactly_one_result_of_each_run() {
    // On a machine with much else to do, one sweep may be done before the others have begun.
    let twice = (0..5).any(|round| {
        let bench = Bench::new(&json!({"sleep_ms": 10 + 30 * round}));
        bench.exec(&[("lease_seconds", "0")]);
        let children: Vec<Child> = (0..4).map(|_| sweeper(&bench)).collect();
        let said: Vec<_> = children.into_iter().map(summary).collect();
        assert!(said.iter().all(|(.., complete)| *complete), "{said:?}");
        assert_eq!(bench.outcome(), uninterrupted());
        let store = bench.store();
        assert!(store.quarantined().unwrap().is_empty(), "they were identical");
        for run in bench.plan().runs {
            store.result(run.id.as_str()).unwrap().unwrap().verify().unwrap();
        }
        counts(&bench.calls()).values().any(|count| *count > 1)
    });
    assert!(twice, "nothing was ever done twice, so nothing was tried");
}

#[test]
fn what_a_killed_sweep_held_is_taken_over_by_the_other() {
    let bench = Bench::new(&json!({"sleep_ms": 60}));
    let mut first = start_sweeper(&bench);
    wait_for("rows", || rows_written(&bench) >= 3);
    let second = sweeper(&bench);
    std::thread::sleep(Duration::from_millis(300));
    first.kill().unwrap();
    first.wait().unwrap();
    let (finished, _, complete) = summary(second);
    assert!(complete && finished > 0);
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_frozen_worker_loses_its_run_and_ends_when_it_wakes() {
    let bench = Bench::new(&json!({"sleep_ms": 150}));
    bench.exec(&[("lease_seconds", "2")]);
    let first = start_sweeper(&bench);
    wait_for("rows", || rows_written(&bench) >= 2);
    let frozen: Vec<Pid> =
        workers(&bench).iter().filter_map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    // The sweep too, or it would start the run again itself.
    for process in frozen.iter().copied().chain([pid(&first)]) {
        kill_process(process, Signal::STOP).unwrap();
    }
    let start = Instant::now();
    let (finished, _, complete) = summary(sweeper(&bench));
    assert!(complete && finished == 4, "the other did all of it");
    assert!(start.elapsed() > Duration::from_millis(1500), "it did not wait for the leases to expire");
    let outcome = bench.outcome();
    assert_eq!(outcome, uninterrupted());
    // They wake up, find their leases lost, and end; what they still write harms nobody.
    for process in frozen.iter().copied().chain([pid(&first)]) {
        kill_process(process, Signal::CONT).unwrap();
    }
    let mut first = first;
    assert!(first.wait().unwrap().success());
    assert!(workers(&bench).is_empty());
    assert_eq!(bench.outcome(), outcome);
    assert!(bench.store().quarantined().unwrap().is_empty());
    for run in bench.plan().runs {
        bench.store().result(run.id.as_str()).unwrap().unwrap().verify().unwrap();
    }
}

#[test]
fn a_worker_does_nothing_at_a_task_that_is_held_and_a_helper_leaves_it() {
    let bench = Bench::new(&json!({}));
    bench.work("full", WorkStage::Base, &Requests::none());
    let store = bench.store();
    let task = run_task(bench.run("full").id.as_str());
    let terms = Terms { lasts: Duration::from_mins(1) };
    let Asked::Granted(lease) = store.lease(&task, "held", terms, &mut store.observer().unwrap()).unwrap()
    else {
        panic!("nobody else is here")
    };
    let (code, said) = bench.work("full", WorkStage::Run, &Requests::none());
    assert_eq!(code, Code::Transient);
    assert!(format!("{said:?}").contains("Busy"), "{said:?}");
    assert_eq!(store.next_attempt(bench.run("full").id.as_str()).unwrap(), 1, "it began nothing");

    let helped = bench.sweep_with(&SweepOptions { wait: false, ..bench.options() }, &mut Watcher::default());
    assert_eq!((helped.finished.len(), helped.held.len(), helped.left.len()), (3, 1, 0), "{helped:?}");
    assert!(helped.held[0].1.contains(&std::process::id().to_string()));
    drop(lease);
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_run_is_tried_again_as_often_as_its_class_says() {
    for (class, most, attempts) in [("infra", 2, 3), ("oom", 0, 1), ("nan", 1, 2), ("bad-config", 0, 1)] {
        let bench = Bench::new(&json!({"full": {"class": class, "step": 6}}));
        bench.exec(&[("retries", "{ infra = 2, nan = 1 }")]);
        let mut watcher = Watcher::default();
        let summary = bench.sweep_with(&bench.options(), &mut watcher);
        assert_eq!((summary.finished.len(), summary.failed.len()), (3, 1), "{class}: {summary:?}");
        let calls = bench.calls();
        let tried: Vec<&String> = calls.iter().filter(|call| call.starts_with("run full")).collect();
        assert_eq!(tried.len(), attempts, "{class}: {tried:?}");
        assert!(tried[1..].iter().all(|call| call.ends_with("from 4")), "from the checkpoint: {tried:?}");
        let failures = bench.store().failures(bench.run("full").id.as_str()).unwrap();
        assert_eq!(failures.len(), attempts, "{class}: each try has its record");
        assert_eq!(watcher.notes.iter().filter(|note| note.contains("tries again")).count(), most);
    }
}

#[test]
fn a_killed_worker_is_tried_again_and_a_new_sweep_has_new_tries() {
    let bench = Bench::new(&json!({"full": {"class": "kill", "step": 6}}));
    bench.exec(&[("retries", "{ killed = 1 }")]);
    let summary = bench.sweep();
    assert_eq!(summary.failed.len(), 1);
    let tries = |calls: &[String]| calls.iter().filter(|call| call.starts_with("run full")).count();
    assert_eq!(tries(&bench.calls()), 2);
    assert!(matches!(bench.state("full"), RunState::Failed { class, .. } if class == "killed"));
    bench.sweep();
    assert_eq!(tries(&bench.calls()), 2);
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_base_that_fails_for_a_moment_is_tried_again() {
    let bench = Bench::new(&json!({"base": {"class": "infra", "step": 0}}));
    bench.exec(&[("retries", "{ infra = 1 }")]);
    let summary = bench.sweep();
    assert_eq!(summary.failed.len(), 4, "{summary:?}");
    assert_eq!(counts(&bench.calls()).get("base"), Some(&2));
    let failures = bench.store().failures(bench.run("full").id.as_str()).unwrap();
    assert_eq!(failures.len(), 1, "the runs know of it once");
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    let _ = fs::remove_file(bench.folder.join("calls.txt"));
}
