//! The files of a dataset's split on this machine: found in the cache, and with the feature `torch` fetched and checked.
//!
//! In: a dataset of a manifest. Out: its files in the order of their rows, each with the digest that names it.
//! Invariants: which files these are follows from the list of the commit's files alone, which is kept in the cache, so
//! that a cache with a part of them gives the same answer or none; only files that are needed come.

use std::path::{Path, PathBuf};

use super::HubError;
use super::choose::choose;
use super::digest::BlobName;
use super::layout::{Layout, Pinned};
use crate::task::HubDataset;

/// A file of rows in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its name in the repository.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The digest of its bytes, where it is known.
    blob: Option<BlobName>,
}

impl DataFile {
    /// Checks bytes that were read from it. Without the feature `torch`, which brings the digests, they are believed.
    ///
    /// # Errors
    /// [`HubError::Damaged`] when they are not those that the commit has.
    #[cfg(feature = "torch")]
    pub fn check(&self, bytes: &[u8]) -> Result<(), HubError> {
        let Some(blob) = &self.blob else { return Ok(()) };
        let read = |source| HubError::Read { path: self.path.clone(), source };
        match blob.of(bytes, bytes.len() as u64, |_| true).map_err(read)? {
            Some(found) if found != *blob => Err(self.damaged(blob, &found)),
            _ => Ok(()),
        }
    }

    /// Checks bytes that were read from it. Without the feature `torch`, which brings the digests, they are believed.
    ///
    /// # Errors
    /// None here.
    #[cfg(not(feature = "torch"))]
    pub fn check(&self, _: &[u8]) -> Result<(), HubError> {
        Ok(())
    }

    #[cfg(feature = "torch")]
    fn damaged(&self, expected: &BlobName, found: &BlobName) -> HubError {
        let (method, path) = (expected.method(), self.path.clone());
        HubError::Damaged { path, method, expected: expected.to_string(), found: found.to_string() }
    }
}

/// What the cache knows of a split.
#[derive(Clone, Debug)]
struct Known {
    files: Vec<DataFile>,
    /// Whether the list of the commit's files was at hand.
    #[cfg(feature = "torch")]
    listed: bool,
}

impl Known {
    fn missing(&self) -> Vec<String> {
        self.files.iter().filter(|file| !file.path.is_file()).map(|file| file.name.clone()).collect()
    }
}

/// The repository and commit of a dataset; where none is named, the commit that `main` was when somebody last asked.
fn pinned(cache: &Path, dataset: &HubDataset) -> Result<Pinned, HubError> {
    let main = || Layout::new(cache, &Pinned::dataset(&dataset.id, "main")).main();
    match dataset.revision.clone().or_else(main) {
        Some(commit) => Ok(Pinned::dataset(&dataset.id, &commit)),
        None => Err(HubError::UnpinnedData { id: dataset.id.clone(), table: "task".into(), main: None }),
    }
}

/// The files of a split as the cache has them. Nothing is asked of a network.
///
/// # Errors
/// When the cache does not have all of them, or the names of the commit's files do not say which these are.
pub fn cached_dataset(cache: &Path, dataset: &HubDataset) -> Result<Vec<DataFile>, HubError> {
    let repo = pinned(cache, dataset)?;
    let known = known(&Layout::new(cache, &repo), &repo, dataset)?;
    let missing = known.missing();
    if missing.is_empty() { Ok(known.files) } else { Err(not_here(cache, &repo, missing)) }
}

fn not_here(cache: &Path, repo: &Pinned, missing: Vec<String>) -> HubError {
    HubError::NotHere { repo: repo.clone().into(), missing, cache: cache.into() }
}

/// What the cache knows, by the list of the commit's files, else by those that are there.
fn known(layout: &Layout, repo: &Pinned, dataset: &HubDataset) -> Result<Known, HubError> {
    let list = layout.listed();
    let there = || files_below(&layout.snapshot());
    let names: Vec<String> = list.as_ref().map_or_else(there, |list| list.keys().cloned().collect());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chosen = match choose(&names, dataset.subset.as_deref(), &dataset.split) {
        Ok(chosen) => chosen,
        Err(what) if list.is_some() => return Err(HubError::NoRows { repo: repo.clone().into(), what }),
        // What is said of a part of the files is not said of the dataset.
        Err(_) => vec![format!("files of the split `{}`", dataset.split)],
    };
    let file = |name: String| {
        let blob = list.as_ref().and_then(|list| list.get(&name).cloned().flatten());
        DataFile { path: layout.file(&name), blob: blob.or_else(|| layout.blob_of(&name)), name }
    };
    Ok(Known {
        files: chosen.into_iter().map(file).collect(),
        #[cfg(feature = "torch")]
        listed: list.is_some(),
    })
}

/// The names of the files below a folder, relative to it, sorted; links are followed to files alone.
fn files_below(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().flatten();
    let name = |entry: walkdir::DirEntry| {
        let name = entry.path().strip_prefix(folder).ok()?.to_str()?.to_owned();
        entry.path().is_file().then_some(name)
    };
    entries.filter_map(name).collect()
}

#[cfg(feature = "torch")]
pub use fetching::fetch_dataset;

#[cfg(feature = "torch")]
mod fetching {
    use super::super::Settings;
    use super::super::client::{Client, Listing, Remote};
    use super::super::download::{Fetcher, Told, Watch, named};
    use super::{BlobName, DataFile, HubDataset, HubError, Layout, Pinned, choose, known};
    use crate::store;

    /// Brings the files of a split here and checks them. Without a request where the cache has all of them and the list
    /// of the commit's files.
    ///
    /// # Errors
    /// When a file cannot be had, is not what the commit says, or the names of the files do not say which these are.
    pub fn fetch_dataset(
        settings: &Settings,
        dataset: &HubDataset,
        watch: Watch,
    ) -> Result<Vec<DataFile>, HubError> {
        let Some(commit) = &dataset.revision else {
            return Err(HubError::UnpinnedData { id: dataset.id.clone(), table: "task".into(), main: None });
        };
        let repo = Pinned::dataset(&dataset.id, commit);
        let layout = Layout::new(&settings.cache, &repo);
        let known = known(&layout, &repo, dataset)?;
        let missing = known.missing();
        let mut serves = false;
        if missing.is_empty() {
            match damaged(&known.files, watch)? {
                None if known.listed => return Ok(known.files),
                None if settings.offline => {
                    (watch.tell)(Told::Note(unlisted(&repo, &known.files)));
                    return Ok(known.files);
                }
                None => serves = true,
                Some(error) if settings.offline => return Err(error),
                Some(error) => (watch.tell)(Told::Note(format!("{error}: it is fetched again"))),
            }
        }
        if settings.offline {
            let cache = settings.cache.clone();
            return Err(HubError::Offline { repo: repo.into(), missing, cache });
        }
        let client = Client::new(settings)?;
        let there = match client.files(&repo, watch.stop) {
            // A machine without a network, and a cache that Python filled.
            Err(error @ HubError::Trouble { .. }) if serves => {
                let note = format!("{error}: {}", unlisted(&repo, &known.files));
                (watch.tell)(Told::Note(note));
                return Ok(known.files);
            }
            there => there?,
        };
        remember(&layout, &there)?;
        let chosen = choose(&there.names(), dataset.subset.as_deref(), &dataset.split)
            .map_err(|what| HubError::NoRows { repo: repo.clone().into(), what })?;
        let remotes: Vec<Option<&Remote>> =
            chosen.iter().map(|name| there.get(name)).collect::<Result<_, _>>()?;
        let remotes: Vec<&Remote> = remotes.into_iter().flatten().collect();
        Fetcher { settings, client, repo: &repo, layout: &layout, watch }.get(&remotes)?;
        let file = |file: &&Remote| DataFile {
            name: file.name.clone(),
            path: layout.file(&file.name),
            blob: Some(file.blob.clone()),
        };
        Ok(remotes.iter().map(file).collect())
    }

    /// That the files which are there may be fewer than the commit has.
    fn unlisted(repo: &Pinned, files: &[DataFile]) -> String {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let names = names.join(", ");
        format!("which files {repo} has is not known; it is used as the cache has it: {names}")
    }

    /// The first file that is not what the commit, or the name of its blob, says.
    fn damaged(files: &[DataFile], watch: Watch) -> Result<Option<HubError>, HubError> {
        for file in files {
            let Some(blob) = &file.blob else { continue };
            let is = named(&file.path, blob, watch.stop)?;
            if is != *blob {
                return Ok(Some(file.damaged(blob, &is)));
            }
        }
        Ok(None)
    }

    /// Keeps the list of a commit's files, so that the next time none is asked for.
    fn remember(layout: &Layout, there: &Listing) -> Result<(), HubError> {
        let entry = |(name, blob): (String, Option<BlobName>)| {
            let value = match blob {
                Some(BlobName::Sha256(hex)) => serde_json::json!({ "lfs_sha256": hex }),
                Some(BlobName::Git(hex)) => serde_json::json!({ "blob_id": hex }),
                None => serde_json::json!({}),
            };
            (name, value)
        };
        let files: serde_json::Map<_, _> = there.listed().into_iter().map(entry).collect();
        let text = serde_json::json!({ "format_version": 1, "files": files }).to_string();
        store::write_file(&layout.list(), text.as_bytes()).map_err(HubError::Cache)
    }
}
