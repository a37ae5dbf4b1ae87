//! The store: every byte that a run leaves on the disk, and the only room that writes files.
//!
//! In: ids, bytes and rows from the trainers. Out: artifacts, checkpoints, rows and states, verified on first use.
//!
//! Invariants: a completion marker (`DONE.json`) is written last and states the size and blake3 digest of every file,
//! so what has a valid marker is complete; an attempt writes only inside its own folder; the first complete result
//! wins, an identical second one is fine, a different second one goes to quarantine and is reported; nothing that was
//! acknowledged is ever replaced or lost; a run's state is derived from its files and stored nowhere else. Leases save
//! double work among several workers; correctness does not rest on them.
//!
//! The folder layout is drawn in [`layout`].

mod artifact;
mod attempt;
mod audit;
mod checkpoint;
mod class;
mod disk;
mod downloads;
mod error;
#[cfg(test)]
mod faults;
pub mod fs;
mod gc;
pub mod layout;
mod lease;
mod leased;
mod lone_file;
mod look;
mod measure;
mod new_artifact;
mod new_folder;
mod observer;
mod process;
mod record;
mod relative;
mod rows;
mod scratch;
mod space;
mod status;
mod upgrade;

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub use artifact::Artifact;
pub use attempt::Attempt;
pub use audit::{Audit, Checked, Finding, FindingKind, Severity, audit};
pub use checkpoint::Checkpoint;
pub use class::{Class, FIELDS as CLASS_FIELDS, RunClasses, class_of_run, classes_of, differing};
pub use downloads::{Growing, Guard, link_relative, take_guard};
pub use error::StoreError;
pub use fs::write_file;
pub use gc::{Collected, Marked, Rubbish, RubbishKind, Scope, Trash};
pub use layout::Stage;
pub use lease::{Asked, Claim, Lease, Terms, run_task, stage_task};
pub use leased::Footing;
pub use lone_file::LoneFile;
pub use measure::{human_bytes, human_duration};
pub use new_artifact::{ArtifactFile, NewArtifact};
pub use new_folder::{NewFile, NewFolder};
pub use observer::{Observer, Sighting, Standing};
pub use process::{Life, Process};
pub use record::{FileRecord, Row, TRANSCRIPTS, canonical, digest, is_measured, reproducible_digest};
pub use relative::{Relative, SavedState};
pub use scratch::Scratch;
pub use space::{FreeSpace, free_space};
pub use status::{RunRows, RunState, failure_record, tail};

use layout::Layout;

/// What the `format` file of a store says, before the number.
const FORMAT_PREFIX: &str = "tickets-store ";
/// The layout's format. A store with a newer one is refused, one with an older one is upgraded before it is written to.
const FORMAT: u64 = 2;

/// What the store and everything it hands out have in common.
#[derive(Clone)]
struct Home {
    layout: Layout,
    writable: bool,
    notify: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The results folder and the store inside it.
#[derive(Clone)]
pub struct Store {
    home: Home,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Home { layout, writable, notify: _ } = &self.home;
        out.debug_struct("Store").field("results", &layout.results()).field("writable", writable).finish()
    }
}

impl Store {
    /// Opens the store in `results` for writing and creates it where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be created or written, or holds a newer format.
    pub fn open(results: &Path) -> Result<Self, StoreError> {
        let store = Self { home: Home::new(results, true) };
        let layout = &store.home.layout;
        fs::create_folders(results)?;
        match fs::sync_folder(fs::parent(results)) {
            // A folder that may be entered and not read: its names are the business of whoever made it.
            Ok(()) | Err(StoreError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        fs::create_folders_in(results, &layout.root())?;
        fs::probe_writable(&layout.root())?;
        if fs::read_optional(&layout.format())?.is_none() {
            fs::publish_file(&layout.root().join(".gitignore"), b"*\n")?;
            fs::publish_file(&layout.format(), format!("{FORMAT_PREFIX}{FORMAT}\n").as_bytes())?;
        }
        if store.check_format()? == Some(1) {
            store.upgrade_from_1()?;
            fs::replace(&layout.format(), format!("{FORMAT_PREFIX}{FORMAT}\n").as_bytes())?;
        }
        for stage in Stage::ALL {
            fs::create_folders(&layout.stage(stage))?;
        }
        for folder in [layout.runs(), layout.leases(), layout.quarantine()] {
            fs::create_folders(&folder)?;
        }
        fs::sync_folder(&layout.root())?;
        Ok(store)
    }

    /// Opens the store in `results` without creating or changing anything. A store that does not exist is an empty one.
    ///
    /// # Errors
    /// When the folder cannot be read or holds a newer format.
    pub fn open_read_only(results: &Path) -> Result<Self, StoreError> {
        let store = Self { home: Home::new(results, false) };
        store.check_format()?;
        Ok(store)
    }

    /// Fails when there is no store, for commands to which an empty one would be a mistake.
    ///
    /// # Errors
    /// [`StoreError::NoStore`].
    pub fn expect_some(self) -> Result<Self, StoreError> {
        if fs::exists(&self.home.layout.root()) {
            return Ok(self);
        }
        Err(StoreError::NoStore { path: self.results().to_path_buf() })
    }

    /// Sends what the store has to say (damage, fallbacks, contradictions) elsewhere than to stderr.
    #[must_use]
    pub fn with_notices(mut self, notify: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.home.notify = Arc::new(notify);
        self
    }

    /// The results folder.
    pub fn results(&self) -> &Path {
        self.home.layout.results()
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.home.layout
    }

    /// Writes a file below the results folder, atomically; the last writer wins.
    ///
    /// # Errors
    /// When `relative` leaves the folder or names the store, or the file cannot be written.
    pub fn write_result(&self, relative: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.home.writable()?;
        let mut components = relative.components();
        let first = components.next();
        let inside = matches!(first, Some(Component::Normal(name)) if name != ".store")
            && components.all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(StoreError::BadName { name: relative.display().to_string() });
        }
        let path = self.results().join(relative);
        fs::create_folders_in(self.results(), fs::parent(&path))?;
        fs::replace_by_way_of(&self.home.layout.root(), &path, bytes)
    }

    /// The names of what lies in quarantine.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn quarantined(&self) -> Result<Vec<String>, StoreError> {
        let mut names = fs::list(&self.home.layout.quarantine())?;
        names.retain(|name| !name.ends_with(REASON) && !name.starts_with(fs::TEMPORARY));
        Ok(names)
    }

    /// Removes temporary files and folders that processes of this host left behind when they were killed. Those of other
    /// hosts are left to them, and to `gc`.
    pub fn remove_leftovers(&self) {
        let tree = walkdir::WalkDir::new(self.home.layout.root()).max_depth(6);
        for entry in tree.into_iter().filter_map(Result::ok).filter(|entry| entry.depth() > 0) {
            if fs::life_of_maker(&entry.file_name().to_string_lossy()) == Some(Life::Dead) {
                // What cannot be removed is left for the next time.
                let _ = fs::remove_leftover(entry.path());
            }
        }
        // What a sweep that was killed had before it is nobody's any more; leases of tasks go when they are taken over.
        for claim in self.claims().unwrap_or_default().into_values().filter(Claim::is_sweep) {
            if claim.glance(std::time::SystemTime::now()) == Standing::Dead {
                let _ = fs::remove_file(&claim.path);
            }
        }
    }

    /// The store's format; `None` where there is no store yet.
    fn check_format(&self) -> Result<Option<u64>, StoreError> {
        let path = self.home.layout.format();
        let Some(bytes) = fs::read_optional(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let number = text.strip_prefix(FORMAT_PREFIX).and_then(|rest| rest.trim_end().parse::<u64>().ok());
        match number {
            Some(known) if (1..=FORMAT).contains(&known) => Ok(Some(known)),
            Some(found) if found > FORMAT => Err(StoreError::Newer { path, found, known: FORMAT }),
            _ => Err(StoreError::damaged(&path, format!("it says {:?}", text.trim_end()))),
        }
    }
}

/// Ending of the file that says why something is in quarantine.
const REASON: &str = ".reason.txt";

impl Home {
    fn new(results: &Path, writable: bool) -> Self {
        let notify = Arc::new(|line: &str| eprintln!("warning: {line}"));
        Self { layout: Layout::new(results), writable, notify }
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.writable {
            return Ok(());
        }
        Err(StoreError::OpenedReadOnly { path: self.layout.results().to_path_buf() })
    }

    /// Creates folders in the store, durably, those on the way to them included.
    fn create_folders(&self, path: &Path) -> Result<(), StoreError> {
        fs::create_folders_in(&self.layout.root(), path)
    }

    fn notice(&self, line: &str) {
        (self.notify)(line);
    }

    /// Moves something aside under `<name>-<k>` and says why. That it is already gone is fine: another did the same.
    fn quarantine(&self, path: &Path, name: &str, why: &str) -> Result<Option<PathBuf>, StoreError> {
        self.writable()?;
        let folder = self.layout.quarantine();
        self.create_folders(&folder)?;
        let mut number = 1;
        loop {
            let target = folder.join(format!("{name}-{number}"));
            if fs::exists(&target)
                || !fs::publish_file(&with_ending(&target, REASON), format!("{why}\n").as_bytes())?
            {
                number += 1;
                continue;
            }
            if !fs::exists(path) {
                fs::remove_file(&with_ending(&target, REASON))?;
                return Ok(None);
            }
            match fs::rename(path, &target) {
                Ok(()) => {}
                // Another moved it in this very moment.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    fs::remove_file(&with_ending(&target, REASON))?;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
            self.notice(&format!("{why}; moved to {}", target.display()));
            return Ok(Some(target));
        }
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The first digits of an id, for messages.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
