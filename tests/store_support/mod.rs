//! Stores that the tests of `verify store` and `gc` look at: made through the store's API, small, with everything in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use tickets::store::{Attempt, Row, Stage, Store, canonical, digest};

/// The store of a results folder, silent.
pub fn open(results: &Path) -> Store {
    Store::open(results).expect("a store").with_notices(|_| {})
}

pub fn row(step: u32) -> Row {
    let value = json!({"step": step, "reward": f64::from(step) / 3.0, "step_seconds": 0.25});
    value.as_object().expect("an object").clone()
}

/// Goes on to `end`, with a checkpoint after every second step, all of which stay.
pub fn advance(attempt: &mut Attempt, end: u32) {
    attempt.keep_bytes(1 << 20);
    let start = attempt.resumed().map_or(0, tickets::store::Checkpoint::step);
    for step in start + 1..=end {
        attempt.metrics(&row(step)).expect("a row");
        if step % 2 == 0 {
            attempt.eval(&row(step)).expect("a row");
            let state = format!("state after {step} steps");
            attempt.checkpoint(step, &[("state", state.as_bytes())], json!({}), 2).expect("a checkpoint");
        }
    }
}

pub fn finish(attempt: Attempt) {
    attempt.finish(&[("weights", b"the weights"), ("moments", b"the moments")], json!({})).expect("finished");
}

/// Publishes an artifact that tells its own id.
pub fn publish(store: &Store, stage: Stage, id: &str) {
    let body = format!("{} {id}, byte by byte", stage.name());
    let files: [(&str, &[u8]); 2] = [("model", body.as_bytes()), ("config.json", b"{\"a\": 1}")];
    store.publish(stage, id, &files, json!({"seconds": 1.5})).expect("published");
}

/// Writes down what a run is.
pub fn describe(store: &Store, run: &str, manifest: &str, stages: &[(&str, &str)]) {
    let stages: Map<String, Value> =
        stages.iter().map(|(name, id)| ((*name).to_owned(), json!(id))).collect();
    let record = json!({"label": run, "manifest": manifest, "stages": stages, "settings": {"grpo.steps": 6}});
    store.describe_run(run, record.as_object().expect("an object").clone()).expect("described");
}

/// A run that was interrupted after step 5 and finished by its second attempt, with checkpoints of both.
pub fn finished_run(store: &Store, run: &str) {
    let mut first = store.begin(run).expect("an attempt");
    advance(&mut first, 5);
    drop(first);
    let mut second = store.begin(run).expect("an attempt");
    assert_eq!(second.resumed().map(tickets::store::Checkpoint::step), Some(4));
    advance(&mut second, 8);
    finish(second);
}

/// A run that was interrupted after step 5.
pub fn open_run(store: &Store, run: &str) {
    let mut attempt = store.begin(run).expect("an attempt");
    advance(&mut attempt, 5);
}

/// One of everything: artifacts, a finished run, an open one, a failed one.
pub fn everything(results: &Path) -> Store {
    let store = open(results);
    for stage in Stage::ALL {
        publish(&store, stage, &format!("{}1", stage.name()));
    }
    let stages = [("base", "base1"), ("scores", "scores1"), ("mask", "mask1"), ("trajectory", "t1")];
    for (run, manifest) in [("done", "one"), ("open", "one"), ("failed", "two")] {
        describe(&store, run, manifest, &stages);
    }
    finished_run(&store, "done");
    open_run(&store, "open");
    let mut failing = store.begin("failed").expect("an attempt");
    advance(&mut failing, 3);
    failing.fail(&json!({"class": "nan", "step": 3, "message": "not finite"})).expect("recorded");
    store
}

/// A sealed record, as the store writes them.
pub fn sealed(record: &Value) -> String {
    let mut record = record.as_object().expect("an object").clone();
    record.insert("format".to_owned(), json!(1));
    let seal = digest(canonical(&Value::Object(record.clone())).as_bytes());
    record.insert("seal".to_owned(), json!(seal));
    canonical(&Value::Object(record)) + "\n"
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a writable folder");
    fs::write(path, bytes).expect("a writable folder");
}

/// A lease that somebody holds.
pub fn lease(store: &Store, task: &str) {
    let path = store.layout().root().join(format!("leases/{task}.1"));
    write(&path, sealed(&json!({"task": task, "lasts_seconds": 300.0})));
}

/// Makes a file look as old as this.
pub fn set_age(path: &Path, age: Duration) {
    let file = fs::File::open(path).expect("a file");
    file.set_modified(SystemTime::now() - age).expect("times can be set");
}

/// Every file below a folder with its bytes, by path.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.expect("readable");
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(folder).expect("below it").to_path_buf();
            found.push((relative, fs::read(entry.path()).expect("readable")));
        }
    }
    found
}

/// The contents of all files, wherever they lie.
pub fn bodies(folder: &Path) -> Vec<Vec<u8>> {
    let mut bodies = contents(folder).into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    bodies.sort();
    bodies
}

/// Whether each of the first is among the second, as often as it is there.
pub fn none_is_lost(before: &[Vec<u8>], after: &[Vec<u8>]) -> bool {
    let mut after = after.iter();
    before.iter().all(|body| after.any(|other| other == body))
}
