//! Opening, naming, finding.

use crate::common::*;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tickets::store::{Asked, RunState, Stage, Store, StoreError, Terms};

#[test]
fn a_folder_that_cannot_be_written_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    for path in [file.join("results"), file.clone()] {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotAFolder { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("--results"));
    }
    let error = Store::open(Path::new("/proc/tickets-results")).unwrap_err();
    assert!(error.to_string().contains("/proc/tickets-results"), "{error}");
    let failure = tickets::exit::Failure::from(error);
    assert_eq!(failure.code, tickets::exit::Code::Store);
}

#[test]
fn reading_only_creates_nothing_and_an_absent_store_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let store = Store::open_read_only(&absent).unwrap();
    assert!(store.artifact(Stage::Base, "id").unwrap().is_none());
    assert_eq!(store.run_state("run").unwrap(), RunState::Pending);
    assert!(store.run_rows("run").unwrap().metrics.is_empty());
    assert!(store.runs().unwrap().is_empty());
    assert!(!absent.exists());
    assert!(matches!(store.begin("run"), Err(StoreError::OpenedReadOnly { .. })));
    assert!(matches!(store.observer(), Err(StoreError::OpenedReadOnly { .. })));
    assert!(store.claims().unwrap().is_empty());
    assert!(matches!(store.write_result(Path::new("x"), b""), Err(StoreError::OpenedReadOnly { .. })));
}

#[test]
fn a_store_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    fs::write(store.layout().format(), "tickets-store 3\n").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Newer { found: 3, .. })));
    assert!(matches!(Store::open_read_only(folder.path()), Err(StoreError::Newer { .. })));
    fs::write(store.layout().format(), "something").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn results_are_written_inside_the_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.write_result(Path::new("a/b/c.csv"), b"1").unwrap();
    store.write_result(Path::new("a/b/c.csv"), b"2").unwrap();
    assert_eq!(fs::read(folder.path().join("a/b/c.csv")).unwrap(), b"2");
    for bad in ["../x", "/tmp/x", ".store/x", "a/../../x", ""] {
        assert!(matches!(store.write_result(Path::new(bad), b""), Err(StoreError::BadName { .. })), "{bad}");
    }
    for bad in ["../run", "a/b", ""] {
        assert!(matches!(store.begin(bad), Err(StoreError::BadName { .. })), "{bad}");
        assert!(
            matches!(store.publish(Stage::Base, bad, &[], json!({})), Err(StoreError::BadName { .. })),
            "{bad}"
        );
    }
    let twice: [(&str, &[u8]); 2] = [("a", b"1"), ("a", b"2")];
    assert!(store.publish(Stage::Base, "id", &twice, json!({})).is_err());
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    for run in ["abc1", "abd2"] {
        store.begin(run).unwrap();
    }
    assert_eq!(store.find_run("abc").unwrap(), "abc1");
    assert!(store.find_run("ab").unwrap_err().to_string().contains("fits 2 runs"));
    assert!(store.find_run("x").unwrap_err().to_string().contains("no run"));
}

#[test]
fn measured_values_do_not_enter_the_digest_of_a_result() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let digests: Vec<Value> = [0.5, 0.75]
        .iter()
        .enumerate()
        .map(|(index, seconds)| {
            let run = format!("run{index}");
            let mut attempt = store.begin(&run).unwrap();
            let mut row = row(1);
            row.insert("step_seconds".into(), json!(seconds));
            attempt.metrics(&row).unwrap();
            finish(attempt);
            store.result(&run).unwrap().unwrap().detail()["metrics_digest"].clone()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

/// A store of format 1: one lock for all, failures beside the attempts.
#[test]
fn a_store_of_format_1_is_upgraded_unless_its_program_is_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    attempt.metrics(&row(1)).unwrap();
    attempt.fail(&json!({"class": "nan", "step": 1, "message": "loss is NaN"})).unwrap();
    let layout = store.layout();
    fs::rename(layout.failure("run", 1), layout.run("run").join("failed.json")).unwrap();
    fs::write(layout.format(), "tickets-store 1\n").unwrap();
    // The lock of a process of that version that lives: this one.
    let observer = store.observer().unwrap();
    let mut me =
        store.lease("run-x", "x", Terms { lasts: Duration::from_secs(9) }, &mut { observer }).unwrap();
    let lease = fs::read(layout.leases().join("run-x.1")).unwrap();
    fs::write(layout.root().join("lock.json"), &lease).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { pid, .. } if pid == std::process::id()), "{error:?}");
    assert!(error.hint().unwrap().contains("lock.json"));
    // Reading does not wait for the upgrade, and changes nothing.
    assert!(Store::open_read_only(folder.path()).is_ok());
    assert!(layout.root().join("lock.json").exists());
    if let Asked::Granted(lease) = &mut me {
        assert!(lease.renew().unwrap());
    }

    let dead = String::from_utf8(lease).unwrap().replace("\"pid\":", "\"pid\":9");
    fs::write(layout.root().join("lock.json"), dead).unwrap();
    let (upgraded, _) = open(folder.path());
    assert!(matches!(upgraded.run_state("run").unwrap(), RunState::Failed { class, .. } if class == "nan"));
    assert_eq!(fs::read_to_string(layout.format()).unwrap(), "tickets-store 2\n");
    assert!(!layout.root().join("lock.json").exists());
    assert!(layout.failure("run", 1).exists() && !layout.run("run").join("failed.json").exists());
}
