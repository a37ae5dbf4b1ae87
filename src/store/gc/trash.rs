//! The trash: what was marked is moved there, and later removed for good.
//!
//! In: rubbish. Out: a folder in the trash with a record. Invariants: the record is written before anything moves; every
//! thing moves by one rename and keeps its path; only a purge removes, and only collections that are old enough.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::super::leased::Live;
use super::super::measure::size;
use super::super::{REASON, Store, StoreError, fs, record, with_ending};
use super::{Marked, Rubbish, RubbishKind, TRASH};

/// The record of one collection.
const RECORD: &str = "record.json";

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The folder in the trash; none when nothing was to go.
    pub folder: Option<PathBuf>,
    /// The things that were moved.
    pub moved: Vec<Rubbish>,
    /// What was passed over in the end.
    pub notes: Vec<String>,
}

/// One collection in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trash {
    /// Its folder's name.
    pub name: String,
    /// How long it has been there; none for what an interrupted removal left.
    pub age: Option<Duration>,
    /// Its bytes.
    pub bytes: u64,
}

impl Store {
    /// Moves what was marked to the trash. What came into use meanwhile stays, and so does what is gone already.
    ///
    /// # Errors
    /// When something cannot be moved; what was moved before lies in the trash.
    pub fn collect(&self, marked: &Marked) -> Result<Collected, StoreError> {
        self.home.writable()?;
        let mut done = Collected::default();
        if marked.rubbish.is_empty() {
            return Ok(done);
        }
        let root = self.home.layout.root();
        let folder = new_folder(&root.join(TRASH))?;
        fs::publish_file(&folder.join(RECORD), record_text(&marked.rubbish).as_bytes())?;
        let mut live = Live::look(self, &marked.keep)?;
        for thing in &marked.rubbish {
            if live.is_outdated(&self.home)? {
                live = Live::look(self, &marked.keep)?;
            }
            if live.holds(&thing.subject) {
                done.notes.push(format!("{} came into use and stays", thing.path.display()));
                continue;
            }
            let (from, to) = (root.join(&thing.path), folder.join(&thing.path));
            if let Some(parent) = to.parent() {
                fs::create_folders(parent)?;
            }
            match fs::rename(&from, &to) {
                Ok(()) => done.moved.push(thing.clone()),
                Err(_) if !fs::exists(&from) => {
                    done.notes.push(format!("{} is gone already", thing.path.display()));
                    continue;
                }
                Err(error) => return Err(error),
            }
            let (reason, beside) = (with_ending(&from, REASON), with_ending(&to, REASON));
            if thing.kind == RubbishKind::Quarantine && fs::exists(&reason) {
                fs::rename(&reason, &beside)?;
            }
        }
        done.folder = Some(folder);
        Ok(done)
    }

    /// What lies in the trash, by age: what has been there for `older_than`, and what has not.
    ///
    /// # Errors
    /// When the trash cannot be read.
    pub fn trash(&self, older_than: Duration) -> Result<(Vec<Trash>, Vec<Trash>), StoreError> {
        let folder = self.home.layout.root().join(TRASH);
        let mut all = Vec::new();
        for name in fs::list(&folder)? {
            let seconds = name.split_once('-').and_then(|(seconds, number)| {
                number.parse::<u32>().ok()?;
                seconds.parse::<u64>().ok()
            });
            // Only a removal makes temporary names here. Other names are not ours.
            if seconds.is_none() && !name.starts_with(fs::TEMPORARY) {
                continue;
            }
            let age = seconds.map(|seconds| Duration::from_secs(now().saturating_sub(seconds)));
            all.push(Trash { bytes: size(&folder.join(&name)), name, age });
        }
        Ok(all.into_iter().partition(|trash| trash.age.is_none_or(|age| age >= older_than)))
    }

    /// Removes collections from the trash for good.
    ///
    /// # Errors
    /// When something cannot be removed; it is tried again the next time.
    pub fn purge(&self, trash: &[Trash]) -> Result<(), StoreError> {
        self.home.writable()?;
        for Trash { name, age, .. } in trash {
            let path = self.home.layout.root().join(TRASH).join(name);
            match age {
                Some(_) => fs::remove_folder(&path)?,
                None => fs::remove_leftover(&path)?,
            }
        }
        Ok(())
    }
}

/// A folder of its own for one collection.
fn new_folder(trash: &Path) -> Result<PathBuf, StoreError> {
    fs::create_folders(trash)?;
    let seconds = now();
    let mut number = 1;
    loop {
        let folder = trash.join(format!("{seconds}-{number}"));
        if fs::create_folder_new(&folder)? {
            return Ok(folder);
        }
        number += 1;
    }
}

/// What is about to be moved: it is written first, so a thing that it names may still be in its place.
fn record_text(rubbish: &[Rubbish]) -> String {
    let entry = |thing: &Rubbish| {
        let Rubbish { kind, path, bytes, why, manifest, subject: _ } = thing;
        json!({"from": path.display().to_string(), "kind": kind.name(), "bytes": bytes, "why": why, "manifest": manifest})
    };
    let moved = Value::Array(rubbish.iter().map(entry).collect());
    record::seal(Map::from_iter([("at".to_owned(), json!(now())), ("moved".to_owned(), moved)]))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
