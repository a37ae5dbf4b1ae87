//! A model of a hub on this machine: what the cache lacks of a commit is fetched, and everything is checked.
//!
//! In: a repository at a commit. Out: a folder with the files of the model, each of which had the digest that names it.
//! Invariants: a file has its name in the cache only once it is whole and was checked; in offline mode nothing is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::client::{Client, Remote};
use super::download::{Fetcher, Told, Watch, named};
use super::files::{Found, look, shards, weights_or_index};
use super::layout::{Layout, Listed, Pinned};
use super::{HubError, Settings};
use crate::model_folder::{INDEX, NEEDED, OPTIONAL};
use crate::store;

/// The files of a commit on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that they are in.
    pub folder: PathBuf,
    /// Their names, sorted.
    pub files: Vec<String>,
}

/// Brings the files of a model here and checks them. Without a request where the cache has all of them.
///
/// # Errors
/// When something is missing that cannot be had, or is not what the commit or its name says.
pub fn fetch(settings: &Settings, repo: &Pinned, watch: Watch) -> Result<Snapshot, HubError> {
    let layout = Layout::new(&settings.cache, repo);
    let listed = layout.listed();
    let unlisted = |name: &str| listed.as_ref().is_some_and(|files| !files.contains_key(name));
    let found = look(&layout.snapshot(), |name| layout.absent(name).is_file() || unlisted(name));
    let snapshot = |mut files: Vec<String>| {
        files.sort();
        Snapshot { folder: layout.snapshot(), files }
    };
    let not_known = found.unknown.join(", ");
    let mut serves = false;
    if found.missing.is_empty() {
        match damaged(&layout, &listed.unwrap_or_default(), &found, watch)? {
            None if found.unknown.is_empty() => return Ok(snapshot(found.present)),
            None if settings.offline => {
                let note =
                    format!("offline: whether {repo} has {not_known} is not known; it is used without");
                (watch.tell)(Told::Note(note));
                return Ok(snapshot(found.present));
            }
            None => serves = true,
            Some(error) if settings.offline => return Err(error),
            Some(error) => (watch.tell)(Told::Note(format!("{error}: it is fetched again"))),
        }
    }
    if settings.offline {
        let cache = settings.cache.clone();
        return Err(HubError::Offline { repo: repo.clone().into(), missing: found.missing, cache });
    }
    let client = Client::new(settings)?;
    let there = match client.files(repo, watch.stop) {
        // A machine without a network, and a cache that Python filled.
        Err(error @ HubError::Trouble { .. }) if serves => {
            let note = format!("{error}: {repo} is used as the cache has it, without {not_known}");
            (watch.tell)(Told::Note(note));
            return Ok(snapshot(found.present));
        }
        there => there?,
    };
    let fetcher = Fetcher { settings, client, repo, layout: &layout, watch };
    let unusable = |what| HubError::Unusable { repo: repo.clone().into(), what };
    if let Some(name) = NEEDED.into_iter().find(|name| !there.has(name)) {
        return Err(unusable(format!("it has no {name}")));
    }
    let weights = weights_or_index(|name| there.has(name), &there.names()).map_err(unusable)?;
    let wanted = [&NEEDED[..], &OPTIONAL[..], &[weights]].concat();
    let first: Vec<Option<&Remote>> = wanted.iter().map(|name| there.get(name)).collect::<Result<_, _>>()?;
    let first: Vec<&Remote> = first.into_iter().flatten().collect();
    fetcher.get(&first)?;
    let mut files: Vec<String> = first.iter().map(|file| file.name.clone()).collect();
    if weights == INDEX {
        let path = layout.file(INDEX);
        let text = std::fs::read(&path).map_err(|source| HubError::Read { path, source })?;
        let named = shards(&text).map_err(unusable)?;
        let found = named.iter().map(|name| {
            let missing = || unusable(format!("{INDEX} names {name}, which the commit does not have"));
            there.get(name)?.ok_or_else(missing)
        });
        fetcher.get(&found.collect::<Result<Vec<_>, _>>()?)?;
        files.extend(named);
    }
    for name in OPTIONAL.into_iter().filter(|name| !there.has(name)) {
        // It only spares a request the next time.
        let _ = store::write_file(&layout.absent(name), b"");
    }
    Ok(snapshot(files))
}

/// The first file of the cache that is not the commit's, or where the cache has no list of those, not what the name of its
/// blob says.
fn damaged(
    layout: &Layout,
    listed: &Listed,
    found: &Found,
    watch: Watch,
) -> Result<Option<HubError>, HubError> {
    for name in &found.present {
        // A file that is no link has no name to be checked by: the record of its first use is what it is compared with.
        let of_the_commit = listed.get(name).cloned().flatten();
        let Some(blob) = of_the_commit.or_else(|| layout.blob_of(name)) else { continue };
        let path = layout.file(name);
        let is = named(&path, &blob, watch.stop)?;
        if is != blob {
            let (method, expected, found) = (blob.method(), blob.to_string(), is.to_string());
            return Ok(Some(HubError::Damaged { path, method, expected, found }));
        }
    }
    Ok(None)
}

/// The blake3 digests of files, by name: what a later load is compared with.
///
/// # Errors
/// When one cannot be read.
pub fn digests(folder: &Path, names: &[String]) -> Result<BTreeMap<String, String>, HubError> {
    let one = |name: &String| {
        let path = folder.join(name);
        let mut hasher = blake3::Hasher::new();
        let hashed = File::open(&path).and_then(|file| hasher.update_reader(file).map(|_| ()));
        hashed.map_err(|source| HubError::Read { path, source })?;
        Ok((name.clone(), hasher.finalize().to_hex().to_string()))
    };
    names.iter().map(one).collect()
}
