//! Copies of a model directory with other numbers in it: weights tensor by tensor, everything else as it is.
//!
//! The copy has the base's files, types and order, `format: pt`, and no tensor that transformers makes by itself (a tied
//! head, rotary frequencies). Equal tensors give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::error::read;
use super::hub::is_snapshot;
use super::safetensors::header;
use super::tensor_file::{TensorEntry, TensorFile, width};
use super::{DataError, ModelDir};
use crate::model_folder::{CONFIG, INDEX, NEEDED, OPTIONAL, WEIGHTS};
use crate::store::{NewFolder, StoreError};

/// Files that decide nothing, copied along from a folder of the user's own. Those of a hub's cache were never compared with
/// anything, so they stay there.
const ALONG: [&str; 6] =
    ["added_tokens.json", "chat_template.json", "vocab.json", "merges.txt", "LICENSE", "NOTICE"];

/// Digest of a set of tensors: of names, types, shapes and bytes, whatever files they lie in and in whatever order.
#[derive(Debug, Default)]
pub struct TensorDigests {
    tensors: BTreeMap<String, String>,
}

impl TensorDigests {
    /// Takes a tensor in.
    pub fn add(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        self.tensors.insert(name.to_owned(), format!("{dtype} {shape:?} {}", blake3::hash(bytes).to_hex()));
    }

    /// Takes a tensor of a file in.
    pub fn add_entry(&mut self, entry: &TensorEntry, bytes: &[u8]) {
        self.add(&entry.name, &entry.dtype, &entry.shape, bytes);
    }

    /// The digest, in hex.
    pub fn finish(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, tensor) in &self.tensors {
            hasher.update(format!("{name} {tensor}\n").as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Whether a tensor of a file is written to a copy.
fn kept(dir: &ModelDir, name: &str) -> bool {
    let made_anyway = dir.architecture.tied && name == "lm_head.weight";
    !made_anyway && !name.ends_with(".rotary_emb.inv_freq")
}

/// Visits every tensor of a model directory in the order of its files, one at a time.
///
/// # Errors
/// When a file is damaged, or `visit` fails.
pub fn each_tensor<E: From<DataError>>(
    dir: &ModelDir,
    mut visit: impl FnMut(&TensorEntry, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for path in &dir.weights {
        let file = TensorFile::open(path)?;
        for entry in file.entries().iter().filter(|entry| kept(dir, &entry.name)) {
            visit(entry, file.read(entry)?)?;
        }
    }
    Ok(())
}

/// The digest of a model directory's tensors, those left out that a copy has not.
///
/// # Errors
/// When a file is damaged.
pub fn tensors_digest(dir: &ModelDir) -> Result<String, DataError> {
    let mut digests = TensorDigests::default();
    each_tensor(dir, |entry, bytes| {
        digests.add_entry(entry, &bytes);
        Ok::<_, DataError>(())
    })?;
    Ok(digests.finish())
}

/// The files of a model directory beside its weights that a copy has, with their blake3 digests in hex.
///
/// # Errors
/// When one cannot be read.
pub fn companions(dir: &ModelDir) -> Result<BTreeMap<String, String>, DataError> {
    let along = if is_snapshot(&dir.path) { &[][..] } else { &ALONG };
    let names = NEEDED.iter().chain(&OPTIONAL).chain(along).copied();
    let there = names.filter(|name| dir.path.join(name).is_file());
    there.map(|name| Ok((name.to_owned(), digest_of(&dir.path.join(name))?))).collect()
}

fn digest_of(path: &Path) -> Result<String, DataError> {
    Ok(blake3::hash(&read(path)?).to_hex().to_string())
}

/// Makes the bytes of a tensor in a copy, in the copy's type, of its own.
pub type Edit<'a, E> = dyn FnMut(&TensorEntry, Vec<u8>) -> Result<Vec<u8>, E> + 'a;

/// Writes a copy of a model directory, with these [`companions`], into `folder`, which is not published yet; `dtype` is the type of every tensor instead of
/// its own. Returns its digest and the names of its
/// files.
///
/// # Errors
/// When the base is damaged, `edit` fails, or the copy cannot be written.
pub fn copy_model<E: From<DataError> + From<StoreError>>(
    dir: &ModelDir,
    folder: &NewFolder,
    files: &BTreeMap<String, String>,
    dtype: Option<&str>,
    edit: &mut Edit<'_, E>,
) -> Result<(String, Vec<String>), E> {
    let mut names = Vec::new();
    for name in files.keys() {
        let path = dir.path.join(name);
        let bytes = read(&path)?;
        let bytes = match dtype {
            Some(dtype) if name == CONFIG => with_type(&bytes, &path, dtype)?,
            _ => bytes,
        };
        folder.add(name, &bytes)?;
        names.push(name.clone());
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut digests = TensorDigests::default();
    let (mut map, mut total) = (BTreeMap::new(), 0);
    for path in &dir.weights {
        let file = TensorFile::open(path)?;
        let entries: Vec<&TensorEntry> =
            file.entries().iter().filter(|entry| kept(dir, &entry.name)).collect();
        let name = file_name(path);
        let described = entries.iter().map(|entry| {
            let dtype = dtype.unwrap_or(&entry.dtype);
            let bytes = width(dtype).map_or(entry.length, |width| entry.elements() * width);
            (entry.name.as_str(), dtype, entry.shape.as_slice(), bytes)
        });
        let described: Vec<_> = described.collect();
        let mut out = folder.file(&name)?;
        out.append(&header(described.iter().copied(), &metadata))?;
        for (entry, (tensor, dtype, shape, length)) in entries.iter().zip(described) {
            if width(&entry.dtype).is_none() {
                let what =
                    format!("{tensor} has the type {}; only F32, BF16 and F16 are written", entry.dtype);
                return Err(DataError::Weights { path: path.clone(), what }.into());
            }
            let bytes = edit(entry, file.read(entry)?)?;
            debug_assert_eq!(bytes.len(), length);
            digests.add(tensor, dtype, shape, &bytes);
            out.append(&bytes)?;
            map.insert(tensor.to_owned(), name.clone());
            total += length;
        }
        out.finish()?;
        names.push(name);
    }
    if dir.path.join(INDEX).is_file() && !dir.path.join(WEIGHTS).is_file() {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        folder.add(INDEX, format!("{index:#}\n").as_bytes())?;
        names.push(INDEX.to_owned());
    }
    names.sort();
    Ok((digests.finish(), names))
}

/// Makes what a delta says of a base: a complete copy of the base's directory. Returns the names of its files.
///
/// # Errors
/// When the base is another one, either is damaged, the delta speaks of tensors that the base has not, or the copy cannot be
/// written; nothing is visible then.
pub fn apply_delta(delta: &super::Delta, dir: &ModelDir, out: &Path) -> Result<Vec<String>, ApplyError> {
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
        dir: std::path::PathBuf,
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
        path: std::path::PathBuf,
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

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `config.json` with another type of the weights, under the key that it has.
fn with_type(bytes: &[u8], path: &Path, dtype: &str) -> Result<Vec<u8>, DataError> {
    let bad = |what: String| DataError::ModelConfig { path: path.display().to_string(), what };
    let mut config: Value =
        serde_json::from_slice(bytes).map_err(|error| bad(format!("it is not JSON: {error}")))?;
    let object = config.as_object_mut().ok_or_else(|| bad("it is not a JSON object".into()))?;
    let word = match dtype {
        "F32" => "float32",
        "F16" => "float16",
        _ => "bfloat16",
    };
    let known: Vec<&str> =
        ["torch_dtype", "dtype"].into_iter().filter(|key| object.contains_key(*key)).collect();
    for key in if known.is_empty() { vec!["torch_dtype"] } else { known } {
        object.insert(key.to_owned(), word.into());
    }
    Ok(format!("{config:#}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Change, Delta, delta_bytes};

    /// A sharded directory with a tied head that transformers wrote.
    fn sharded() -> ModelDir {
        ModelDir::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/torch/tied_gqa4")).unwrap()
    }

    fn copied(dir: &ModelDir, to: &Path, dtype: Option<&str>) -> (String, Vec<String>) {
        let folder = NewFolder::begin(to).unwrap();
        let mut edit = |_: &TensorEntry, bytes: Vec<u8>| Ok::<_, ApplyError>(bytes);
        let made = copy_model(dir, &folder, &companions(dir).unwrap(), dtype, &mut edit).unwrap();
        folder.publish().unwrap();
        made
    }

    #[test]
    fn a_copy_has_the_same_shards_and_the_same_digest() {
        let (dir, room) = (sharded(), tempfile::tempdir().unwrap());
        let (digest, names) = copied(&dir, &room.path().join("copy"), None);
        assert_eq!(digest, tensors_digest(&dir).unwrap());
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(names, ["config.json", shards[0], shards[1], INDEX]);
        let copy = ModelDir::open(&room.path().join("copy")).unwrap();
        assert_eq!(tensors_digest(&copy).unwrap(), digest);
        let index = |dir: &ModelDir| -> Value {
            serde_json::from_slice(&read(&dir.path.join(INDEX)).unwrap()).unwrap()
        };
        assert_eq!(index(&copy)["weight_map"], index(&dir)["weight_map"]);
        assert_eq!(index(&copy)["metadata"]["total_size"], index(&dir)["metadata"]["total_size"]);
        // A copy of the copy has the same bytes.
        copied(&copy, &room.path().join("again"), None);
        for name in names {
            let bytes = |folder: &str| read(&room.path().join(folder).join(&name)).unwrap();
            assert_eq!(bytes("copy"), bytes("again"), "{name}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    fn of_a_hub_s_cache_only_what_is_compared_is_copied() {
        let (dir, room) = (sharded(), tempfile::tempdir().unwrap());
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let own = room.path().join("own").join(commit);
        let snapshot = room.path().join("snapshots").join(commit);
        for (folder, expected) in [
            (own, &["LICENSE", "vocab.json", "special_tokens_map.json"][..]),
            (snapshot, &["special_tokens_map.json"]),
        ] {
            std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
            let (_, plain) = copied(&dir, &folder, None);
            for name in ["LICENSE", "vocab.json", "special_tokens_map.json"] {
                std::fs::write(folder.join(name), "{}").unwrap();
            }
            let base = ModelDir::open(&folder).unwrap();
            let (_, names) = copied(&base, &folder.with_file_name("copy"), None);
            let more: Vec<&String> = names.iter().filter(|name| !plain.contains(name)).collect();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(more, expected, "{}", folder.display());
        }
    }

    #[test]
    fn what_transformers_makes_by_itself_is_left_out() {
        let (dir, room) = (sharded(), tempfile::tempdir().unwrap());
        assert!(!kept(&dir, "lm_head.weight") && !kept(&dir, "model.layers.0.self_attn.rotary_emb.inv_freq"));
        assert!(kept(&dir, "model.embed_tokens.weight"));
        let mut untied = ModelDir::open(&dir.path).unwrap();
        untied.architecture.tied = false;
        assert!(kept(&untied, "lm_head.weight"));
        let config = with_type(br#"{"torch_dtype": "bfloat16", "a": 1}"#, room.path(), "F32").unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&config).unwrap(),
            json!({ "torch_dtype": "float32", "a": 1 })
        );
    }

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
        let head = crate::data::DeltaHead {
            base_digest: tensors_digest(&dir).unwrap(),
            result_digest: after.finish(),
            mask: "full".into(),
            run: "1".into(),
            base: "b".into(),
            files: companions(&dir).unwrap(),
        };
        let out = room.path().join("out");
        let apply = |head: &crate::data::DeltaHead, changes: Vec<(TensorEntry, Change)>| {
            let path = room.path().join("d");
            crate::store::write_file(&path, &delta_bytes(head, changes)).unwrap();
            apply_delta(&Delta::open(&path).unwrap(), &dir, &out)
        };
        let stranger = TensorEntry { name: "model.stranger".into(), ..entry.clone() };
        let error = apply(&head, vec![(entry.clone(), value()), (stranger, value())]).unwrap_err();
        assert!(matches!(error, ApplyError::OtherResult { .. }), "{error}");
        let other = crate::data::DeltaHead { result_digest: "0".into(), ..head.clone() };
        assert!(matches!(
            apply(&other, vec![(entry.clone(), value())]).unwrap_err(),
            ApplyError::OtherResult { .. }
        ));
        assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 1, "the delta alone");
        let files = |name: &str| [(name.to_owned(), "0".to_owned())].into();
        for name in ["config.json", "generation_config.json", "../config.json"] {
            let other = crate::data::DeltaHead { files: files(name), ..head.clone() };
            let error = apply(&other, vec![(entry.clone(), value())]).unwrap_err();
            assert!(matches!(error, ApplyError::OtherFile { .. }), "{error}");
        }
        apply(&head, vec![(entry.clone(), value())]).unwrap();
        assert_eq!(tensors_digest(&ModelDir::open(&out).unwrap()).unwrap(), head.result_digest);
    }
}
