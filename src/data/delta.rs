//! A sparse delta: what a run changed of its base, in one small file that is checked against that base.
//!
//! The file is safetensors. Of each tensor that changed it holds `<name>.indices` (int32, flat, ascending) and
//! `<name>.values` (the base's type); of one that changed so much that this would be longer than the tensor itself,
//! `<name>.values` alone, whole. The metadata name the base and the result by digests, so that neither a wrong base nor a
//! damaged file can give a model.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::DataError;
use super::model_files::TensorDigests;
use super::safetensors::{RawTensor, to_bytes};
use super::tensor_file::{TensorEntry, TensorFile, width};

/// What the metadata call the format.
const FORMAT: &str = "tickets-delta";
/// The version that is written, and the only one that is read.
const VERSION: &str = "1";

/// The key of the digest over everything else.
const SEAL: &str = "delta_digest";

/// What became of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These entries have other bytes: flat indices, ascending, and their new values one after the other.
    Entries {
        /// Flat indices.
        indices: Vec<u32>,
        /// As many values, in the tensor's type.
        values: Vec<u8>,
    },
    /// All of the tensor's new bytes.
    Whole(Vec<u8>),
}

impl Change {
    /// Puts the new values into a tensor's bytes, of `width` bytes an entry. The lengths were checked when it was read.
    pub fn apply(&self, width: usize, bytes: &mut Vec<u8>) {
        match self {
            Self::Whole(whole) => bytes.clone_from(whole),
            Self::Entries { indices, values } => {
                for (&index, value) in indices.iter().zip(values.chunks_exact(width)) {
                    let at = index as usize * width;
                    bytes[at..at + width].copy_from_slice(value);
                }
            }
        }
    }
}

/// Where a delta comes from and goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaHead {
    /// Digest of the base's tensors, see [`TensorDigests`].
    pub base_digest: String,
    /// Digest of the tensors that it makes of them.
    pub result_digest: String,
    /// Id of the mask, or `full`.
    pub mask: String,
    /// Id of the run.
    pub run: String,
    /// What the run's base is called: for people.
    pub base: String,
    /// The base's other files by name, with their blake3 digests in hex: shape, tokenizer, template.
    pub files: BTreeMap<String, String>,
}

/// The bytes of a delta file; changes by name of the tensor, with its type and shape.
pub fn delta_bytes(head: &DeltaHead, changes: Vec<(TensorEntry, Change)>) -> Vec<u8> {
    let mut tensors = Vec::with_capacity(2 * changes.len());
    let mut changed = 0;
    for (entry, change) in changes {
        let dtype = type_name(&entry.dtype);
        match change {
            Change::Entries { indices, values } => {
                changed += indices.len();
                tensors.push(RawTensor {
                    name: format!("{}.indices", entry.name),
                    dtype: "I32",
                    shape: vec![indices.len()],
                    bytes: indices.iter().flat_map(|index| index.to_le_bytes()).collect(),
                });
                tensors.push(RawTensor {
                    name: format!("{}.values", entry.name),
                    dtype,
                    shape: vec![indices.len()],
                    bytes: values,
                });
            }
            Change::Whole(bytes) => {
                changed += entry.elements();
                tensors.push(RawTensor {
                    name: format!("{}.values", entry.name),
                    dtype,
                    shape: entry.shape,
                    bytes,
                });
            }
        }
    }
    let mut digests = TensorDigests::default();
    for tensor in &tensors {
        digests.add(&tensor.name, tensor.dtype, &tensor.shape, &tensor.bytes);
    }
    let mut metadata = words(head);
    metadata.insert("changed".to_owned(), changed.to_string());
    metadata.insert(SEAL.to_owned(), sealed(&digests.finish(), &metadata));
    to_bytes(&tensors, &metadata)
}

/// The head as metadata.
fn words(head: &DeltaHead) -> BTreeMap<String, String> {
    let DeltaHead { base_digest, result_digest, mask, run, base, files } = head;
    let words = [
        ("format", FORMAT),
        ("version", VERSION),
        ("base_digest", base_digest),
        ("result_digest", result_digest),
        ("mask", mask),
        ("run", run),
        ("base", base),
        ("files", &json!(files).to_string()),
    ];
    words.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The digest of a delta: of its tensors and of what its metadata say.
fn sealed(tensors: &str, metadata: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tensors.as_bytes());
    for (key, value) in metadata.iter().filter(|(key, _)| *key != SEAL) {
        hasher.update(format!("\n{key}={value}").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// A delta file, open and whole.
#[derive(Debug)]
pub struct Delta {
    file: TensorFile,
    /// Where it comes from and goes to.
    pub head: DeltaHead,
}

impl Delta {
    /// Opens a delta and checks it against its own digest.
    ///
    /// # Errors
    /// When it is no delta, of another version, or damaged.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = TensorFile::open(path)?;
        let bad = |what: String| DataError::Delta { path: path.into(), what };
        let metadata: &BTreeMap<String, String> = file.metadata();
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(bad("it is no delta: `tickets export RUN --format delta` writes one".into()));
        }
        let word =
            |key: &str| metadata.get(key).cloned().ok_or_else(|| bad(format!("its metadata lack `{key}`")));
        let version = word("version")?;
        if version != VERSION {
            return Err(bad(format!(
                "it has version {version} of the format, this program reads version {VERSION}"
            )));
        }
        let mut digests = TensorDigests::default();
        for entry in file.entries() {
            digests.add_entry(entry, &file.read(entry)?);
        }
        if sealed(&digests.finish(), metadata) != word(SEAL)? {
            return Err(bad("it is damaged: it does not have the digest that it states".into()));
        }
        let files = serde_json::from_str(&word("files")?)
            .map_err(|error| bad(format!("its metadata `files` are no table: {error}")))?;
        let head = DeltaHead {
            base_digest: word("base_digest")?,
            result_digest: word("result_digest")?,
            mask: word("mask")?,
            run: word("run")?,
            base: word("base")?,
            files,
        };
        Ok(Self { file, head })
    }

    /// How many entries it changes.
    pub fn changed(&self) -> usize {
        let values = self.file.entries().iter().filter(|entry| entry.name.ends_with(".values"));
        values.map(TensorEntry::elements).sum()
    }

    /// The names of the tensors that it changes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.entries().iter().filter_map(|entry| entry.name.strip_suffix(".values"))
    }

    /// What becomes of a tensor of the base; `None`: it stays.
    ///
    /// # Errors
    /// When the tensor has another type or another size, or an index is out of order or of range.
    pub fn change(&self, tensor: &TensorEntry) -> Result<Option<Change>, DataError> {
        let bad = |what: String| DataError::Delta {
            path: self.file.path().into(),
            what: format!("{}: {what}", tensor.name),
        };
        let Some(values) = self.file.entry(&format!("{}.values", tensor.name)) else { return Ok(None) };
        if values.dtype != tensor.dtype {
            return Err(bad(format!("its values are {}, the base's {}", values.dtype, tensor.dtype)));
        }
        let bytes = self.file.read(values)?;
        let Some(indices) = self.file.entry(&format!("{}.indices", tensor.name)) else {
            if bytes.len() != tensor.length {
                return Err(bad(format!(
                    "it has the shape {:?}, the base's {:?}",
                    values.shape, tensor.shape
                )));
            }
            return Ok(Some(Change::Whole(bytes)));
        };
        let indices: Vec<u32> = self
            .file
            .read(indices)?
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        let elements = tensor.length / width(&tensor.dtype).unwrap_or(1);
        if indices.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(bad("its indices do not ascend".into()));
        }
        if indices.last().is_some_and(|&last| last as usize >= elements) {
            return Err(bad(format!("an index is beyond the tensor's {elements} entries")));
        }
        if indices.len() != values.shape.iter().product::<usize>() {
            return Err(bad(format!("{} indices and {:?} values", indices.len(), values.shape)));
        }
        Ok(Some(Change::Entries { indices, values: bytes }))
    }
}

/// The name of a type that weights have, for as long as the program runs.
fn type_name(dtype: &str) -> &'static str {
    ["F32", "F16", "BF16"].into_iter().find(|known| *known == dtype).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, shape: &[usize]) -> TensorEntry {
        let length = 2 * shape.iter().product::<usize>();
        TensorEntry { name: name.into(), dtype: "BF16".into(), shape: shape.into(), start: 0, length }
    }

    fn head() -> DeltaHead {
        let word = |text: &str| text.to_owned();
        DeltaHead {
            base_digest: word("b"),
            result_digest: word("r"),
            mask: word("full"),
            run: word("1"),
            base: word(""),
            files: BTreeMap::from([("config.json".to_owned(), "c".to_owned())]),
        }
    }

    fn sample() -> Vec<u8> {
        let sparse = Change::Entries { indices: vec![0, 4], values: vec![1, 2, 3, 4] };
        delta_bytes(
            &head(),
            vec![(entry("a", &[2, 3]), sparse), (entry("b", &[2]), Change::Whole(vec![9, 8, 7, 6]))],
        )
    }

    fn open(bytes: &[u8]) -> Result<Delta, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.delta.safetensors");
        crate::store::write_file(&path, bytes).unwrap();
        Delta::open(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn changes_come_back_and_go_where_they_belong() {
        let delta = open(&sample()).unwrap();
        assert_eq!((delta.head.clone(), delta.changed()), (head(), 4));
        let mut bytes: Vec<u8> = (20..32).collect();
        delta.change(&entry("a", &[2, 3])).unwrap().unwrap().apply(2, &mut bytes);
        assert_eq!(bytes, [1, 2, 22, 23, 24, 25, 26, 27, 3, 4, 30, 31]);
        delta.change(&entry("b", &[2])).unwrap().unwrap().apply(2, &mut bytes);
        assert_eq!(bytes, [9, 8, 7, 6]);
        assert_eq!(delta.change(&entry("c", &[2])).unwrap(), None);
        assert_eq!(delta.names().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn every_flipped_bit_of_a_delta_is_noticed() {
        let bytes = sample();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            // White space in the header says nothing.
            assert!(open(&damaged).is_err() || bytes[at] == b' ', "byte {at}");
        }
    }

    #[test]
    fn what_does_not_fit_the_base_is_refused_by_name() {
        let delta = open(&sample()).unwrap();
        let message = |entry: TensorEntry| delta.change(&entry).unwrap_err().to_string();
        assert!(message(entry("a", &[2, 2])).contains("beyond the tensor's 4 entries"));
        assert!(message(entry("b", &[3])).contains("[2]"));
        assert!(message(TensorEntry { dtype: "F16".into(), ..entry("b", &[2]) }).contains("BF16"));
        let wrong = Change::Entries { indices: vec![4, 0], values: vec![1, 2, 3, 4] };
        let unsorted = open(&delta_bytes(&head(), vec![(entry("a", &[2, 3]), wrong)])).unwrap();
        assert!(unsorted.change(&entry("a", &[2, 3])).unwrap_err().to_string().contains("do not ascend"));
        let plain = to_bytes(&[], &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
        assert!(open(&plain).unwrap_err().contains("no delta"));
    }
}
