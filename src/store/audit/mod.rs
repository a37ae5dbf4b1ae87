//! The audit: reads every byte of the store and says what is damaged.
//!
//! In: a results folder. Out: findings, sorted by path, and how much was verified. Nothing is changed without `repair`,
//! and a repair only moves to quarantine: it removes nothing, touches nothing that is in use, and leaves alone what a
//! newer program wrote or what cannot be read.
//!
//! The store may be at work meanwhile: what is found damaged is looked at again when its marker has changed since.

mod check;
mod run;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layout::{DONE, Layout, Stage};
use super::leased::{Footing, Live, Subject};
use super::{FORMAT, FORMAT_PREFIX, Home, Store, StoreError, fs, short};
use check::{Fault, Tally};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Bytes that are not those written.
    Damaged,
    /// Something that is named elsewhere and is not there.
    Missing,
    /// A record of a newer program: it cannot be judged.
    Newer,
    /// Something that the system does not let us read.
    Unreadable,
    /// Something that belongs to nobody.
    Unknown,
    /// Something that a process left behind.
    Leftover,
    /// What was moved aside: quarantine and trash.
    Aside,
}

impl FindingKind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Newer => "newer",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
            Self::Leftover => "leftover",
            Self::Aside => "aside",
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A result is damaged.
    Damage,
    /// Something could not be judged.
    Error,
    /// Worth knowing; nothing is wrong.
    Note,
}

impl Severity {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Error => "error",
            Self::Note => "note",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// Where, relative to the results folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// Where a repair moved it, relative to the results folder.
    pub moved_to: Option<PathBuf>,
}

/// How much was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Bases, scores and masks.
    pub artifacts: u64,
    /// Runs, finished or not.
    pub runs: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Files that were read to their end.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The outcome of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The store's format; none when it is not stated or damaged.
    pub format: Option<u64>,
    /// How much was verified.
    pub checked: Checked,
    /// What was found, by path.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Whether everything could be judged and nothing was damaged, moved aside by now or not.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }
}

/// Audits the store in `results`. With `repair`, what is damaged is moved to quarantine, and a damaged result loses its
/// marker first, so that the next sweep makes it again.
///
/// # Errors
/// When the store as a whole has a newer format, or cannot be read at all, or nothing can be moved.
pub fn audit(results: &Path, repair: bool) -> Result<Audit, StoreError> {
    let mut home = Home::new(results, false);
    home.notify = std::sync::Arc::new(|_| {});
    let mut found = Audit::default();
    if !fs::exists(&home.layout.root()) {
        return Ok(found);
    }
    home.writable = repair;
    read_format(&home, &mut found)?;
    if repair {
        // Opening brings an earlier format up to date, and finds out whether anything can be moved.
        home = Store::open(results)?.with_notices(|_| {}).home;
        if found.format.is_some() {
            found.format = Some(FORMAT);
        }
    }
    let store = Store { home: home.clone() };
    let live = Live::look(&store, &BTreeMap::new())?;
    let mut auditor = Auditor { home, store, repair, live, found, needed: BTreeMap::new() };
    auditor.everything()?;
    let Auditor { mut found, .. } = auditor;
    found.findings.sort_by(|left, right| {
        (&left.path, left.kind, &left.what).cmp(&(&right.path, right.kind, &right.what))
    });
    Ok(found)
}

/// Reads the number of the format. One that is damaged is moved aside by a repair, and the oldest is written in its place:
/// steps that bring a store up to date change nothing where they were done before.
fn read_format(home: &Home, found: &mut Audit) -> Result<(), StoreError> {
    let path = home.layout.format();
    let Some(bytes) = fs::read_optional(&path)? else {
        let layout = &home.layout;
        let empty = |folder: PathBuf| Ok::<_, StoreError>(fs::list(&folder)?.is_empty());
        let mut holds_nothing = empty(layout.runs())?;
        for stage in Stage::ALL {
            holds_nothing &= empty(layout.stage(stage))?;
        }
        if !holds_nothing {
            let what = "the store does not state its format; the next sweep writes it".to_owned();
            let path = relative(layout, &path);
            let (kind, severity) = (FindingKind::Missing, Severity::Note);
            found.findings.push(Finding { kind, severity, path, what, moved_to: None });
        }
        return Ok(());
    };
    found.checked.files += 1;
    found.checked.bytes += bytes.len() as u64;
    let text = String::from_utf8_lossy(&bytes);
    let number = text.strip_prefix(FORMAT_PREFIX).and_then(|rest| rest.trim_end().parse::<u64>().ok());
    match number {
        Some(number) if number > FORMAT => {
            return Err(StoreError::Newer { path, found: number, known: FORMAT });
        }
        Some(number) if number > 0 => found.format = Some(number),
        _ => {
            let what = format!("it says {:?}", text.trim_end());
            let mut moved_to = None;
            if home.writable {
                let moved = home.quarantine(&path, "format", &format!("the format is damaged: {what}"))?;
                moved_to = moved.map(|to| relative(&home.layout, &to));
                fs::publish_file(&path, format!("{FORMAT_PREFIX}1\n").as_bytes())?;
            }
            let path = relative(&home.layout, &path);
            let (kind, severity) = (FindingKind::Damaged, Severity::Damage);
            found.findings.push(Finding { kind, severity, path, what, moved_to });
        }
    }
    Ok(())
}

/// A path relative to the results folder.
fn relative(layout: &Layout, path: &Path) -> PathBuf {
    path.strip_prefix(layout.results()).unwrap_or(path).to_path_buf()
}

/// An audit under way.
struct Auditor {
    home: Home,
    store: Store,
    repair: bool,
    live: Live,
    found: Audit,
    /// Artifacts that finished runs stand on, with the first of these runs and how many there are.
    needed: BTreeMap<(Stage, String), (String, u64)>,
}

/// What is moved aside together, in this order, and under which names.
struct Unit {
    paths: Vec<(PathBuf, String)>,
    subject: Subject,
}

impl Auditor {
    fn everything(&mut self) -> Result<(), StoreError> {
        for stage in Stage::ALL {
            for name in self.folders(&self.home.layout.stage(stage))? {
                self.artifact(stage, &name)?;
            }
        }
        for name in self.folders(&self.home.layout.runs())? {
            self.run(&name)?;
        }
        for ((stage, id), (run, runs)) in std::mem::take(&mut self.needed) {
            let folder = self.home.layout.artifact(stage, &id);
            if !fs::exists(&folder) {
                let others = if runs > 1 { format!(" and {} more", runs - 1) } else { String::new() };
                let what = format!(
                    "finished run {}{others} was made with it; only a run that needs it again makes it again",
                    short(&run)
                );
                self.note(FindingKind::Missing, &folder, what);
            }
        }
        self.leases()?;
        self.surroundings()
    }

    fn artifact(&mut self, stage: Stage, id: &str) -> Result<(), StoreError> {
        let folder = self.home.layout.artifact(stage, id);
        let marker = folder.join(DONE);
        let (faults, seen) = check::steady(&marker, &folder, || check::artifact(&folder, stage, id));
        self.found.checked.artifacts += u64::from(seen.is_some());
        let whole = faults.is_empty();
        let name = format!("{}-{}", stage.name(), short(id));
        let subject = Subject::Artifact(stage, id.to_owned());
        self.settle(faults, &Unit { paths: vec![(folder.clone(), name)], subject })?;
        if let Some(seen) = seen {
            self.count(seen.tally);
            if whole {
                self.strangers(&folder, &|name| name == DONE || seen.marker.files.contains_key(name));
            }
        }
        Ok(())
    }

    fn count(&mut self, tally: Tally) {
        self.found.checked.files += tally.files;
        self.found.checked.bytes += tally.bytes;
    }

    /// Reports what is wrong with a unit, and moves it aside where that is asked for, safe and of use.
    fn settle(&mut self, faults: Vec<Fault>, unit: &Unit) -> Result<bool, StoreError> {
        let damaged = faults.iter().any(|fault| fault.severity() == Severity::Damage);
        let judged = faults.iter().all(|fault| fault.severity() != Severity::Error);
        let mut moved_to = None;
        let in_use = damaged && self.repair && self.is_in_use(&unit.subject)?;
        if damaged && judged && self.repair && !in_use {
            let why = faults.iter().map(|fault| format!("{}: {}", fault.path.display(), fault.what));
            let why = why.collect::<Vec<_>>().join("\n");
            for (path, name) in &unit.paths {
                let moved = self.home.quarantine(path, name, &why)?;
                moved_to = moved.map(|to| relative(&self.home.layout, &to)).or(moved_to);
            }
        }
        for fault in faults {
            let suffix = if in_use { "; in use, so it was left in place" } else { "" };
            self.found.findings.push(Finding {
                kind: fault.kind,
                severity: fault.severity(),
                path: relative(&self.home.layout, &fault.path),
                what: format!("{}{suffix}", fault.what),
                moved_to: moved_to.clone(),
            });
        }
        Ok(moved_to.is_some())
    }

    /// Reading takes long: who came in the meantime counts.
    fn is_in_use(&mut self, subject: &Subject) -> Result<bool, StoreError> {
        if self.live.is_outdated(&self.home)? {
            self.live = Live::look(&self.store, &BTreeMap::new())?;
        }
        Ok(self.live.holds(subject))
    }

    fn note(&mut self, kind: FindingKind, path: &Path, what: String) {
        let path = relative(&self.home.layout, path);
        self.found.findings.push(Finding { kind, severity: Severity::Note, path, what, moved_to: None });
    }
}

/// What finished runs stand on, for the note about what is gone.
fn remember(needed: &mut BTreeMap<(Stage, String), (String, u64)>, run: &str, footing: &Footing) {
    for key in &footing.artifacts {
        needed.entry(key.clone()).or_insert_with(|| (run.to_owned(), 0)).1 += 1;
    }
}
