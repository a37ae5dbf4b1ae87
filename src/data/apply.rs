//! A delta and its base to the model that was exported.
//!
//! Invariant: nothing is visible unless the base is the one that the delta was made from, and the result the one that was exported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::model_files::{ALONG, copy_model, digest_of, tensors_digest};
use super::tensor_file::{TensorEntry, width};
use super::{DataError, Delta, ModelDir};
use crate::model_folder::{NEEDED, OPTIONAL};
use crate::store::{NewFolder, StoreError};

/// Makes what a delta says of a base: a complete copy of the base's directory. Returns the names of its files.
///
/// # Errors
/// When the base is another one, either is damaged, the delta speaks of tensors that the base has not, or the copy cannot be
/// written; nothing is visible then.
pub fn apply_delta(delta: &Delta, dir: &ModelDir, out: &Path) -> Result<Vec<String>, ApplyError> {
    let found = tensors_digest(dir)?;
    if found != delta.head.base_digest {
        return Err(ApplyError::OtherBase {
            dir: dir.path.clone(),
            found,
            wanted: delta.head.base_digest.clone(),
            base: delta.head.base.clone(),
        });
    }
    let mut files = delta.head.files.clone();
    for (name, wanted) in &delta.head.files {
        let path = dir.path.join(name);
        let known = NEEDED.iter().chain(&OPTIONAL).chain(&ALONG).any(|known| *known == name.as_str());
        if known && path.is_file() && digest_of(&path)? == *wanted {
            continue;
        }
        // No number depends on what only comes along.
        if !ALONG.contains(&name.as_str()) {
            return Err(ApplyError::OtherFile { path, base: delta.head.base.clone() });
        }
        files.remove(name);
    }
    let folder = NewFolder::begin(out)?;
    let mut unused: BTreeSet<&str> = delta.names().collect();
    let mut edit = |entry: &TensorEntry, mut bytes: Vec<u8>| -> Result<Vec<u8>, ApplyError> {
        unused.remove(entry.name.as_str());
        if let (Some(change), Some(width)) = (delta.change(entry)?, width(&entry.dtype)) {
            change.apply(width, &mut bytes);
        }
        Ok(bytes)
    };
    let (made, names) = copy_model(dir, &folder, &files, None, &mut edit)?;
    if made != delta.head.result_digest || !unused.is_empty() {
        return Err(ApplyError::OtherResult { found: made, wanted: delta.head.result_digest.clone() });
    }
    folder.publish()?;
    Ok(names)
}

/// Why a delta was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The delta, or a file of the base.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The new folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The delta was made from other weights.
    #[error("{} is not the base of this delta: its tensors have the digest {found}, the delta was made from {wanted}", dir.display())]
    OtherBase {
        /// The directory.
        dir: PathBuf,
        /// Its digest.
        found: String,
        /// The base's.
        wanted: String,
        /// What the base is called.
        base: String,
    },
    /// A file beside the weights is not the base's.
    #[error("{} is missing, or is not the one that the run's base had", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// What the base is called.
        base: String,
    },
    /// What came out is not what was exported.
    #[error("the result has the digest {found}, the delta promises {wanted}: nothing was written")]
    OtherResult {
        /// Its digest.
        found: String,
        /// The promised one.
        wanted: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::model_files::tests::sharded;
    use crate::data::{Change, DeltaHead, TensorDigests, TensorFile, companions, delta_bytes, each_tensor};

    #[test]
    fn a_delta_that_is_not_used_up_or_promises_other_bytes_writes_nothing() {
        let (dir, room) = (sharded(), tempfile::tempdir().unwrap());
        let file = TensorFile::open(&dir.weights[0]).unwrap();
        let entry = file.entries()[0].clone();
        let value = || Change::Entries { indices: vec![0], values: vec![7; width(&entry.dtype).unwrap()] };
        let mut after = TensorDigests::default();
        each_tensor(&dir, |tensor, mut bytes| {
            if tensor.name == entry.name {
                value().apply(width(&entry.dtype).unwrap(), &mut bytes);
            }
            after.add_entry(tensor, &bytes);
            Ok::<_, DataError>(())
        })
        .unwrap();
        let head = DeltaHead {
            base_digest: tensors_digest(&dir).unwrap(),
            result_digest: after.finish(),
            mask: "full".into(),
            run: "1".into(),
            base: "b".into(),
            files: companions(&dir).unwrap(),
        };
        let out = room.path().join("out");
        let apply = |head: &DeltaHead, changes: Vec<(TensorEntry, Change)>| {
            let path = room.path().join("d");
            crate::store::write_file(&path, &delta_bytes(head, changes)).unwrap();
            apply_delta(&Delta::open(&path).unwrap(), &dir, &out)
        };
        let stranger = TensorEntry { name: "model.stranger".into(), ..entry.clone() };
        let error = apply(&head, vec![(entry.clone(), value()), (stranger, value())]).unwrap_err();
        assert!(matches!(error, ApplyError::OtherResult { .. }), "{error}");
        let other = DeltaHead { result_digest: "0".into(), ..head.clone() };
        assert!(matches!(
            apply(&other, vec![(entry.clone(), value())]).unwrap_err(),
            ApplyError::OtherResult { .. }
        ));
        assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 1, "the delta alone");
        let files = |name: &str| [(name.to_owned(), "0".to_owned())].into();
        for name in ["config.json", "generation_config.json", "../config.json"] {
            let other = DeltaHead { files: files(name), ..head.clone() };
            let error = apply(&other, vec![(entry.clone(), value())]).unwrap_err();
            assert!(matches!(error, ApplyError::OtherFile { .. }), "{error}");
        }
        apply(&head, vec![(entry.clone(), value())]).unwrap();
        assert_eq!(tensors_digest(&ModelDir::open(&out).unwrap()).unwrap(), head.result_digest);
    }
}
