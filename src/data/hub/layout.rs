//! Where a repository's files lie in the cache that is shared with Hugging Face's other tools.
//!
//! ```text
//! models--OWNER--NAME/blobs/DIGEST                 the bytes, named by their digest; DIGEST.incomplete while they come
//! models--OWNER--NAME/snapshots/COMMIT/FILE        a symbolic link to them
//! models--OWNER--NAME/refs/main                    the commit that `main` was when it was asked for
//! models--OWNER--NAME/.no_exist/COMMIT/FILE        that commit has no such file
//! models--OWNER--NAME/trees/COMMIT.json            all files of that commit, where newer versions of Python's library asked
//! datasets--OWNER--NAME/.tickets/COMMIT.json       the same, where this program did
//! .locks/models--OWNER--NAME/DIGEST.lock           held while they come
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};

use super::digest::BlobName;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Weights and a tokenizer.
    Model,
    /// Rows.
    Dataset,
}

/// A repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// What it holds.
    pub kind: Kind,
    /// `owner/name`.
    pub id: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

impl Pinned {
    /// A model at a commit.
    pub fn model(id: &str, commit: &str) -> Self {
        Self { kind: Kind::Model, id: id.into(), commit: commit.into() }
    }

    /// A dataset at a commit.
    pub fn dataset(id: &str, commit: &str) -> Self {
        Self { kind: Kind::Dataset, ..Self::model(id, commit) }
    }

    /// The path of its page on the hub.
    pub fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.id.clone(),
            Kind::Dataset => format!("datasets/{}", self.id),
        }
    }

    /// The command of Python's tools that fetches it.
    pub fn command(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "",
            Kind::Dataset => " --repo-type dataset",
        };
        format!("hf download {}{kind} --revision {}", self.id, self.commit)
    }

    /// The first digits of the commit, for people.
    pub fn short(&self) -> &str {
        self.commit.get(..12).unwrap_or(&self.commit)
    }
}

impl std::fmt::Display for Pinned {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at commit {}", self.id, self.short())
    }
}

/// The part of the cache that holds a repository.
#[derive(Clone, Debug)]
pub struct Layout {
    cache: PathBuf,
    name: String,
    commit: String,
}

impl Layout {
    /// Of a repository at a commit.
    pub fn new(cache: &Path, repo: &Pinned) -> Self {
        let kind = match repo.kind {
            Kind::Model => RepoType::Model,
            Kind::Dataset => RepoType::Dataset,
        };
        let name = Repo::new(repo.id.clone(), kind).folder_name();
        Self { cache: cache.into(), name, commit: repo.commit.clone() }
    }

    fn repository(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// The folder with the files of the commit.
    pub fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(&self.commit)
    }

    /// What `main` was when somebody last asked.
    pub fn main(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.repository().join("refs/main")).ok()?;
        Some(text.trim().to_owned()).filter(|text| is_commit(text))
    }
}

/// Files of a commit by name, with the names of their blobs where those are known.
pub type Listed = BTreeMap<String, Option<BlobName>>;

impl Layout {
    /// A file of the commit: as a rule a link to a blob.
    pub fn file(&self, name: &str) -> PathBuf {
        self.snapshot().join(name)
    }

    /// All files of the commit, where Python's library or this program left the list.
    pub fn listed(&self) -> Option<Listed> {
        let path = self.repository().join("trees").join(format!("{}.json", self.commit));
        Self::listed_at(&path).or_else(|| Self::listed_at(&self.list()))
    }

    fn listed_at(path: &Path) -> Option<Listed> {
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let files = value["files"].as_object().filter(|_| value["format_version"] == 1)?;
        let blob = |file: &serde_json::Value| {
            let large = &file["lfs_sha256"];
            BlobName::parse(if large.is_null() { &file["blob_id"] } else { large }.as_str()?)
        };
        Some(files.iter().map(|(name, file)| (name.clone(), blob(file))).collect())
    }

    /// Where this program leaves the list.
    pub fn list(&self) -> PathBuf {
        self.repository().join(".tickets").join(format!("{}.json", self.commit))
    }

    /// The blob that a file of the commit links to, by its name.
    pub fn blob_of(&self, name: &str) -> Option<BlobName> {
        let target = crate::store::fs::link_target(&self.file(name))?;
        BlobName::parse(Path::new(&target).file_name()?.to_str()?)
    }
}

#[cfg(feature = "torch")]
impl Layout {
    /// The bytes of a blob.
    pub fn blob(&self, blob: &BlobName) -> PathBuf {
        self.repository().join("blobs").join(blob.to_string())
    }

    /// What there is of a blob that is not whole.
    pub fn incomplete(&self, blob: &BlobName) -> PathBuf {
        self.repository().join("blobs").join(format!("{blob}.incomplete"))
    }

    /// The target of a file's link, relative to the link.
    pub fn link(name: &str, blob: &BlobName) -> PathBuf {
        let up = "../".repeat(name.matches('/').count() + 2);
        PathBuf::from(format!("{up}blobs/{blob}"))
    }

    /// The lock under which a blob comes.
    pub fn lock(&self, blob: &BlobName) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{blob}.lock"))
    }

    /// Says that the commit has no file of this name.
    pub fn absent(&self, name: &str) -> PathBuf {
        self.repository().join(".no_exist").join(&self.commit).join(name)
    }
}

/// Whether a folder is that of a commit in a cache.
pub fn is_snapshot(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    name(&folder).is_some_and(|name| is_commit(&name))
        && folder.parent().and_then(name).is_some_and(|name| name == "snapshots")
}

/// Whether a text is a full commit hash.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "torch")]
    #[test]
    fn files_lie_where_python_looks_for_them() {
        let commit = "a".repeat(40);
        let repo = Pinned::model("Qwen/Qwen2.5-0.5B", &commit);
        let layout = Layout::new(Path::new("/c"), &repo);
        let blob = BlobName::parse(&"0".repeat(64)).unwrap();
        let top = "/c/models--Qwen--Qwen2.5-0.5B";
        let expected = [
            (layout.file("config.json"), format!("{top}/snapshots/{commit}/config.json")),
            (layout.blob(&blob), format!("{top}/blobs/{blob}")),
            (layout.incomplete(&blob), format!("{top}/blobs/{blob}.incomplete")),
            (layout.absent("x.json"), format!("{top}/.no_exist/{commit}/x.json")),
            (layout.lock(&blob), format!("/c/.locks/models--Qwen--Qwen2.5-0.5B/{blob}.lock")),
        ];
        for (path, text) in expected {
            assert_eq!(path.display().to_string(), text);
        }
        assert_eq!(repo.to_string(), "Qwen/Qwen2.5-0.5B at commit aaaaaaaaaaaa");
        assert_eq!(Layout::link("config.json", &blob).display().to_string(), format!("../../blobs/{blob}"));
        assert_eq!(Layout::link("a/b.json", &blob).display().to_string(), format!("../../../blobs/{blob}"));
        let rows = Pinned { kind: Kind::Dataset, ..repo };
        let name = "/c/datasets--Qwen--Qwen2.5-0.5B/snapshots";
        assert!(Layout::new(Path::new("/c"), &rows).snapshot().starts_with(name));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    fn main_is_read_where_it_is_a_commit() {
        let cache = tempfile::tempdir().unwrap();
        let layout = Layout::new(cache.path(), &Pinned::model("a/b", "main"));
        assert_eq!(layout.main(), None);
        let refs = cache.path().join("models--a--b/refs");
        std::fs::create_dir_all(&refs).unwrap();
        for (text, found) in [("../../etc", None), (&*format!("{}\n", "b".repeat(40)), Some("b".repeat(40)))]
        {
            std::fs::write(refs.join("main"), text).unwrap();
            assert_eq!(layout.main(), found);
        }
    }
}
