//! What the store does when files are damaged, processes are killed and two do the same at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tickets::store::{Attempt, Row, RunState, Stage, Store, StoreError, reproducible_digest};

/// A store that collects its notices.
fn open(results: &Path) -> (Store, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = notices.clone();
    let store =
        Store::open(results).unwrap().with_notices(move |line| sink.lock().unwrap().push(line.to_owned()));
    (store, notices)
}

fn row(step: u32) -> Row {
    let value = json!({"step": step, "reward": f64::from(step) / 3.0, "step_seconds": 0.25});
    value.as_object().unwrap().clone()
}

fn state(step: u32) -> Vec<u8> {
    format!("state after {step} steps").into_bytes()
}

/// Goes on from where the attempt is to `end`, with a checkpoint after every second step.
fn advance(attempt: &mut Attempt, end: u32, keep: u32) {
    let start = attempt.resumed().map_or(0, |checkpoint| {
        assert_eq!(checkpoint.read("state").unwrap(), state(checkpoint.step()));
        checkpoint.step()
    });
    for step in start + 1..=end {
        attempt.metrics(&row(step)).unwrap();
        if step % 2 == 0 {
            attempt.eval(&row(step)).unwrap();
            attempt.checkpoint(step, &[("state", &state(step))], json!({"seen": step}), keep).unwrap();
        }
    }
}

fn finish(attempt: Attempt) {
    attempt.finish(&[("weights", b"w"), ("moments", b"mm")], json!({"weights_digest": "ab"})).unwrap();
}

fn run_folder(store: &Store, run: &str) -> PathBuf {
    store.layout().run(run)
}

#[test]
fn an_artifact_is_there_completely_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    assert!(store.artifact(Stage::Base, "id1").unwrap().is_none());
    let files: [(&str, &[u8]); 2] = [("model", b"weights"), ("config.json", b"{}")];
    store.publish(Stage::Base, "id1", &files, json!({"seconds": 1})).unwrap();
    let found = store.artifact(Stage::Base, "id1").unwrap().unwrap();
    assert_eq!(found.read("model").unwrap(), b"weights");
    assert_eq!(found.meta()["seconds"], 1);
    assert_eq!(found.files()["model"].bytes, 7);
    assert!(matches!(found.read("other").unwrap_err(), StoreError::NoSuchFile { .. }));
    assert!(store.artifact(Stage::Mask, "id1").unwrap().is_none(), "stages do not share ids");

    // An identical second result changes nothing, measured times may differ.
    store.publish(Stage::Base, "id1", &files, json!({"seconds": 2})).unwrap();
    assert_eq!(store.artifact(Stage::Base, "id1").unwrap().unwrap().meta()["seconds"], 1);
    assert!(notices.lock().unwrap().is_empty());

    // A different one is kept apart and reported; the first still counts.
    let second = store.publish(Stage::Base, "id1", &[("model", b"WEIGHTS")], json!({})).unwrap();
    assert_eq!(second.read("model").unwrap(), b"weights");
    assert_eq!(store.quarantined().unwrap(), ["base-id1-1"]);
    assert!(notices.lock().unwrap()[0].contains("differs from the first"));
}

#[test]
fn truncation_and_bit_flips_of_an_artifact_are_noticed_and_it_is_made_again() {
    for file in ["model", "DONE.json"] {
        for damage in ["truncate", "flip", "remove"] {
            let folder = tempfile::tempdir().unwrap();
            let (store, notices) = open(folder.path());
            store.publish(Stage::Scores, "id", &[("model", b"weights")], json!({"x": 1.5})).unwrap();
            hurt(&store.layout().artifact(Stage::Scores, "id").join(file), damage);

            let read_only = Store::open_read_only(folder.path()).unwrap();
            assert!(matches!(
                read_only.verified_artifact(Stage::Scores, "id"),
                Err(StoreError::Damaged { .. })
            ));
            assert!(store.quarantined().unwrap().is_empty(), "reading only changes nothing");

            assert!(store.verified_artifact(Stage::Scores, "id").unwrap().is_none(), "{file} {damage}");
            assert_eq!(store.quarantined().unwrap(), ["scores-id-1"], "{file} {damage}");
            assert_eq!(notices.lock().unwrap().len(), 1, "{file} {damage}");
            store.publish(Stage::Scores, "id", &[("model", b"weights")], json!({})).unwrap();
            assert!(store.verified_artifact(Stage::Scores, "id").unwrap().is_some());
        }
    }
}

/// Damages a file: cuts its last byte, flips one bit in the middle, or removes it.
fn hurt(path: &Path, damage: &str) {
    let mut bytes = fs::read(path).unwrap();
    match damage {
        "truncate" => {
            // Two bytes: the last one of a marker is a newline that nothing depends on.
            bytes.truncate(bytes.len() - 2);
            fs::write(path, bytes).unwrap();
        }
        "flip" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        }
        _ => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn a_flip_that_only_a_digest_can_see_is_noticed_on_the_first_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.publish(Stage::Mask, "id", &[("mask", b"0123")], json!({})).unwrap();
    hurt(&store.layout().artifact(Stage::Mask, "id").join("mask"), "flip");
    let found = store.artifact(Stage::Mask, "id").unwrap().unwrap();
    assert!(matches!(found.read("mask"), Err(StoreError::Damaged { .. })));
    assert!(
        store.artifact(Stage::Mask, "id").unwrap().is_none(),
        "it was moved aside, so it will be made again"
    );
}

#[test]
fn a_resumed_run_has_the_rows_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut whole = store.begin("whole").unwrap();
    advance(&mut whole, 7, 2);
    finish(whole);
    let expected = store.run_rows("whole").unwrap();

    for stop in 0..=7 {
        let run = format!("cut{stop}");
        let mut first = store.begin(&run).unwrap();
        advance(&mut first, stop, 2);
        // The process is killed: nothing more is written, and the last line may be torn.
        let metrics = first.folder().join("metrics.jsonl");
        drop(first);
        fs::OpenOptions::new().append(true).open(&metrics).unwrap().write_all(b"{\"step\":99,\"rew").unwrap();
        let step = stop / 2 * 2;
        let state = store.run_state(&run).unwrap();
        assert_eq!(state, if step == 0 { RunState::Pending } else { RunState::Resumable { step } });
        assert_eq!(store.run_rows(&run).unwrap().metrics.len(), stop as usize, "the torn line is left out");

        let mut second = store.begin(&run).unwrap();
        assert_eq!(second.number(), 2);
        assert_eq!(second.resumed().map_or(0, tickets::store::Checkpoint::step), step);
        assert_eq!(second.metrics_rows().len(), step as usize);
        advance(&mut second, 7, 2);
        finish(second);
        let rows = store.run_rows(&run).unwrap();
        assert_eq!(rows.metrics, expected.metrics);
        assert_eq!(rows.evals, expected.evals);
        assert_eq!(reproducible_digest(&rows.metrics), reproducible_digest(&expected.metrics));
        assert_eq!(rows.attempt, Some(2));
        assert_eq!(rows.done.unwrap()["weights_digest"], "ab");
        assert_eq!(store.run_state(&run).unwrap(), RunState::Done);
    }
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
    for (file, damage) in [
        ("state", "flip"),
        ("state", "truncate"),
        ("state", "remove"),
        ("DONE.json", "flip"),
        ("DONE.json", "remove"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (store, notices) = open(folder.path());
        let mut attempt = store.begin("run").unwrap();
        advance(&mut attempt, 6, 2);
        drop(attempt);
        hurt(&store.layout().checkpoint("run", 1, 6).join(file), damage);
        let mut attempt = store.begin("run").unwrap();
        assert_eq!(attempt.resumed().unwrap().step(), 4, "{file} {damage}");
        assert_eq!(attempt.resumed().unwrap().meta()["seen"], 4);
        assert!(notices.lock().unwrap()[0].contains("checkpoint 6"), "{:?}", notices.lock().unwrap());
        advance(&mut attempt, 6, 2);
        assert_eq!(attempt.metrics_rows(), (1..=6).map(row).collect::<Vec<_>>());
    }
}

#[test]
fn damage_in_rows_before_a_checkpoint_makes_it_unusable_and_damage_after_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 5, 9);
    let metrics = attempt.folder().join("metrics.jsonl");
    drop(attempt);
    // Row 3 lies between checkpoints 2 and 4, row 5 after both.
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.replace("\"step\":3", "\"step\":8")).unwrap();
    assert_eq!(store.begin("run").unwrap().resumed().unwrap().step(), 2);
    assert!(notices.lock().unwrap()[0].contains("its first 4 rows"), "{:?}", notices.lock().unwrap());

    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 5, 9);
    drop(attempt);
    let metrics = store.layout().attempt("run", 1).join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.replace("{\"step\":5", "{\"step\";5")).unwrap();
    assert!(
        matches!(store.run_rows("run"), Err(StoreError::Damaged { .. })),
        "a complete bad line is damage"
    );
    assert_eq!(store.begin("run").unwrap().resumed().unwrap().step(), 4);
    assert!(notices.lock().unwrap().is_empty());
}

#[test]
fn every_damaged_file_of_a_finished_run_is_noticed() {
    for file in [
        "attempts/0001/metrics.jsonl",
        "attempts/0001/eval.jsonl",
        "attempts/0001/final/weights",
        "DONE.json",
    ] {
        for damage in ["truncate", "flip", "remove"] {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = open(folder.path());
            let mut attempt = store.begin("run").unwrap();
            advance(&mut attempt, 4, 2);
            finish(attempt);
            assert!(
                fs::read_dir(run_folder(&store, "run").join("attempts/0001/checkpoints"))
                    .unwrap()
                    .next()
                    .is_none()
            );
            let path = run_folder(&store, "run").join(file);
            if file.ends_with("weights") && damage == "truncate" {
                fs::write(&path, b"").unwrap();
            } else if file.ends_with("weights") && damage == "flip" {
                fs::write(&path, b"W").unwrap();
            } else {
                hurt(&path, damage);
            }
            let read_only = Store::open_read_only(folder.path()).unwrap();
            if file == "DONE.json" && damage == "remove" {
                assert!(read_only.result("run").unwrap().is_none());
            } else {
                let verified = read_only.result("run").and_then(|found| found.unwrap().verify());
                assert!(matches!(verified, Err(StoreError::Damaged { .. })), "{file} {damage}");
            }
            // For a sweep the run is to be done again.
            if let Some(found) = store.result("run").unwrap() {
                found.verify().unwrap_err();
            }
            assert_eq!(store.run_state("run").unwrap(), RunState::Pending, "{file} {damage}");
            let mut again = store.begin("run").unwrap();
            advance(&mut again, 4, 2);
            finish(again);
            assert_eq!(store.run_state("run").unwrap(), RunState::Done);
        }
    }
}

#[test]
fn the_first_result_of_a_run_wins_and_a_different_second_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut attempts: Vec<Attempt> = (0..3).map(|_| store.begin("run").unwrap()).collect();
    for attempt in &mut attempts {
        advance(attempt, 2, 2);
    }
    let third = attempts.pop().unwrap();
    let mut second = attempts.pop().unwrap();
    finish(attempts.pop().unwrap());
    // Another time measured, the same content.
    third.finish(&[("weights", b"w"), ("moments", b"mm")], json!({"wall_seconds": 9})).unwrap();
    assert!(notices.lock().unwrap().is_empty());
    second.metrics(&row(3)).unwrap();
    finish(second);
    assert!(notices.lock().unwrap()[0].contains("attempt 2"), "{:?}", notices.lock().unwrap());
    assert_eq!(store.quarantined().unwrap(), ["run-run-1"]);
    let rows = store.run_rows("run").unwrap();
    assert_eq!((rows.attempt, rows.metrics.len()), (Some(1), 2));
}

#[test]
fn a_failure_counts_until_the_next_attempt_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 3, 2);
    attempt.fail(&json!({"class": "nan", "step": 3, "message": "loss is NaN"})).unwrap();
    let failed = RunState::Failed { class: "nan".into(), step: Some(3), message: "loss is NaN".into() };
    assert_eq!(store.run_state("run").unwrap(), failed);
    assert_eq!(failed.name(), "failed");
    let path = run_folder(&store, "run").join("failed.json");
    for damage in ["flip", "truncate"] {
        let whole = fs::read(&path).unwrap();
        hurt(&path, damage);
        let read_only = Store::open_read_only(folder.path()).unwrap();
        assert!(matches!(read_only.run_state("run"), Err(StoreError::Damaged { .. })));
        fs::write(&path, whole).unwrap();
    }
    let attempt = store.begin("run").unwrap();
    assert_eq!(attempt.resumed().unwrap().step(), 2);
    assert_eq!(store.run_state("run").unwrap(), RunState::Resumable { step: 2 });
    drop(attempt);
    store.record_failure("run", &json!({"class": "killed", "step": null, "message": "signal 9"})).unwrap();
    assert!(matches!(store.run_state("run").unwrap(), RunState::Failed { class, .. } if class == "killed"));
}

#[test]
fn old_checkpoints_are_removed_across_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 6, 2);
    let kept = |number| {
        let path = store.layout().checkpoints("run", number);
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(kept(1), ["00000004", "00000006"]);
    drop(attempt);
    let mut attempt = store.begin("run").unwrap();
    advance(&mut attempt, 8, 2);
    assert_eq!((kept(1), kept(2)), (vec!["00000006".to_owned()], vec!["00000008".to_owned()]));
}

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
    let mut child = spawn_helper("lock_holder_process", "STORE_TEST_LOCK", folder.path());
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
    assert!(matches!(store.lock("x"), Err(StoreError::OpenedReadOnly { .. })));
    assert!(matches!(store.write_result(Path::new("x"), b""), Err(StoreError::OpenedReadOnly { .. })));
}

#[test]
fn a_store_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    fs::write(store.layout().format(), "tickets-store 2\n").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Newer { found: 2, .. })));
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

/// A process that writes without end: artifacts, attempts, checkpoints, results; and says what it has done.
#[test]
fn writer_process() {
    let Ok(folder) = std::env::var("STORE_TEST_WRITER") else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
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
    for round in 0..25u64 {
        let mut child = spawn_helper("writer_process", "STORE_TEST_WRITER", folder.path());
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).collect::<Vec<String>>()
        });
        std::thread::sleep(Duration::from_millis(15 + 13 * round % 90));
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
