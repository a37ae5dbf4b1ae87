//! Copies of a model directory with other numbers in it: weights tensor by tensor, everything else as it is.
//!
//! The copy has the base's files, types and order, `format: pt`, and no tensor that transformers makes by itself (a tied
//! head, rotary frequencies). Equal tensors give equal bytes.

use std::collections::BTreeMap;
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
pub(super) const ALONG: [&str; 6] =
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

pub(super) fn digest_of(path: &Path) -> Result<String, DataError> {
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
pub(super) mod tests {
    use super::*;

    /// A sharded directory with a tied head that transformers wrote.
    pub(in crate::data) fn sharded() -> ModelDir {
        ModelDir::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/torch/tied_gqa4")).unwrap()
    }

    fn copied(dir: &ModelDir, to: &Path, dtype: Option<&str>) -> (String, Vec<String>) {
        let folder = NewFolder::begin(to).unwrap();
        let mut edit = |_: &TensorEntry, bytes: Vec<u8>| Ok::<_, crate::data::ApplyError>(bytes);
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
}
