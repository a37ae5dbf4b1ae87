//! Files of a commit come into the cache, one after the other, each from where an earlier download ended.
//!
//! In: files with their digests and sizes. Out: blobs and links to them. Invariants: a file has its name in the cache only
//! once it is whole and was checked; of several processes one fetches a file, and the others wait for it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::client::{Client, Remote, Tries};
use super::digest::BlobName;
use super::http::Fault;
use super::layout::{Layout, Pinned};
use super::{HubError, Settings};
use crate::store::{self, Growing, Guard, free_space, human_bytes, link_relative, take_guard};

/// Bytes after which a download that breaks off again is one that gets on.
const GETS_ON: u64 = 1 << 20;
/// How often progress is told.
const EVERY: Duration = Duration::from_millis(250);

/// What is told while files come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Files begin to come.
    Begin {
        /// How many bytes all of them have.
        bytes: u64,
    },
    /// Some have come.
    Progress {
        /// How many bytes are there, of all files.
        done: u64,
        /// The file, its bytes, the rate.
        text: String,
    },
    /// Something that the user should see.
    Note(String),
}

/// Who waits for files.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Whether to stop; what has come is kept.
    pub stop: &'a dyn Fn() -> bool,
    /// Is told how it goes.
    pub tell: &'a dyn Fn(Told),
}

impl Watch<'static> {
    /// Nobody: it is told nothing and never stops.
    pub const NOBODY: Self = Self { stop: &|| false, tell: &|_| {} };
}

/// The name that the bytes of a file have.
pub(super) fn named(path: &Path, like: &BlobName, stop: &dyn Fn() -> bool) -> Result<BlobName, HubError> {
    let bad = |source| HubError::Read { path: path.into(), source };
    let file = File::open(path).map_err(bad)?;
    let size = file.metadata().map_err(bad)?.len();
    like.of(file, size, |_| !stop()).map_err(bad)?.ok_or(HubError::Stopped)
}

/// Fetches files of one commit.
pub(super) struct Fetcher<'a> {
    pub settings: &'a Settings,
    pub client: Client,
    pub repo: &'a Pinned,
    pub layout: &'a Layout,
    pub watch: Watch<'a>,
}

impl Fetcher<'_> {
    /// Fetches those of some files that are not there.
    ///
    /// # Errors
    /// When one cannot be had, or there is no space for them.
    pub fn get(&self, files: &[&Remote]) -> Result<(), HubError> {
        let mut wanted: Vec<&Remote> = Vec::new();
        for file in files {
            let path = self.layout.file(&file.name);
            if !path.is_file() || named(&path, &file.blob, self.watch.stop)? != file.blob {
                wanted.push(file);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let here = |file: &&Remote| -> u64 {
            let length = |path: PathBuf| store::fs::file_length(&path).ok().flatten();
            let whole = length(self.layout.blob(&file.blob)).filter(|length| *length == file.size);
            whole.or_else(|| length(self.layout.incomplete(&file.blob))).unwrap_or(0).min(file.size)
        };
        let total: u64 = wanted.iter().map(|file| file.size).sum();
        let needed = total - wanted.iter().map(here).sum::<u64>();
        let folder = self.settings.cache.clone();
        if let Some(free) =
            free_space(&folder).ok().and_then(|space| space.bytes).filter(|free| *free < needed)
        {
            return Err(HubError::Space { repo: self.repo.clone().into(), needed, free, folder });
        }
        (self.watch.tell)(Told::Begin { bytes: total });
        let mut before = 0;
        for file in wanted {
            self.one(file, before)?;
            before += file.size;
        }
        Ok(())
    }

    /// Brings one file here, or finds that another process has.
    fn one(&self, file: &Remote, before: u64) -> Result<(), HubError> {
        let _guard = self.guard(file)?;
        let blob = self.layout.blob(&file.blob);
        if blob.is_file() && named(&blob, &file.blob, self.watch.stop)? != file.blob {
            store::fs::remove_file(&blob).map_err(HubError::Cache)?;
        }
        if !blob.is_file() {
            self.download(file, &blob, before)?;
        }
        link_relative(&Layout::link(&file.name, &file.blob), &self.layout.file(&file.name))
            .map_err(HubError::Cache)
    }

    /// Waits until no other process fetches the file.
    fn guard(&self, file: &Remote) -> Result<Guard, HubError> {
        let mut told = false;
        loop {
            if let Some(guard) = take_guard(&self.layout.lock(&file.blob)).map_err(HubError::Cache)? {
                return Ok(guard);
            }
            if !std::mem::replace(&mut told, true) {
                let note = format!("waits: another process is fetching {} of {}", file.name, self.repo);
                (self.watch.tell)(Told::Note(note));
            }
            if (self.watch.stop)() {
                return Err(HubError::Stopped);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Downloads a file, from where an earlier download ended, and gives it its name once it was checked.
    fn download(&self, file: &Remote, blob: &Path, before: u64) -> Result<(), HubError> {
        let url = self.client.address(self.repo, &file.name);
        let path = self.layout.incomplete(&file.blob);
        let mut partial = Growing::open(&path).map_err(HubError::Cache)?;
        let mut tries = Tries::new(self.settings);
        let mut again = true;
        loop {
            let start = partial.length().map_err(HubError::Cache)?;
            match self.go_on(file, &mut partial, before) {
                Ok(()) => {}
                Err(fault) => {
                    let now = partial.length().map_err(HubError::Cache)?;
                    if now >= start + GETS_ON {
                        tries.reset();
                    }
                    tries.after(fault, &url, now, self.watch.stop)?;
                    continue;
                }
            }
            let is = named(&path, &file.blob, self.watch.stop)?;
            if is == file.blob {
                return partial.publish(blob).map_err(HubError::Cache);
            }
            partial.restart().map_err(HubError::Cache)?;
            let error = HubError::Digest {
                repo: self.repo.clone().into(),
                file: file.name.clone(),
                method: file.blob.method(),
                expected: file.blob.to_string(),
                found: is.to_string(),
            };
            if !std::mem::replace(&mut again, false) {
                store::fs::remove_file(&path).map_err(HubError::Cache)?;
                return Err(error);
            }
            (self.watch.tell)(Told::Note(format!("{error}: it is fetched again")));
        }
    }

    /// Appends what is missing of a file; it is of the right length then.
    fn go_on(&self, file: &Remote, partial: &mut Growing, before: u64) -> Result<(), Fault> {
        let mut have = partial.length().map_err(HubError::Cache)?;
        if have > file.size {
            partial.restart().map_err(HubError::Cache)?;
            have = 0;
        }
        if have == file.size {
            return Ok(());
        }
        let answer = self.client.open(self.repo, &file.name, have, self.watch.stop)?;
        let goes_on =
            answer.head.status == 206 && continues(answer.head.header("content-range"), have, file.size);
        if have > 0 && !goes_on {
            partial.restart().map_err(HubError::Cache)?;
            have = 0;
            // All of the file comes, or something else: then it is asked for anew.
            if answer.head.status != 200 {
                return Err(Fault::Passing("it does not go on where it was asked to".into(), None));
            }
        }
        let mut meter = Meter::new(file, have, before);
        while let Some(bytes) = answer.next(self.watch.stop)? {
            have += bytes.len() as u64;
            if have > file.size {
                partial.restart().map_err(HubError::Cache)?;
                return Err(Fault::Passing(format!("more came than its {} bytes", file.size), None));
            }
            partial.append(&bytes).map_err(HubError::Cache)?;
            if let Some(told) = meter.passed(have) {
                (self.watch.tell)(told);
            }
        }
        if have < file.size {
            return Err(Fault::Passing(format!("it ended after {have} of {} bytes", file.size), None));
        }
        Ok(())
    }
}

/// Whether an answer's range is the rest of a file from a position on.
fn continues(range: Option<&str>, from: u64, size: u64) -> bool {
    let parts = range.and_then(|range| range.trim().strip_prefix("bytes ")).and_then(|range| {
        let (span, total) = range.split_once('/')?;
        Some((span.split_once('-')?.0.parse::<u64>().ok()?, total.parse::<u64>().ok()))
    });
    parts.is_some_and(|(start, total)| start == from && total.is_none_or(|total| total == size))
}

/// Measures how fast a file comes.
struct Meter<'a> {
    file: &'a Remote,
    before: u64,
    start: (Instant, u64),
    told: Option<Instant>,
}

impl<'a> Meter<'a> {
    fn new(file: &'a Remote, have: u64, before: u64) -> Self {
        Self { file, before, start: (Instant::now(), have), told: None }
    }

    /// What is worth telling when so many bytes are there.
    fn passed(&mut self, have: u64) -> Option<Told> {
        if have < self.file.size && self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return None;
        }
        self.told = Some(Instant::now());
        let seconds = self.start.0.elapsed().as_secs_f64().max(1e-3);
        let rate = human_bytes(((have - self.start.1) as f64 / seconds) as u64);
        let Remote { name, size, .. } = self.file;
        let text = format!("{name}: {} of {}, {rate}/s", human_bytes(have), human_bytes(*size));
        Some(Told::Progress { done: self.before + have, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_goes_on_begins_where_it_was_asked_to() {
        assert!(continues(Some("bytes 5-9/10"), 5, 10) && continues(Some("bytes 5-9/*"), 5, 10));
        for range in [None, Some("bytes 0-9/10"), Some("bytes 5-9/11"), Some("5-9/10"), Some("bytes 5")] {
            assert!(!continues(range, 5, 10), "{range:?}");
        }
    }
}
