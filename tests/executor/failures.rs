//! Failures of runs, stages, processes and files.

use crate::bench::*;
use std::fs;
use std::io::Write;

use serde_json::json;
use tickets::execute::{End, FailureClass, Silent, StageFailure, SweepOptions};
use tickets::store::{RunState, Stage, Store};

#[test]
fn a_failed_run_does_not_stop_the_grid_and_only_it_is_repeated() {
    let bench = Bench::new(&json!({"random0": {"class": "nan", "step": 6}}));
    let summary = bench.sweep();
    assert_eq!((summary.finished.len(), summary.failed.len()), (3, 1));
    let failed = &summary.failed[0];
    assert_eq!(failed.failure, StageFailure::new(FailureClass::Nan, "as the script says").at(6));
    assert_eq!(failed.label, bench.run("random0").label);
    let state = RunState::Failed { class: "nan".into(), step: Some(6), message: "as the script says".into() };
    assert_eq!(bench.state("random0"), state);
    bench.calls();

    // A run that diverged would diverge again: it is not repeated by itself.
    bench.script(&json!({}));
    let summary = bench.sweep();
    assert!(bench.calls().is_empty());
    assert_eq!((summary.before.len(), summary.failed.len(), summary.failed[0].earlier), (3, 1, true));
    assert_eq!(summary.failed[0].failure, failed.failure);

    let summary = bench.sweep_with(&SweepOptions { retry: true, ..bench.options() }, &mut Silent);
    assert!(summary.is_complete());
    assert_eq!(bench.calls(), ["run random0 from 4", "end random0"]);
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_shared_stage_that_fails_fails_what_needs_it_and_nothing_else() {
    let bench = Bench::new(&json!({"scores": {"class": "oom", "step": 0}}));
    let summary = bench.sweep();
    assert_eq!((summary.finished.len(), summary.failed.len()), (3, 1));
    let failed = &summary.failed[0];
    assert_eq!(failed.label, bench.run("fisher").label);
    assert!(failed.because_of.as_ref().unwrap().starts_with("scores "), "{failed:?}");
    match bench.state("fisher") {
        RunState::Failed { class, message, .. } => {
            assert_eq!(class, "oom");
            assert!(message.starts_with("scores "), "{message}");
        }
        other => panic!("{other:?}"),
    }
    bench.calls();
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.calls(), ["scores", "run fisher from 0", "end fisher"]);

    let bench = Bench::new(&json!({"base": {"class": "bad-input", "step": 0}}));
    let summary = bench.sweep();
    assert_eq!((summary.finished.len(), summary.failed.len()), (0, 4));
    assert_eq!(bench.calls(), ["base"], "nothing that needs the base was started");
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_worker_that_crashes_takes_nothing_else_with_it() {
    for (trouble, class, words) in [
        ("kill", "killed", "SIGKILL"),
        ("abort", "infra", "SIGABRT"),
        ("panic", "infra", "scripted panic"),
        ("silent", "infra", "exit code 7 and without a word: last words"),
    ] {
        let bench = Bench::new(&json!({"random1": {"class": trouble, "step": 4}}));
        let mut watcher = Watcher::default();
        let summary = bench.sweep_with(&bench.options(), &mut watcher);
        assert_eq!((summary.finished.len(), summary.failed.len()), (3, 1), "{trouble}");
        let failed = &summary.failed[0];
        assert_eq!(failed.failure.class.name(), class, "{trouble}");
        assert!(failed.failure.message.contains(words), "{trouble}: {}", failed.failure.message);
        assert!(failed.log.as_ref().unwrap().ends_with("logs/attempt-0001.txt"));
        if trouble == "silent" {
            let tail = watcher.ends.iter().find_map(|(_, end)| match end {
                End::Failed { tail, .. } => tail.last().cloned(),
                _ => None,
            });
            assert_eq!(tail.as_deref(), Some("last words"));
        }
        assert!(matches!(bench.state("random1"), RunState::Failed { .. }), "{trouble}");
        bench.calls();
        // Trouble of this kind may pass: the next sweep tries again by itself, from the checkpoint.
        bench.script(&json!({}));
        assert!(bench.sweep().is_complete());
        assert_eq!(bench.calls(), ["run random1 from 2", "end random1"]);
        assert_eq!(bench.outcome(), uninterrupted());
    }
}

#[test]
fn resume_is_exact_whatever_the_files_suffered() {
    let expected = uninterrupted();
    let torn: &dyn Fn(&Store, &str) = &|store, id| {
        let path = store.layout().attempt(id, 1).join("metrics.jsonl");
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"step\":6,\"re").unwrap();
    };
    let newest: &dyn Fn(&Store, &str) = &|store, id| {
        fs::write(store.layout().checkpoint(id, 1, 4).join("weight"), [0; 8]).unwrap();
    };
    let both: &dyn Fn(&Store, &str) = &|store, id| {
        for step in [2, 4] {
            fs::write(store.layout().checkpoint(id, 1, step).join("weight"), [0; 3]).unwrap();
        }
    };
    for (damage, from, notices) in [(torn, 4, 0), (newest, 2, 1), (both, 0, 2)] {
        let bench = Bench::new(&json!({"random0": {"class": "infra", "step": 6}}));
        bench.sweep();
        bench.calls();
        damage(&bench.store(), &bench.run("random0").id.to_string());
        bench.script(&json!({}));
        let mut watcher = Watcher::default();
        assert!(bench.sweep_with(&bench.options(), &mut watcher).is_complete());
        assert_eq!(bench.calls()[0], format!("run random0 from {from}"));
        assert_eq!(watcher.notes.len(), notices, "{:?}", watcher.notes);
        assert!(watcher.notes.iter().all(|note| note.contains("cannot be used")), "{:?}", watcher.notes);
        assert_eq!(bench.outcome(), expected);
    }
}

#[test]
fn a_damaged_base_is_made_again_before_the_runs_that_need_it() {
    let bench = Bench::new(&json!({"full": {"class": "infra", "step": 3}}));
    bench.sweep();
    bench.calls();
    let plan = bench.plan();
    let base = bench.store().layout().artifact(Stage::Base, &plan.runs[0].stages.base);
    fs::write(base.join("model"), [7; 8]).unwrap();
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.calls(), ["base", "run full from 2", "end full"]);
    assert_eq!(bench.outcome(), uninterrupted());
}

#[test]
fn a_full_disk_starts_nothing_more() {
    let bench = Bench::new(&json!({"full": {"class": "disk-full", "step": 1}}));
    let summary = bench.sweep_with(&SweepOptions { jobs: 1, ..bench.options() }, &mut Silent);
    assert!(summary.disk_full);
    assert_eq!((summary.finished.len(), summary.failed.len(), summary.left.len()), (0, 1, 3));
    bench.script(&json!({}));
    assert!(bench.sweep().is_complete(), "the same command goes on later");
}

#[test]
fn a_mask_that_is_gone_is_made_again_though_its_run_is_done() {
    for damage in ["flipped", "cut", "gone"] {
        let bench = Bench::new(&json!({}));
        bench.sweep();
        bench.calls();
        let id = bench.run("fisher").stages.mask.unwrap();
        let folder = bench.store().layout().artifact(Stage::Mask, &id);
        let file = folder.join("mask.safetensors");
        let whole = fs::read(&file).unwrap();
        match damage {
            "flipped" => fs::write(&file, [&whole[..9], &[whole[9] ^ 1], &whole[10..]].concat()).unwrap(),
            "cut" => fs::write(&file, &whole[1..]).unwrap(),
            _ => fs::remove_dir_all(&folder).unwrap(),
        }
        let summary = bench.sweep_with(&bench.options(), &mut Silent);
        assert_eq!((summary.before.len(), summary.failed.len()), (4, 0), "{damage}: {summary:?}");
        assert_eq!(bench.calls(), ["mask"], "{damage}");
        assert_eq!(fs::read(&file).unwrap(), whole, "{damage}");
    }
    let bench = Bench::new(&json!({"mask": {"class": "oom", "step": 0}}));
    bench.sweep();
    let id = bench.run("random0").stages.mask.unwrap();
    fs::remove_dir_all(bench.store().layout().artifact(Stage::Mask, &id)).unwrap();
    let summary = bench.sweep();
    assert!(summary.failed[0].because_of.as_ref().unwrap().starts_with("mask "), "{summary:?}");
}

#[test]
fn a_run_that_waits_for_another_run_goes_after_it_and_fails_with_it() {
    let bench = Bench::new(&json!({"full": {"class": "nan", "step": 3}}));
    let full = bench.run("full").id.to_string();
    let text = std::fs::read_to_string(bench.manifest()).unwrap();
    // It stands before the run that it waits for.
    let moved = format!(
        "[[grid]]\nmask.type = \"moved\"\nmask.sparsity = 0.5\nmask.run = \"{full}\"\n\n[[grid]]\nmask.type = \"full\""
    );
    std::fs::write(bench.manifest(), text.replacen("[[grid]]\nmask.type = \"full\"", &moved, 1)).unwrap();
    assert_eq!(bench.plan().runs[1].id.to_string(), full, "the id does not depend on the others");

    let summary = bench.sweep();
    assert_eq!((summary.finished.len(), summary.failed.len()), (3, 2));
    let waited = summary.failed.iter().find(|failed| failed.because_of.is_some()).unwrap();
    assert_eq!(waited.because_of.as_deref(), Some(bench.run("full").label.as_str()));
    let calls = bench.calls();
    assert!(!calls.iter().any(|call| call.contains("run moved")), "{calls:?}");

    bench.script(&json!({}));
    let summary = bench.sweep_with(&SweepOptions { retry: true, ..bench.options() }, &mut Silent);
    assert!(summary.is_complete());
    let calls = bench.calls();
    let at = |wanted: &str| calls.iter().position(|call| call.starts_with(wanted)).unwrap();
    assert!(at("end full") < at("run moved"), "{calls:?}");
}
