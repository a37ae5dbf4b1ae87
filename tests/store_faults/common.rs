//! Rows, checkpoints and results that the tests write.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tickets::store::{Attempt, Row, Store};

/// A store that collects its notices.
pub fn open(results: &Path) -> (Store, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = notices.clone();
    let store =
        Store::open(results).unwrap().with_notices(move |line| sink.lock().unwrap().push(line.to_owned()));
    (store, notices)
}

pub fn row(step: u32) -> Row {
    let value = json!({"step": step, "reward": f64::from(step) / 3.0, "step_seconds": 0.25});
    value.as_object().unwrap().clone()
}

pub fn state(step: u32) -> Vec<u8> {
    format!("state after {step} steps").into_bytes()
}

/// Goes on from where the attempt is to `end`, with a checkpoint after every second step.
pub fn advance(attempt: &mut Attempt, end: u32, keep: u32) {
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

pub fn finish(attempt: Attempt) {
    attempt.finish(&[("weights", b"w"), ("moments", b"mm")], json!({"weights_digest": "ab"})).unwrap();
}

pub fn run_folder(store: &Store, run: &str) -> PathBuf {
    store.layout().run(run)
}

/// An empty folder, in memory where that can be had: many of them are filled.
pub fn workplace() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[path = "../../src/store/faults/dice.rs"]
mod dice;
pub use dice::{Dice, rounds};
