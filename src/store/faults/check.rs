//! What must hold after a fault or a loss of power, and what a chapter ended with.
//!
//! In: a results folder and what the store acknowledged. Out: a panic that says when and what. Invariant: everything is
//! read back through the store, open for reading only, and nothing is taken from the memory of who wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::scenario::{FINAL, FOLDER, Fact, description, row, state};
use crate::store::checkpoint;
use crate::store::{Checkpoint, RunState, Stage, Store, fs, record};

/// What a chapter ended with: everything that a user would look at.
pub fn outcome(results: &Path) -> BTreeMap<String, Vec<u8>> {
    let store = Store::open_read_only(results).unwrap();
    let mut found = BTreeMap::new();
    for stage in Stage::ALL {
        for id in fs::list(&store.layout().stage(stage)).unwrap() {
            if id.starts_with(fs::TEMPORARY) {
                continue;
            }
            let artifact = store.artifact(stage, &id).unwrap().unwrap();
            for file in artifact.files().keys() {
                found.insert(format!("{}/{id}/{file}", stage.name()), artifact.read(file).unwrap());
            }
        }
    }
    for run in store.runs().unwrap() {
        let state = store.run_state(&run).unwrap();
        found.insert(format!("{run}: state"), format!("{state:?}").into_bytes());
        found.insert(format!("{run}: what"), format!("{:?}", store.described(&run).unwrap()).into_bytes());
        if let Some(result) = store.result(&run).unwrap() {
            for file in result.files().keys() {
                found.insert(format!("{run}/{file}"), result.read(file).unwrap());
            }
        }
    }
    for entry in walkdir::WalkDir::new(results).into_iter().map(Result::unwrap) {
        let path = entry.path().strip_prefix(results).unwrap();
        // What a killed process left half written beside the store has a name of which nobody takes notice.
        let ours = path.starts_with(".store") || path.to_string_lossy().starts_with(fs::TEMPORARY);
        if entry.file_type().is_file() && !ours {
            found.insert(path.display().to_string(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// Fails unless everything that is known holds, and everything that can be seen is whole.
pub fn check(results: &Path, known: &[Fact], power_lost: bool, when: &dyn std::fmt::Debug) {
    let store = Store::open_read_only(results).unwrap_or_else(|e| panic!("{when:?}: {e}"));
    visible_is_whole(&store, power_lost, when);
    let mut steps: BTreeMap<&str, u32> = BTreeMap::new();
    let mut rows: BTreeMap<(&str, u32), u32> = BTreeMap::new();
    let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for fact in known {
        match fact {
            Fact::Artifact(stage, id) => {
                let found = store.artifact(*stage, id).unwrap();
                assert!(found.is_some(), "{when:?}: {} {id} vanished", stage.name());
            }
            Fact::Described(run) => {
                assert_eq!(store.described(run).unwrap().map(strip), Some(description()), "{when:?}");
            }
            Fact::Rows(run, attempt, count) => drop(rows.insert((run, *attempt), *count)),
            Fact::Step(run, step) => drop(steps.insert(run, *step)),
            Fact::Forgetting(run) => {
                steps.remove(run);
                rows.retain(|(of, _), _| of != run);
            }
            Fact::Forgotten(run, last) => {
                let left = checkpoint::all(&store.home, run).unwrap();
                assert!(left.iter().all(|(_, of)| of > last), "{when:?}: {left:?} were set aside");
                assert!(!store.quarantined().unwrap().is_empty(), "{when:?}: what was set aside is gone");
            }
            Fact::Failed(run) => {
                let state = store.run_state(run).unwrap();
                assert!(matches!(&state, RunState::Failed { class, step: Some(3), .. } if class == "nan"));
            }
            Fact::Done(run) => {
                let result = store.result(run).unwrap();
                result.unwrap_or_else(|| panic!("{when:?}: the result of {run} vanished")).verify().unwrap();
            }
            Fact::WillSay(file, text) => said.entry(file).or_default().push(text),
            Fact::Says(file, text) => drop(said.insert(file, vec![text])),
            Fact::Comes(file, text) => {
                let found = fs::read_optional(&results.join(file)).unwrap();
                let fits = found.is_none_or(|found| found == text.as_bytes());
                assert!(fits || power_lost, "{when:?}: {file} is not whole");
            }
            Fact::Folder(name) => assert!(fs::exists(&results.join(name)), "{when:?}: {name} vanished"),
        }
    }
    for (run, step) in steps {
        let finished = store.result(run).unwrap().is_some();
        let saved = store.saved_step(run).unwrap();
        assert!(finished || saved >= Some(step), "{when:?}: {run} is at {saved:?}, not {step}");
    }
    for ((run, attempt), count) in rows.into_iter().filter(|_| !power_lost) {
        let path = store.layout().attempt(run, attempt).join("metrics.jsonl");
        let found = fs::read_optional(&path).unwrap().map(|bytes| record::parse_rows(&bytes, &path).unwrap());
        let expected = (1..=count).map(row).collect::<Vec<_>>();
        let kept = found.is_some_and(|found| found.starts_with(&expected));
        assert!(kept, "{when:?}: rows of {run} vanished");
    }
    for (file, texts) in said {
        let found = fs::read_optional(&results.join(file)).unwrap();
        let found = found.map(|bytes| String::from_utf8(bytes).unwrap());
        let promised = known.iter().any(|fact| matches!(fact, Fact::Says(of, _) if *of == file));
        let fits = found.as_deref().is_some_and(|found| texts.contains(&found));
        let fine = fits || (found.is_none() && !promised);
        assert!(fine, "{when:?}: {file} says {found:?} and not one of {texts:?}");
    }
}

fn strip(mut record: Map<String, Value>) -> Map<String, Value> {
    record.shift_remove("format");
    record
}

/// Everything under a name that counts is what its marker says.
fn visible_is_whole(store: &Store, power_lost: bool, when: &dyn std::fmt::Debug) {
    for stage in Stage::ALL {
        for id in fs::list(&store.layout().stage(stage)).unwrap() {
            if !id.starts_with(fs::TEMPORARY) {
                let found = store.verified_artifact(stage, &id);
                assert!(matches!(found, Ok(Some(_))), "{when:?}: {found:?}");
            }
        }
    }
    for run in store.runs().unwrap() {
        let result = store.result(&run).unwrap_or_else(|e| panic!("{when:?}: {e}"));
        if let Some(result) = result {
            result.verify().unwrap_or_else(|e| panic!("{when:?}: {e}"));
            for (name, bytes) in FINAL {
                assert_eq!(store.final_file(&run, name).unwrap().unwrap(), bytes, "{when:?}");
            }
        }
        store.failure(&run).unwrap_or_else(|e| panic!("{when:?}: {e}"));
        let rows = store.run_rows(&run);
        // What was never forced to the disk may be garbage after a loss of power: said, and replaced by the next attempt.
        assert!(rows.is_ok() || power_lost, "{when:?}: {rows:?}");
        let spec = fs::exists(&store.layout().run(&run).join("spec.json"));
        assert_eq!(store.described(&run).unwrap().is_some(), spec, "{when:?}: half a description");
        for (step, attempt) in checkpoint::all(&store.home, &run).unwrap() {
            let found = Checkpoint::of(&store.home, &run, attempt, step);
            let found = found.unwrap_or_else(|e| panic!("{when:?}: {e}"));
            assert_eq!(found.read("state").unwrap(), state(step), "{when:?}");
            let (metrics, _) = found.rows(&store.home).unwrap_or_else(|e| panic!("{when:?}: {e}"));
            let rows = record::parse_rows(&metrics, found.folder()).unwrap();
            assert_eq!(rows, (1..=step).map(row).collect::<Vec<_>>(), "{when:?}");
        }
    }
    let folder = store.results().join(FOLDER);
    if fs::exists(&folder) {
        for (name, bytes) in FINAL {
            assert_eq!(fs::read_optional(&folder.join(name)).unwrap().as_deref(), Some(bytes), "{when:?}");
        }
    }
}
