//! What can go wrong between this machine and a hub. Each says what was wanted, what happened, and what to do.

use std::path::PathBuf;

use super::Pinned;
use crate::exit::{Code, Failure};
use crate::store::{StoreError, human_bytes};

/// An address without what opens something: a name and password before the host, a signature in the query.
pub(super) fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{host}{path}")
}

/// A repository that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// An environment variable that cannot be meant.
    #[error("use {name}={value:?}: {what}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name without a commit.
    #[error("`model.id` = {id:?} has no `model.revision`, so what the runs begin with is not fixed")]
    Unpinned {
        /// The repository.
        id: String,
        /// The commit of `main`, and where that was learnt.
        main: Option<(String, &'static str)>,
    },
    /// A dataset without a commit.
    #[error("`{table}.dataset` = {id:?} has no `{table}.revision`, so what the runs are asked is not fixed")]
    UnpinnedData {
        /// The repository.
        id: String,
        /// The table of the manifest that names it.
        table: String,
        /// The commit of `main`, and where that was learnt.
        main: Option<(String, &'static str)>,
    },
    /// A dataset of which the cache lacks something, where nothing is asked of a network.
    #[error("the dataset {repo} is not complete in the cache {}: {} missing", cache.display(), missing.join(", "))]
    NotHere {
        /// What was wanted.
        repo: Box<Pinned>,
        /// Files that are not there.
        missing: Vec<String>,
        /// The folder of the cache.
        cache: PathBuf,
    },
    /// A dataset whose files do not say which rows are meant.
    #[error("use the dataset {repo}: {what}")]
    NoRows {
        /// The repository.
        repo: Box<Pinned>,
        /// What is missing or unclear, and what there is.
        what: String,
    },
    /// No request may be made, and the cache lacks something.
    #[error("{repo} is not complete in the cache {}: {} missing, and this is offline mode", cache.display(), missing.join(", "))]
    Offline {
        /// What was wanted.
        repo: Box<Pinned>,
        /// Files that are not there.
        missing: Vec<String>,
        /// The folder of the cache.
        cache: PathBuf,
    },
    /// The hub refuses: private, gated, or not there.
    #[error("{url}: the hub refuses ({status}{says}){}", if *token { ", with the token that it was shown" } else { "; no token was shown" })]
    Refused {
        /// What was wanted.
        repo: String,
        /// What was asked for.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether there was a token.
        token: bool,
        /// The hub's own words, after a colon.
        says: String,
    },
    /// The hub knows no such repository, commit or file.
    #[error("{url}: the hub has no {what} (404)")]
    NotFound {
        /// A phrase, as in "repository a/b, or no commit c in it".
        what: String,
        /// What was asked for.
        url: String,
    },
    /// A repository without files that can be used.
    #[error("use {repo}: {what}")]
    Unusable {
        /// The repository.
        repo: Box<Pinned>,
        /// What is missing, and what is there instead.
        what: String,
    },
    /// An answer that no hub gives.
    #[error("{url}: {what}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// The network or the hub gave trouble, each time it was tried.
    #[error("{url}: {what}{}{}", if *tries > 1 { format!("; tried {tries} times") } else { String::new() }, if *kept > 0 { format!("; {} are here and are kept", human_bytes(*kept)) } else { String::new() })]
    Trouble {
        /// What was asked for.
        url: String,
        /// What happened the last time.
        what: String,
        /// How often it was tried.
        tries: u32,
        /// Bytes of an unfinished file.
        kept: u64,
    },
    /// Bytes that are not those that the commit names, twice.
    #[error("{file} of {repo} has the {method} {found}, and {expected} is expected")]
    Digest {
        /// The repository.
        repo: Box<Pinned>,
        /// The file.
        file: String,
        /// How the digests are made.
        method: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file of the cache is not what the commit says, or its own name.
    #[error("{} is damaged: it has the {method} {found}, and {expected} is expected", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How the digests are made.
        method: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file is not what it was when a sweep first used it.
    #[error("{} has changed since the base of these runs was checked", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The disk of the cache is too small.
    #[error("download {repo}: {} are to come, and {} has {} free", human_bytes(*needed), folder.display(), human_bytes(*free))]
    Space {
        /// The repository.
        repo: Box<Pinned>,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The folder of the cache.
        folder: PathBuf,
    },
    /// A file of the cache cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the cache cannot be written.
    #[error("keep a download in the cache")]
    Cache(#[source] StoreError),
    /// It was asked to stop.
    #[error("stopped while a download was under way")]
    Stopped,
}

impl HubError {
    /// Whether trying again may help without anything being done.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Trouble { .. } | Self::Answer { .. } | Self::Digest { .. })
    }

    /// Whether there is no space for the download.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Space { .. } => true,
            Self::Cache(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Setting { name, .. } => format!("set {name} to something else, or unset it"),
            Self::Unpinned { main: Some((commit, place)), .. } => {
                format!("`main` is {commit} {place}: write `revision = \"{commit}\"` below `id` in [model]")
            }
            Self::Unpinned { id, main: None } => format!(
                "write the commit's 40 digits below `id` in [model]: revision = \"...\"; they are on \
                 https://huggingface.co/{id}/commits/main"
            ),
            Self::UnpinnedData { table, main: Some((commit, place)), .. } => {
                format!("`main` is {commit} {place}: write `revision = \"{commit}\"` below `dataset` in [{table}]")
            }
            Self::UnpinnedData { id, table, main: None } => format!(
                "write the commit's 40 digits below `dataset` in [{table}]: revision = \"...\"; they are on \
                 https://huggingface.co/datasets/{id}/commits/main"
            ),
            Self::NotHere { repo, .. } => format!("a sweep fetches it; so does: {}", repo.command()),
            Self::NoRows { .. } => {
                "files are found by their names, whatever the README says: set `subset` and `split` to what the names \
                 have, and join several subsets with +. Parquet, JSONL and JSON are read. Of other datasets the hub \
                 keeps a copy in Parquet on the branch refs/convert/parquet, a commit of which can be the `revision`; \
                 or name a file of your own with `file` or `names`"
                    .into()
            }
            Self::Offline { repo, .. } => format!(
                "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or fetch it where there is a network: \
                 {} (older: huggingface-cli download ...)",
                repo.command()
            ),
            Self::Refused { token: false, repo, .. } => format!(
                "is the name right? A private or gated repository needs a token: accept its terms on its page \
                 (https://huggingface.co/{repo}), then set HF_TOKEN or run `hf auth login`. A hub answers 401 for a \
                 repository that does not exist as well"
            ),
            Self::Refused { token: true, repo, .. } => format!(
                "is the name right? The token may be invalid, or its owner has not been admitted: accept the terms on \
                 https://huggingface.co/{repo}, and see that the token (HF_TOKEN, or the file of `hf auth login`) may \
                 read it"
            ),
            Self::NotFound { .. } => {
                "correct the name or the revision in the manifest; HF_ENDPOINT says which hub is asked".into()
            }
            Self::Unusable { .. } => {
                "a model needs config.json, tokenizer.json and weights in safetensors; pickles are never loaded. Convert \
                 it, and name the folder with `model.path`"
                    .into()
            }
            Self::Answer { .. } => {
                "does HF_ENDPOINT name a hub? A proxy or a login page may have answered in its place".into()
            }
            Self::Trouble { .. } => {
                "the same command goes on from here. Look at the network, the proxy (HTTPS_PROXY, NO_PROXY) and \
                 HF_ENDPOINT; HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT are the seconds that it waits"
                    .into()
            }
            Self::Digest { .. } => {
                "what came was thrown away. The hub or something on the way changes files: try again later, or another \
                 network"
                    .into()
            }
            Self::Damaged { .. } => {
                "remove the file and what it links to, unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, and run the same \
                 command again: it is fetched anew"
                    .into()
            }
            Self::Changed { .. } => {
                "remove the file and what it links to, and run the same command again: the commit's own is fetched and \
                 compared"
                    .into()
            }
            Self::Space { .. } => {
                "free some space and run the same command again, or put the cache on another disk with HF_HOME or \
                 HF_HUB_CACHE"
                    .into()
            }
            Self::Cache(error) if error.is_disk_full() => {
                "nothing is lost: free some space and run the same command again, or put the cache on another disk with \
                 HF_HOME or HF_HUB_CACHE"
                    .into()
            }
            Self::Cache(_) | Self::Read { .. } => {
                "choose a folder that you can write with HF_HOME or HF_HUB_CACHE, or correct its permissions".into()
            }
            Self::Stopped => return None,
        })
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let hint = error.hint();
        let code = match &error {
            HubError::Unpinned { .. } | HubError::UnpinnedData { .. } => Code::Plan,
            HubError::Stopped => Code::Interrupted,
            error if error.is_disk_full() => Code::Store,
            _ => Code::Environment,
        };
        Self::new(code, error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (address, expected) in [
            ("https://h:1/a/b?X-Amz-Signature=s#x", "https://h:1/a/b"),
            ("https://user:pass@h/a@b", "https://h/a@b"),
            ("https://token@h", "https://h"),
            ("huggingface.co", "huggingface.co"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }
}
