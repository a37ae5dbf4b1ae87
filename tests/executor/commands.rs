//! The commands: what they print about a grid, how they end.

use crate::bench::*;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tickets::cli::args::{LookArgs, ManifestArgs};
use tickets::cli::retry::{RetryArgs, retry};
use tickets::cli::show::{ShowArgs, show};
use tickets::cli::status::{StatusArgs, status};
use tickets::execute::FailureClass;
use tickets::exit::{Code, Failure};
use tickets::store::{RunState, Store};

fn show_text(bench: &Bench, words: [Option<&str>; 2], json: bool) -> Result<String, Failure> {
    let [first, second] = words.map(|word| word.map(str::to_owned));
    let args = ShowArgs {
        first: first.unwrap(),
        second,
        transcripts: None,
        look: LookArgs { results: bench.folder.clone(), set: Vec::new(), no_env: true, json },
    };
    let mut out = Vec::new();
    show(&args, &mut out).map(|code| {
        assert_eq!(code, Code::Ok);
        String::from_utf8(out).unwrap()
    })
}

fn status_text(bench: &Bench, results: &Path, json: bool) -> String {
    let manifest = bench.manifest().to_str().unwrap().to_owned();
    let common = ManifestArgs { manifest, set: Vec::new(), no_env: true, results: results.to_path_buf() };
    let mut out = Vec::new();
    assert_eq!(status(&StatusArgs { common, json, watch: false, every: 2.0 }, &mut out).unwrap(), Code::Ok);
    String::from_utf8(out).unwrap()
}

#[test]
fn show_tells_all_about_a_finished_run() {
    let bench = Bench::new(&json!({}));
    bench.sweep();
    let run = bench.run("fisher");
    let manifest = bench.manifest();
    let words = [manifest.to_str(), Some(run.label.as_str())];
    let shown: Value = serde_json::from_str(&show_text(&bench, words, true).unwrap()).unwrap();
    let (_, metrics, evals, weights) = &bench.outcome()["fisher"];
    assert_eq!(shown["id"], run.id.to_string());
    assert_eq!((&shown["label"], &shown["state"]), (&json!(run.label), &json!("done")));
    assert_eq!(shown["axes"]["mask.type"], "fisher");
    assert_eq!(shown["metrics"]["rows"], 9);
    assert_eq!(shown["metrics"]["last"]["step"], 9);
    assert_eq!(shown["metrics"]["reproducible_digest"], *metrics);
    assert_eq!(shown["evals"]["reproducible_digest"], *evals);
    assert_eq!(shown["evals"]["last"]["step"], 8);
    assert_eq!(shown["weights_digest"], *weights);
    assert_eq!(shown["invariant"], "holds");
    for stage in ["base", "scores", "mask"] {
        assert_eq!(shown["stages"][stage]["state"], "done", "{stage}");
    }
    // What the process itself wrote, here the test harness, comes behind the attempt's own lines.
    assert_eq!(shown["log"][0], "fisher starts from step 0");

    // By the beginning of the id, without a manifest; and as text.
    let short = run.id.to_string()[..10].to_owned();
    let again: Value = serde_json::from_str(&show_text(&bench, [Some(&short), None], true).unwrap()).unwrap();
    assert_eq!(again["metrics"], shown["metrics"]);
    let text = show_text(&bench, words, false).unwrap();
    for wanted in
        ["state           done", "axis            mask.type = fisher", "step = 9", weights.as_str().unwrap()]
    {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}

#[test]
fn show_of_an_unknown_run_says_so() {
    let bench = Bench::new(&json!({}));
    let failure = show_text(&bench, [Some("abcdef"), None], false).unwrap_err();
    assert_eq!(failure.code, Code::Plan);
    let manifest = bench.manifest();
    let failure = show_text(&bench, [manifest.to_str(), Some("no such label")], false).unwrap_err();
    assert_eq!(failure.code, Code::Plan);
}

#[test]
fn status_tells_the_state_of_every_run_and_changes_nothing() {
    let bench = Bench::new(&json!({"random1": {"class": "nan", "step": 6}}));
    let absent = bench.folder.join("absent");
    let before: Value = serde_json::from_str(&status_text(&bench, &absent, true)).unwrap();
    assert_eq!(before["counts"], json!({"pending": 4}));
    assert!(!absent.exists());

    bench.sweep();
    let after: Value = serde_json::from_str(&status_text(&bench, &bench.folder, true)).unwrap();
    assert_eq!(after["counts"], json!({"done": 3, "failed": 1}));
    let failed = &after["runs"][2];
    assert_eq!(
        (&failed["state"], &failed["step"], &failed["class"]),
        (&json!("failed"), &json!(5), &json!("nan"))
    );
    assert_eq!((&after["runs"][0]["step"], &after["runs"][0]["steps"]), (&json!(9), &json!(9)));
    let text = status_text(&bench, &bench.folder, false);
    assert!(text.contains("nan: as the script says"), "{text}");
    assert!(text.ends_with("3 done, 1 failed\n"), "{text}");
}

#[test]
fn a_damaged_result_is_a_row_of_status_and_is_shown() {
    let bench = Bench::new(&json!({}));
    bench.sweep();
    let run = bench.run("full");
    let path = bench.store().layout().attempt(run.id.as_str(), 1).join("final/weight");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[1..]).unwrap();
    let shown: Value = serde_json::from_str(&status_text(&bench, &bench.folder, true)).unwrap();
    assert_eq!(shown["counts"], json!({"damaged": 1, "done": 3}));
    assert!(shown["runs"][0]["message"].as_str().unwrap().contains("final/weight"), "{shown}");
    let manifest = bench.manifest();
    let words = [manifest.to_str(), Some(run.label.as_str())];
    let shown: Value = serde_json::from_str(&show_text(&bench, words, true).unwrap()).unwrap();
    assert_eq!(shown["state"], "damaged");
    assert!(shown["damage"].as_str().unwrap().contains("7 bytes instead of 8"), "{shown}");
}

#[test]
fn retry_has_failed_runs_of_a_class_tried_again() {
    let trouble =
        json!({"random0": {"class": "nan", "step": 6}, "random1": {"class": "bad-config", "step": 3}});
    let bench = Bench::new(&trouble);
    assert_eq!(bench.sweep().failed.len(), 2);
    let told = |class: Vec<Option<FailureClass>>, run: Option<String>, dry_run: bool| -> Value {
        let manifest = bench.manifest().to_str().unwrap().to_owned();
        let common = ManifestArgs { manifest, set: Vec::new(), no_env: true, results: bench.folder.clone() };
        let mut out = Vec::new();
        retry(&RetryArgs { common, class, run, dry_run, json: true }, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    };
    let nan = || vec![Some(FailureClass::Nan)];
    let said = told(nan(), None, true);
    assert_eq!(
        (said["retried"][0]["class"].as_str(), said["left"][0]["class"].as_str()),
        (Some("nan"), Some("bad-config"))
    );
    assert_eq!(said["retried"][0]["saved_step"], 4);
    assert!(matches!(bench.state("random0"), RunState::Failed { .. }), "a dry run changes nothing");
    told(nan(), None, false);
    assert_eq!(bench.state("random0"), RunState::Resumable { step: 4 });
    assert!(matches!(bench.state("random1"), RunState::Failed { .. }));
    assert_eq!(told(nan(), None, false)["retried"], json!([]));
    bench.calls();
    bench.script(&json!({}));
    let summary = bench.sweep();
    assert_eq!((summary.finished.len(), summary.failed.len()), (1, 1));
    assert_eq!(bench.calls(), ["run random0 from 4", "end random0"]);
    assert_eq!(told(vec![], Some(bench.run("random1").label), false)["retried"][0]["class"], "bad-config");
    assert!(bench.sweep().is_complete());
    assert_eq!(bench.outcome(), uninterrupted());
}

/// `tickets` itself, on the bench's manifest.
fn tickets(bench: &Bench, results: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickets"));
    command.arg("sweep").arg(bench.manifest()).arg("--results").arg(results).args(more);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
#[cfg_attr(not(feature = "torch"), ignore = "this build cannot sweep")]
fn a_results_folder_that_cannot_be_written_is_exit_5() {
    let bench = Bench::new(&json!({}));
    for (results, named) in
        [(bench.manifest().join("results"), "executor test.toml"), ("/proc/x".into(), "/proc/x")]
    {
        let output = tickets(&bench, &results, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        assert!(said(&output).contains(named), "{}", said(&output));
    }
    assert!(Store::open_read_only(&bench.folder).unwrap().runs().unwrap().is_empty());
}
