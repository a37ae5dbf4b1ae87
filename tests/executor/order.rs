//! What is executed, in which order, how often.

use crate::bench::*;
use std::fs;

use serde_json::json;
use tickets::counter::Counter;
use tickets::execute::{Event, Message, Opening, Requests, Silent, SweepOptions, WorkStage, sweep};
use tickets::exit::Code;
use tickets::store::{Row, RunState};

#[test]
fn a_grid_is_done_in_order_and_each_stage_once() {
    let bench = Bench::new(&json!({}));
    let mut watcher = Watcher::default();
    let summary = bench.sweep_with(&bench.options(), &mut watcher);
    assert!(summary.is_complete(), "{summary:?}");
    assert_eq!((summary.finished.len(), summary.before.len(), summary.failed.len()), (4, 0, 0));
    let opening =
        Opening { total: 4, done: 0, todo: 4, resumable: 0, failed: 0, shared: 2, elsewhere: 0, jobs: 2 };
    assert_eq!(watcher.openings, [opening]);
    assert_eq!(watcher.steps, 4 * STEPS);

    let calls = bench.calls();
    assert_eq!(calls[0], "base");
    let names = ["full", "random0", "random1", "fisher"];
    let mut expected: Vec<String> = names.iter().map(|name| format!("run {name} from 0")).collect();
    expected.extend(names.iter().map(|name| format!("end {name}")));
    expected.extend(["base".to_owned(), "scores".to_owned()]);
    assert_eq!(counts(&calls), counts(&expected));
    let at = |line: &str| calls.iter().position(|call| call == line).unwrap();
    assert!(at("scores") < at("run fisher from 0"));

    // Again: nothing is executed, nothing is lost.
    let before = bench.outcome();
    assert!(before.values().all(|(state, ..)| *state == RunState::Done));
    let summary = bench.sweep();
    assert_eq!((summary.before.len(), summary.finished.len()), (4, 0));
    assert!(bench.calls().is_empty());
    assert_eq!(bench.outcome(), before);
}

#[test]
fn as_many_workers_run_at_once_as_asked_and_no_more() {
    for jobs in [1, 2] {
        let bench = Bench::new(&json!({"sleep_ms": 5}));
        let mut watcher = Watcher::default();
        bench.sweep_with(&SweepOptions { jobs, ..bench.options() }, &mut watcher);
        assert_eq!(watcher.most_at_once, jobs);
        let (mut now, mut most) = (0, 0);
        for call in bench.calls() {
            now += u32::from(call.starts_with("run "));
            now -= u32::from(call.starts_with("end "));
            most = most.max(now);
        }
        assert!(most <= jobs, "{most} runs overlapped");
    }
}

#[test]
fn a_manifest_that_is_edited_during_a_sweep_is_noticed() {
    let bench = Bench::new(&json!({}));
    let plan = bench.plan();
    fs::write(bench.manifest(), MANIFEST.replace("steps = 9", "steps = 8")).unwrap();
    let summary = sweep(&plan, &bench.store(), &bench.options(), &mut Silent).unwrap();
    assert!(summary.finished.is_empty());
    assert!(
        summary.failed[0].failure.message.contains("manifest no longer contains this run"),
        "{summary:?}"
    );
    assert!(bench.calls().is_empty(), "nothing was executed with the wrong manifest");
}

#[test]
fn a_worker_says_what_it_does_line_by_line() {
    let bench = Bench::new(&json!({}));
    let go_on = Requests::none();
    assert_eq!(bench.work("fisher", WorkStage::Base, &go_on), (Code::Ok, vec![Message::Finished]));
    assert_eq!(bench.work("fisher", WorkStage::Scores, &go_on), (Code::Ok, vec![Message::Finished]));
    let (code, said) = bench.work("fisher", WorkStage::Run, &go_on);
    assert_eq!(code, Code::Ok);
    assert_eq!(said.len(), STEPS as usize + 3);
    assert_eq!(said[0], Message::Event(Event::Attempt { number: 1 }));
    assert_eq!(said[1], Message::Event(Event::Phase { name: "train".into(), steps: STEPS }));
    assert_eq!(said.last(), Some(&Message::Finished));
    assert_eq!(bench.state("fisher"), RunState::Done);
}

#[test]
fn rows_are_what_the_trainer_wrote() {
    let bench = Bench::new(&json!({}));
    bench.sweep();
    let rows: Vec<Row> = bench.store().run_rows(&bench.run("full").id.to_string()).unwrap().metrics;
    // The working: w0 = 0.5 and w(n) = 0.9 w(n-1) + u(n), with u from the run's counter.
    let seed = bench.run("full").config.seed;
    let mut weight = 0.5;
    for (index, row) in rows.iter().enumerate() {
        let step = index as u64 + 1;
        weight = weight * 0.9 + Counter::new(seed, "full", &[step]).uniform();
        assert_eq!(row["step"], step);
        assert_eq!(row["reward"], weight);
    }
    assert_eq!(rows.len(), STEPS as usize);
}
