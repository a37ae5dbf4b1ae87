//! Repositories of a hub: the shared cache, and with the feature `torch` the way there.
//!
//! In: a name and a commit. Out: a folder of files. What the environment says is said by the variables of Hugging Face's
//! own tools, and the cache is theirs: what Python fetched is used, and what is fetched here Python uses.

mod choose;
#[cfg(feature = "torch")]
mod client;
mod dataset;
mod digest;
#[cfg(feature = "torch")]
mod download;
mod error;
#[cfg(feature = "torch")]
mod fetch;
#[cfg(feature = "torch")]
mod files;
#[cfg(feature = "torch")]
mod http;
mod layout;
mod proxies;
mod settings;

use std::path::{Path, PathBuf};

#[cfg(feature = "torch")]
pub use dataset::fetch_dataset;
pub use dataset::{DataFile, cached_dataset};
#[cfg(feature = "torch")]
pub use download::{Told, Watch};
pub use error::HubError;
#[cfg(feature = "torch")]
pub use fetch::{Snapshot, digests, fetch};
pub use layout::{Kind, Pinned, is_snapshot};
pub use proxies::Proxies;
pub use settings::{Settings, cache_folder};

use layout::Layout;

/// The folder of a model's commit in the cache of this machine, whether or not it is complete. Without a commit, the one that
/// `main` was when it was fetched. Nothing is asked of a network.
pub fn cached(id: &str, revision: Option<&str>) -> Option<PathBuf> {
    cached_in(&cache_folder(&|name| std::env::var_os(name))?, id, revision)
}

/// [`cached`] in a given cache.
pub fn cached_in(cache: &Path, id: &str, revision: Option<&str>) -> Option<PathBuf> {
    let commit = match revision {
        Some(revision) => revision.to_owned(),
        None => main_in(cache, id)?,
    };
    Some(Layout::new(cache, &Pinned::model(id, &commit)).snapshot())
}

/// The files of a model that a folder has, by name.
#[cfg(feature = "torch")]
pub fn model_files(folder: &Path) -> Vec<String> {
    files::look(folder, |_| true).present
}

/// The commit that a model's `main` was when somebody last asked on this machine.
fn main_in(cache: &Path, id: &str) -> Option<String> {
    Layout::new(cache, &Pinned::model(id, "main")).main()
}

/// Why a model without a commit is refused, with the commit that `main` is: by the hub's word, or where that cannot be asked
/// by the cache's. A name that the hub does not know is said instead.
pub fn unpinned(id: &str) -> HubError {
    match main_of(&Pinned::model(id, "main")) {
        Ok(main) => HubError::Unpinned { id: id.into(), main },
        Err(error) => error,
    }
}

/// The same for a dataset, which a table of a manifest names, such as `task`.
pub fn unpinned_dataset(id: &str, table: &str) -> HubError {
    match main_of(&Pinned::dataset(id, "main")) {
        Ok(main) => HubError::UnpinnedData { id: id.into(), table: table.into(), main },
        Err(error) => error,
    }
}

/// A commit, and where it was learnt.
type Main = Option<(String, &'static str)>;

/// The commit that `main` of a repository is.
fn main_of(repo: &Pinned) -> Result<Main, HubError> {
    let settings = Settings::from_env()?;
    #[cfg(feature = "torch")]
    if !settings.offline {
        // Somebody waits for the answer to a mistake: what is not to be had at once is done without.
        let once = Settings { tries: 1, ..settings.clone() };
        match client::Client::new(&once).and_then(|hub| hub.main(repo, &|| false)) {
            Ok(commit) => return Ok(Some((commit, "now"))),
            Err(error @ (HubError::Refused { .. } | HubError::NotFound { .. })) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Layout::new(&settings.cache, repo).main().map(|commit| (commit, "in the cache")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    fn a_snapshot_is_found_by_commit_or_by_main() {
        let cache = tempfile::tempdir().expect("a folder");
        let model = cache.path().join("models--a--b");
        std::fs::create_dir_all(model.join("refs")).expect("writable");
        assert_eq!(cached_in(cache.path(), "a/b", None), None);
        let commit = "c0ffee".repeat(7)[..40].to_owned();
        std::fs::write(model.join("refs/main"), format!("{commit}\n")).expect("writable");
        assert_eq!(cached_in(cache.path(), "a/b", None), Some(model.join("snapshots").join(&commit)));
        assert_eq!(cached_in(cache.path(), "a/b", Some("1234")), Some(model.join("snapshots/1234")));
    }
}
