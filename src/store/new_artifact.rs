//! An artifact whose files are written piece by piece, so that nothing of it has to be in memory as a whole.
//!
//! In: pieces of bytes. Out: an artifact as [`Store::publish`] makes one: a temporary folder, digests taken on the way, the marker
//! last, one rename that never replaces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::layout::{DONE, Stage, check_name};
use super::new_folder::NewFile;
use super::record::{FileRecord, Marker};
use super::{Artifact, Store, StoreError, fs};

/// An artifact in the making. Dropped before it is published, it is removed.
#[derive(Debug)]
pub struct NewArtifact<'s> {
    store: &'s Store,
    stage: Stage,
    id: String,
    folder: PathBuf,
    files: BTreeMap<String, FileRecord>,
    settled: bool,
}

/// A file of such an artifact.
#[derive(Debug)]
pub struct ArtifactFile {
    file: NewFile,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Store {
    /// Begins the artifact of a stage.
    ///
    /// # Errors
    /// When the id is not plain, or the store cannot be written.
    pub fn begin_artifact(&self, stage: Stage, id: &str) -> Result<NewArtifact<'_>, StoreError> {
        self.home.writable()?;
        let id = check_name(id)?.to_owned();
        let parent = self.home.layout.stage(stage);
        self.home.create_folders(&parent)?;
        let folder = fs::temporary_folder(&parent)?;
        Ok(NewArtifact { store: self, stage, id, folder, files: BTreeMap::new(), settled: false })
    }
}

impl NewArtifact<'_> {
    /// Writes a file of a plain name that the artifact does not have yet, and forces it to the disk.
    ///
    /// # Errors
    /// When it cannot be written, and those of `write`; then the artifact is removed and cannot be published.
    pub fn file<E: From<StoreError>>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut ArtifactFile) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.written(name, write) {
            Ok(record) => {
                self.files.insert(name.to_owned(), record);
                Ok(())
            }
            Err(error) => {
                // Most likely the disk is full: what was written is of no use and gives the space back.
                let _ = fs::remove_leftover(&self.folder);
                Err(error)
            }
        }
    }

    fn written<E: From<StoreError>>(
        &self,
        name: &str,
        write: impl FnOnce(&mut ArtifactFile) -> Result<(), E>,
    ) -> Result<FileRecord, E> {
        if self.files.contains_key(check_name(name)?) {
            return Err(StoreError::BadName { name: format!("{name} (twice)") }.into());
        }
        let file = NewFile::create(&self.folder.join(name))?;
        let mut file = ArtifactFile { file, hasher: blake3::Hasher::new(), bytes: 0 };
        write(&mut file)?;
        let ArtifactFile { file, hasher, bytes } = file;
        file.finish()?;
        Ok(FileRecord { bytes, blake3: hasher.finalize().to_hex().to_string() })
    }

    /// Publishes what was written, as [`Store::publish`] does: the first result wins, and the artifact that counts is returned.
    ///
    /// # Errors
    /// When it cannot be written; nothing is visible then.
    pub fn publish(mut self, meta: Value) -> Result<Artifact, StoreError> {
        let marker = Marker {
            kind: self.stage.name().to_owned(),
            id: self.id.clone(),
            files: std::mem::take(&mut self.files),
            detail: json!({}),
            meta,
        };
        fs::write_new(&self.folder.join(DONE), marker.to_text().as_bytes())?;
        fs::sync_folder(&self.folder)?;
        let published = self.store.settle(self.stage, &self.folder, marker)?;
        self.settled = true;
        Ok(published)
    }
}

impl ArtifactFile {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.append(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for NewArtifact<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let _ = fs::remove_leftover(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Artifact;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().with_notices(|_| {});
        (folder, store)
    }

    fn write(store: &Store, pieces: &[&str]) -> Artifact {
        let mut new = store.begin_artifact(Stage::Scores, "s1").unwrap();
        let append =
            |file: &mut ArtifactFile| pieces.iter().try_for_each(|piece| file.append(piece.as_bytes()));
        new.file::<StoreError>("data", append).unwrap();
        new.file::<StoreError>("nothing", |_| Ok(())).unwrap();
        new.publish(json!({"n": pieces.len()})).unwrap()
    }

    fn names(store: &Store) -> Vec<String> {
        fs::list(&store.layout().stage(Stage::Scores)).unwrap()
    }

    #[test]
    fn pieces_make_the_artifact_that_whole_files_make() {
        let (_folder, pieces) = store();
        let (_other, whole) = store();
        let left = write(&pieces, &["a", "bc", "", "def"]);
        let files: [(&str, &[u8]); 2] = [("data", b"abcdef"), ("nothing", b"")];
        let right = whole.publish(Stage::Scores, "s1", &files, json!({"n": 4})).unwrap();
        assert_eq!(left.files(), right.files());
        for file in ["data", "nothing", DONE] {
            assert_eq!(fs::read(&left.path(file)).unwrap(), fs::read(&right.path(file)).unwrap(), "{file}");
        }
        assert_eq!(names(&pieces), ["s1"]);
        // Cut elsewhere the files are the same, and what was measured on the way is not compared.
        assert_eq!(write(&pieces, &["abc", "def"]).meta(), left.meta());
        assert!(pieces.quarantined().unwrap().is_empty());
        assert_eq!(write(&pieces, &["abc"]).read("data").unwrap(), b"abcdef");
        assert_eq!(pieces.quarantined().unwrap().len(), 1);
        assert_eq!(names(&pieces), ["s1"]);
    }

    #[test]
    fn what_is_not_published_leaves_nothing() {
        let (_folder, store) = store();
        let mut new = store.begin_artifact(Stage::Scores, "s1").unwrap();
        new.file::<StoreError>("data", |file| file.append(b"x")).unwrap();
        for name in ["data", "a/b", "..", DONE] {
            let mut new = store.begin_artifact(Stage::Scores, "s2").unwrap();
            new.file::<StoreError>("data", |file| file.append(b"x")).unwrap();
            let error = new.file::<StoreError>(name, |file| file.append(b"x")).unwrap_err();
            assert!(matches!(error, StoreError::BadName { .. }), "{name}: {error:?}");
        }
        drop(new);
        assert_eq!(names(&store), [""; 0]);
        // After a failure half way nothing can be published.
        let mut new = store.begin_artifact(Stage::Scores, "s1").unwrap();
        let failed = new.file("data", |file| {
            file.append(b"x")?;
            Err(StoreError::BadName { name: "a reason".into() })
        });
        assert!(failed.is_err());
        assert!(new.publish(json!({})).is_err());
        assert_eq!(names(&store), [""; 0]);
        assert!(store.begin_artifact(Stage::Scores, "a/b").is_err());
        let reading = Store::open_read_only(store.results()).unwrap();
        assert!(matches!(
            reading.begin_artifact(Stage::Scores, "s1"),
            Err(StoreError::OpenedReadOnly { .. })
        ));
    }
}
