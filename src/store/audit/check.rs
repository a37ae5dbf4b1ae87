//! Whether one thing is what its marker says: an artifact, a checkpoint, a result, a record.
//!
//! In: paths. Out: faults, and what was read. Nothing is changed. Files are digested in pieces, so their size does not
//! matter; only rows are read whole.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::super::layout::{DONE, EVALS, METRICS, Stage};
use super::super::record::{self, FileRecord, Marker};
use super::super::rows::RowsMark;
use super::super::{StoreError, checkpoint, fs};
use super::{FindingKind, Severity};

/// Something that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub kind: FindingKind,
    pub path: PathBuf,
    pub what: String,
}

impl Fault {
    pub fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self { kind: FindingKind::Damaged, path: path.to_path_buf(), what: what.into() }
    }

    pub fn severity(&self) -> Severity {
        match self.kind {
            FindingKind::Newer | FindingKind::Unreadable => Severity::Error,
            _ => Severity::Damage,
        }
    }

    fn of_io(path: &Path, error: &io::Error) -> Self {
        let (kind, what) = match error.kind() {
            io::ErrorKind::NotFound => (FindingKind::Missing, "it is missing".to_owned()),
            io::ErrorKind::IsADirectory => {
                (FindingKind::Damaged, "a folder lies where a file belongs".to_owned())
            }
            io::ErrorKind::NotADirectory => {
                (FindingKind::Damaged, "a file lies where a folder belongs".to_owned())
            }
            _ => (FindingKind::Unreadable, error.to_string()),
        };
        Self { kind, path: path.to_path_buf(), what }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { path, what } => Self::damaged(&path, what),
            StoreError::Newer { path, found, known } => {
                let what = format!(
                    "format {found}, but this program reads formats up to {known}: it was left alone"
                );
                Self { kind: FindingKind::Newer, path, what }
            }
            StoreError::DiskFull { path, source, .. }
            | StoreError::Denied { path, source, .. }
            | StoreError::ReadOnly { path, source, .. }
            | StoreError::NotAFolder { path, source, .. }
            | StoreError::Io { path, source, .. } => Self::of_io(&path, &source),
            other => Self { kind: FindingKind::Unreadable, path: PathBuf::new(), what: other.to_string() },
        }
    }
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub files: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What a marker led to.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub marker: Marker,
    pub tally: Tally,
}

/// Faults, and what the marker led to when it could be read.
pub(super) type Outcome = (Vec<Fault>, Option<Seen>);

/// Checks again when the marker has changed meanwhile: somebody is at work, and what was read belonged to two times.
pub(super) fn steady(marker: &Path, folder: &Path, check: impl Fn() -> Outcome) -> Outcome {
    let stamp = || (fs::exists(folder), fs::read_optional(marker).ok().flatten());
    let mut outcome = (Vec::new(), None);
    for _ in 0..5 {
        let before = stamp();
        outcome = check();
        if outcome.0.is_empty() || stamp() == before {
            break;
        }
    }
    outcome
}

/// An artifact, every byte of it.
pub(super) fn artifact(folder: &Path, stage: Stage, id: &str) -> Outcome {
    if !fs::exists(folder) {
        return (Vec::new(), None);
    }
    with_marker(folder, &folder.join(DONE), stage.name(), id)
}

/// A checkpoint, every byte of it, and the rows that it vouches for.
pub(super) fn checkpoint(
    folder: &Path,
    attempt_folder: &Path,
    run: &str,
    attempt: u32,
    step: u32,
) -> Outcome {
    if !fs::exists(folder) {
        return (Vec::new(), None);
    }
    let path = folder.join(DONE);
    let (mut faults, seen) = with_marker(folder, &path, checkpoint::KIND, run);
    let Some(seen) = seen else { return (faults, None) };
    let stated = |key: &str| seen.marker.detail[key].as_u64();
    if stated("step") != Some(u64::from(step)) {
        faults.push(Fault::damaged(&path, format!("it is not that of step {step}")));
    }
    // An attempt holds the checkpoint of an earlier one that it went on from.
    if !stated("attempt").is_some_and(|by| (1..=u64::from(attempt)).contains(&by)) {
        faults.push(Fault::damaged(&path, format!("it is not of attempt {attempt} or one before")));
    }
    for (key, file) in [("metrics", METRICS), ("evals", EVALS)] {
        let rows = match mark(&seen.marker, key) {
            Some(mark) => mark.prefix(&attempt_folder.join(file)).map(|_| ()),
            None => Err(StoreError::damaged(&path, format!("it lacks the mark of {file}"))),
        };
        // The fault is told of the checkpoint: it is the checkpoint that is of no use without its rows.
        if let Err(error) = rows {
            let fault = Fault::from(error);
            let what = format!("its rows in {file}: {}", fault.what);
            faults.push(Fault { path: folder.to_path_buf(), what, ..fault });
        }
    }
    (faults, Some(seen))
}

/// How far the rows of a kind had been written at a checkpoint.
pub(super) fn mark(marker: &Marker, key: &str) -> Option<RowsMark> {
    RowsMark::from_value(&marker.detail[key])
}

/// The result of a finished run: its marker, the attempt that the marker names, and every file of it.
pub(super) fn result(marker_path: &Path, run: &str, attempt_folder: impl Fn(u32) -> PathBuf) -> Outcome {
    let marker = match read_marker(marker_path, "run", run) {
        Ok(marker) => marker,
        Err(fault) if fault.kind == FindingKind::Missing => return (Vec::new(), None),
        Err(fault) => return (vec![fault], None),
    };
    let Some(attempt) = attempt_of(&marker) else {
        return (vec![Fault::damaged(marker_path, "it does not say which attempt finished")], None);
    };
    let folder = attempt_folder(attempt);
    let (mut faults, tally) = files(&folder, marker_path, &marker);
    for (file, key) in [(METRICS, "metrics_digest"), (EVALS, "evals_digest")] {
        let path = folder.join(file);
        let listed = marker.files.contains_key(file);
        if !listed {
            faults.push(Fault::damaged(marker_path, format!("it does not name {file}")));
        } else if faults.iter().all(|fault| fault.path != path) {
            let digest = rows(&path).map(|rows| record::reproducible_digest(&rows));
            match digest {
                Ok(digest) if marker.detail[key].as_str().is_none_or(|stated| stated == digest) => {}
                Ok(_) => {
                    faults.push(Fault::damaged(&path, format!("its rows do not fit {key} in the marker")));
                }
                Err(fault) => faults.push(fault),
            }
        }
    }
    (faults, Some(Seen { marker, tally }))
}

/// The attempt that a run's marker names.
pub(super) fn attempt_of(marker: &Marker) -> Option<u32> {
    marker.detail["attempt"].as_u64().and_then(|number| u32::try_from(number).ok())
}

/// The rows of a file.
pub(super) fn rows(path: &Path) -> Result<Vec<record::Row>, Fault> {
    Ok(record::parse_rows(&fs::read(path)?, path)?)
}

/// A sealed record; its length when it is whole, nothing when it is not there.
pub(super) fn sealed(path: &Path) -> Result<Option<u64>, Fault> {
    let Some(bytes) = fs::read_optional(path)? else { return Ok(None) };
    record::unseal(&bytes, path)?;
    Ok(Some(bytes.len() as u64))
}

fn read_marker(path: &Path, kind: &str, id: &str) -> Result<Marker, Fault> {
    Ok(Marker::parse(&fs::read(path)?, kind, id, path)?)
}

fn with_marker(folder: &Path, path: &Path, kind: &str, id: &str) -> Outcome {
    match read_marker(path, kind, id) {
        Ok(marker) => {
            let (faults, tally) = files(folder, path, &marker);
            (faults, Some(Seen { marker, tally }))
        }
        Err(fault) if fault.kind == FindingKind::Missing => {
            let what = "it has no completion marker".to_owned();
            (vec![Fault { path: folder.to_path_buf(), what, ..fault }], None)
        }
        Err(fault) => (vec![fault], None),
    }
}

/// Every file that a marker names. The marker itself counts as read.
fn files(folder: &Path, marker_path: &Path, marker: &Marker) -> (Vec<Fault>, Tally) {
    let (mut faults, mut tally) = (Vec::new(), Tally::default());
    tally.add(fs::file_length(marker_path).ok().flatten().unwrap_or(0));
    for (name, expected) in &marker.files {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            faults.push(Fault::damaged(marker_path, format!("it names {name:?}, which is no plain name")));
            continue;
        }
        match file(&folder.join(name), expected) {
            Ok(bytes) => tally.add(bytes),
            Err(fault) => faults.push(fault),
        }
    }
    (faults, tally)
}

/// One file, in pieces.
fn file(path: &Path, expected: &FileRecord) -> Result<u64, Fault> {
    let mut hasher = blake3::Hasher::new();
    let opened = File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    opened.map_err(|error| Fault::of_io(path, &error))?;
    let bytes = hasher.count();
    if bytes != expected.bytes {
        return Err(Fault::damaged(path, format!("{bytes} bytes instead of {}", expected.bytes)));
    }
    if hasher.finalize().to_hex().as_str() != expected.blake3 {
        return Err(Fault::damaged(path, "its content does not fit the digest in its marker"));
    }
    Ok(bytes)
}
