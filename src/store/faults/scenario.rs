//! What the tests of faults have the store do: short chapters that use all of it.
//!
//! In: a results folder. Out: a diary of what the store acknowledged, and when. Invariants: a chapter can be played again
//! after it was cut short anywhere, as a worker would, and then ends with the same results as one that was not.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::changes_so_far;
use crate::store::{
    Asked, Attempt, Checkpoint, Growing, LoneFile, NewFolder, Row, RunState, Stage, Store, StoreError, Terms,
    failure_record, fs, link_relative, run_task,
};

/// Something that the store acknowledged, or that was asked of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// An artifact is published.
    Artifact(Stage, &'static str),
    /// What a run is was written down.
    Described(&'static str),
    /// So many rows of an attempt were taken. They outlive the process, but not the power.
    Rows(&'static str, u32, u32),
    /// A checkpoint was written.
    Step(&'static str, u32),
    /// The attempts of a run are about to be set aside: nothing is promised about them any more.
    Forgetting(&'static str),
    /// Those up to this number were.
    Forgotten(&'static str, u32),
    /// The run failed.
    Failed(&'static str),
    /// The run is finished.
    Done(&'static str),
    /// A report is about to get this text.
    WillSay(&'static str, &'static str),
    /// It has it.
    Says(&'static str, &'static str),
    /// A file may appear, and only with this text. That it outlives the power is not promised: each user of it checks it.
    Comes(&'static str, &'static str),
    /// A folder was written as a whole.
    Folder(&'static str),
}

/// What the store acknowledged, each with the number of changes of the disk until then.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    pub entries: Vec<(usize, Fact)>,
}

impl Diary {
    fn note(&mut self, fact: Fact) {
        self.entries.push((changes_so_far(), fact));
    }

    /// What was known when so many changes had happened.
    pub fn until(&self, changes: usize) -> Vec<Fact> {
        self.entries.iter().filter(|(at, _)| *at <= changes).map(|(_, fact)| fact.clone()).collect()
    }
}

/// A part of what the store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chapter {
    /// A base, a mask, the same mask again, and another one under its id.
    Artifacts,
    /// Scores that are written piece by piece, the same again, others under their id, and some that nobody publishes.
    Pieces,
    /// A run from its first step to its last, some checkpoints of which are kept.
    Whole,
    /// A run that fails.
    Failing,
    /// A run whose first attempt ends without a word and whose second goes on.
    Resumed,
    /// A run with a second result that differs from the first.
    Contradicted,
    /// A run whose attempts are set aside.
    Afresh,
    /// A run by a worker that holds a lease: it fails, is forgiven, and ends well.
    Leased,
    /// Files beside the store.
    Reports,
    /// A file of a cache that comes piece by piece.
    Downloads,
}

impl Chapter {
    pub const ALL: [Self; 10] = [
        Self::Artifacts,
        Self::Pieces,
        Self::Whole,
        Self::Failing,
        Self::Resumed,
        Self::Contradicted,
        Self::Afresh,
        Self::Leased,
        Self::Reports,
        Self::Downloads,
    ];

    /// Opens the store and does what the chapter says, as far as it was not done before.
    pub fn play(self, results: &Path, diary: &mut Diary) -> Result<(), StoreError> {
        let store = Store::open(results)?.with_notices(|_| {});
        match self {
            Self::Artifacts => artifacts(&store, diary),
            Self::Pieces => pieces(&store, diary),
            Self::Whole => whole(&store, diary),
            Self::Failing => failing(&store, diary),
            Self::Resumed => resumed(&store, diary),
            Self::Contradicted => contradicted(&store, diary),
            Self::Afresh => afresh(&store, diary),
            Self::Leased => leased(&store, diary),
            Self::Reports => reports(&store, diary),
            Self::Downloads => downloads(&store, diary),
        }
    }
}

const BASE: [(&str, &[u8]); 2] = [("model", b"a model of some weights"), ("config.json", b"{}")];
const MASK: [(&str, &[u8]); 1] = [("mask", b"0110100110010110")];
pub const FINAL: [(&str, &[u8]); 2] = [("weights", b"what was learned"), ("moments", b"and how")];
/// Odd, so that the last rows are behind the last checkpoint.
const STEPS: u32 = 7;
pub const FOLDER: &str = "export";

fn artifacts(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    store.publish(Stage::Base, "base1", &BASE, json!({"seconds": 1.5}))?;
    diary.note(Fact::Artifact(Stage::Base, "base1"));
    for files in [MASK, MASK, [("mask", b"1111")]] {
        let mask = store.publish(Stage::Mask, "mask1", &files, json!({}))?;
        assert_eq!(mask.read("mask")?, MASK[0].1, "the first result counts");
        diary.note(Fact::Artifact(Stage::Mask, "mask1"));
    }
    assert!(!store.quarantined()?.is_empty());
    Ok(())
}

fn pieces(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let head: &[u8] = b"what they are";
    for last in ["of the second", "of the second", "of another one"] {
        let mut scores = store.begin_artifact(Stage::Scores, "scores1")?;
        scores.file("head", |file| file.append(head))?;
        let pieces: [&[u8]; 2] = [b"the first", last.as_bytes()];
        scores.file("scores", |file| pieces.iter().try_for_each(|piece| file.append(piece)))?;
        let kept = scores.publish(json!({"halves": null}))?;
        assert_eq!(kept.read("scores")?, b"the firstof the second", "the first result counts");
        assert_eq!(kept.read("head")?, head);
        diary.note(Fact::Artifact(Stage::Scores, "scores1"));
    }
    let mut dropped = store.begin_artifact(Stage::Scores, "scores2")?;
    dropped.file("scores", |file| file.append(head))?;
    drop(dropped);
    assert!(!store.quarantined()?.is_empty());
    Ok(())
}

fn whole(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let run = "whole";
    store.describe_run(run, description())?;
    diary.note(Fact::Described(run));
    if store.run_state(run)? != RunState::Done {
        let mut attempt = store.begin(run)?;
        attempt.keep_bytes(2 * state(1).len() as u64);
        advance(&mut attempt, run, STEPS, 1, diary)?;
        finish(attempt, run, diary)?;
    }
    Ok(())
}

fn failing(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let run = "failing";
    if !matches!(store.run_state(run)?, RunState::Failed { .. }) {
        let mut attempt = store.begin(run)?;
        advance(&mut attempt, run, 3, 2, diary)?;
        attempt.fail(&failure_record("nan", Some(3), "the loss is NaN", Some("a smaller step")))?;
        diary.note(Fact::Failed(run));
    }
    Ok(())
}

fn resumed(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let run = "resumed";
    if store.run_state(run)? != RunState::Done {
        let mut attempt = store.begin(run)?;
        if attempt.number() == 1 {
            advance(&mut attempt, run, 5, 2, diary)?;
            drop(attempt);
            attempt = store.begin(run)?;
            assert_eq!(attempt.resumed().map(Checkpoint::step), Some(4));
        }
        advance(&mut attempt, run, STEPS, 2, diary)?;
        finish(attempt, run, diary)?;
    }
    Ok(())
}

fn contradicted(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let run = "contradicted";
    let mut first = None;
    if store.run_state(run)? != RunState::Done {
        let mut attempt = store.begin(run)?;
        advance(&mut attempt, run, 2, 2, diary)?;
        first = Some(attempt);
    }
    let mut second = store.begin(run)?;
    second.metrics(&row(9))?;
    if let Some(first) = first {
        finish(first, run, diary)?;
    }
    second.finish(&FINAL, json!({}))?;
    diary.note(Fact::Done(run));
    assert!(!store.quarantined()?.is_empty());
    Ok(())
}

fn afresh(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let run = "afresh";
    if store.run_state(run)? == RunState::Done {
        return Ok(());
    }
    let mut attempt = store.begin(run)?;
    advance(&mut attempt, run, 2, 2, diary)?;
    let number = attempt.number();
    drop(attempt);
    diary.note(Fact::Forgetting(run));
    store.set_attempts_aside(run, u32::MAX, "made with another base")?;
    diary.note(Fact::Forgotten(run, number));
    let mut attempt = store.begin(run)?;
    assert!(attempt.resumed().is_none(), "nothing is taken over from what was set aside");
    advance(&mut attempt, run, STEPS, 2, diary)?;
    finish(attempt, run, diary)
}

fn leased(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let run = "leased";
    if store.run_state(run)? == RunState::Done {
        return Ok(());
    }
    let terms = Terms { lasts: Duration::from_mins(5) };
    let needs = [run_task(run)];
    let announced = store.announce("a sweep", terms, &needs)?;
    // One that a disturbed play left behind is this process's own: results do not depend on it.
    let lease = match store.lease(&needs[0], "a run", terms, &mut store.observer()?)? {
        Asked::Granted(lease) => Some(lease),
        Asked::Taken(_) => None,
    };
    let mut attempt = store.begin(run)?;
    attempt.describe(json!({"build": "x"}).as_object().unwrap().clone())?;
    if attempt.number() == 1 {
        advance(&mut attempt, run, 3, 2, diary)?;
        attempt.fail(&failure_record("oom", Some(3), "no memory", None))?;
        assert!(store.forgive(run)?);
        attempt = store.begin(run)?;
    }
    if let Some(lease) = &lease {
        assert!(lease.renew()?);
    }
    advance(&mut attempt, run, STEPS, 2, diary)?;
    finish(attempt, run, diary)?;
    drop((lease, announced));
    Ok(())
}

fn reports(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    for (file, text) in [("grid/a.csv", "1"), ("grid/b/c.csv", "2"), ("grid/a.csv", "another text")] {
        diary.note(Fact::WillSay(file, text));
        store.write_result(Path::new(file), text.as_bytes())?;
        diary.note(Fact::Says(file, text));
    }
    let (name, text) = ("mask.safetensors", "written in pieces");
    if !fs::exists(&store.results().join(name)) {
        diary.note(Fact::WillSay(name, text));
        let mut file = LoneFile::begin(&store.results().join(name))?;
        text.as_bytes().chunks(5).try_for_each(|piece| file.append(piece))?;
        file.publish()?;
        diary.note(Fact::Says(name, text));
    }
    let folder = store.results().join(FOLDER);
    if !fs::exists(&folder) {
        let files = FINAL.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
        let new = NewFolder::begin(&folder)?;
        files.iter().try_for_each(|(name, bytes)| new.add(name, bytes))?;
        new.publish()?;
        diary.note(Fact::Folder(FOLDER));
    }
    Ok(())
}

fn downloads(store: &Store, diary: &mut Diary) -> Result<(), StoreError> {
    let (name, bytes) = ("cache/blobs/b", "what was to come");
    let whole = store.results().join(name);
    diary.note(Fact::Comes(name, bytes));
    // As a digest would say, here and below.
    if fs::read_optional(&whole)?.as_deref() != Some(bytes.as_bytes()) {
        fs::remove_file(&whole)?;
        let path = whole.with_extension("incomplete");
        let mut growing = Growing::open(&path)?;
        if !bytes.as_bytes().starts_with(&fs::read(&path)?) {
            growing.restart()?;
        }
        for piece in bytes.as_bytes()[growing.length()? as usize..].chunks(5) {
            growing.append(piece)?;
        }
        growing.publish(&whole)?;
    }
    link_relative(Path::new("../blobs/b"), &store.results().join("cache/snapshots/c"))
}

/// Goes on from where the attempt is, with a checkpoint after every second step.
fn advance(
    attempt: &mut Attempt,
    run: &'static str,
    end: u32,
    keep: u32,
    diary: &mut Diary,
) -> Result<(), StoreError> {
    let mut start = 0;
    if let Some(checkpoint) = attempt.resumed() {
        start = checkpoint.step();
        assert_eq!(checkpoint.read("state")?, state(start));
    }
    for step in start + 1..=end {
        attempt.metrics(&row(step))?;
        diary.note(Fact::Rows(run, attempt.number(), step));
        attempt.log(&format!("step {step}"))?;
        attempt.eval(&row(step))?;
        if step.is_multiple_of(2) {
            attempt.checkpoint(step, &[("state", &state(step))], json!({"seen": step}), keep)?;
            diary.note(Fact::Step(run, step));
        }
    }
    Ok(())
}

fn finish(attempt: Attempt, run: &'static str, diary: &mut Diary) -> Result<(), StoreError> {
    attempt.finish(&FINAL, json!({"weights_digest": "ab"}))?;
    diary.note(Fact::Done(run));
    Ok(())
}

pub fn row(step: u32) -> Row {
    json!({"step": step, "reward": f64::from(step) / 3.0}).as_object().unwrap().clone()
}

pub fn state(step: u32) -> Vec<u8> {
    format!("the state after {step} steps. ").repeat(10).into_bytes()
}

pub fn description() -> Map<String, Value> {
    let what = json!({"label": "x", "manifest": "m", "stages": {"eval": "e"}, "settings": {}});
    what.as_object().unwrap().clone()
}
