//! A safetensors file that is read tensor by tensor, so that no more than one of them is in memory.
//!
//! Invariant: the header and the length of the file were checked against each other before the first tensor is read.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::DataError;

/// Larger headers are refused, as the format's own reader does.
const LARGEST_HEADER: u64 = 100_000_000;

/// An open file.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    source: Source,
    entries: Vec<TensorEntry>,
    metadata: BTreeMap<String, String>,
}

/// Where the bytes are.
#[derive(Debug)]
enum Source {
    Disk(File),
    Memory(Vec<u8>),
}

impl Source {
    fn length(&self) -> io::Result<u64> {
        match self {
            Self::Disk(file) => file.metadata().map(|found| found.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], start: u64) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.read_exact_at(buffer, start),
            Self::Memory(bytes) => {
                let found = bytes.get(start as usize..).and_then(|rest| rest.get(..buffer.len()));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// A tensor of a file, as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// `F32`, `BF16`, `F16`, `I32`, ...
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its first byte, counted from the start of the file.
    pub start: u64,
    /// Its bytes.
    pub length: usize,
}

impl TensorEntry {
    /// Numbers that it holds.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Bytes of a number of a type that weights, masks and deltas have.
pub fn width(dtype: &str) -> Option<usize> {
    match dtype {
        "F32" | "I32" => Some(4),
        "F16" | "BF16" => Some(2),
        _ => None,
    }
}

impl TensorFile {
    /// Opens a file and checks its header against its length. Only the header is read.
    ///
    /// # Errors
    /// When it cannot be read, the header is broken, or the file is shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Read { path: path.into(), source })?;
        Self::of(Source::Disk(file), path)
    }

    /// The same of the bytes of a file; `path` names it in errors.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, DataError> {
        Self::of(Source::Memory(bytes), path)
    }

    fn of(source: Source, path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read { path: path.into(), source };
        let length = source.length().map_err(unreadable)?;
        let bad = |what: String| DataError::Weights { path: path.into(), what };
        let mut size = [0; 8];
        if length < 8 {
            return Err(bad(format!("it has {length} bytes, too few for a header")));
        }
        source.read_exact_at(&mut size, 0).map_err(unreadable)?;
        let size = u64::from_le_bytes(size);
        if size > length - 8 || size > LARGEST_HEADER {
            return Err(bad(format!(
                "its header should have {size} bytes, and the file has {length} in all"
            )));
        }
        let mut header = vec![0; size as usize];
        source.read_exact_at(&mut header, 8).map_err(unreadable)?;
        let mut header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|error| bad(format!("its header is broken: {error}")))?;
        let metadata = match header.remove("__metadata__") {
            None => BTreeMap::new(),
            Some(value) => serde_json::from_value(value)
                .map_err(|error| bad(format!("the metadata in its header are no texts: {error}")))?,
        };
        let mut entries = described(header, length - 8 - size).map_err(bad)?;
        for entry in &mut entries {
            entry.start += 8 + size;
        }
        Ok(Self { path: path.into(), source, entries, metadata })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors in the order of their bytes.
    pub fn entries(&self) -> &[TensorEntry] {
        &self.entries
    }

    /// The `__metadata__` of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor of this name.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The bytes of a tensor, little-endian and row-major.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self, entry: &TensorEntry) -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; entry.length];
        self.read_part(entry, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills a buffer with the bytes of a tensor from the byte `from` of it on.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read_part(&self, entry: &TensorEntry, from: usize, buffer: &mut [u8]) -> Result<(), DataError> {
        self.source
            .read_exact_at(buffer, entry.start + from as u64)
            .map_err(|source| DataError::Read { path: self.path.clone(), source })
    }
}

/// The tensors of a header before `data` bytes; starts are counted from the end of the header.
fn described(header: Map<String, Value>, data: u64) -> Result<Vec<TensorEntry>, String> {
    let mut list = Vec::with_capacity(header.len());
    for (name, value) in header {
        let Ok(TensorHeader { dtype, shape, data_offsets: (start, end) }) = serde_json::from_value(value)
        else {
            return Err(format!("its header describes tensor {name} wrongly"));
        };
        let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
        // Types that no model here may have are not measured.
        let width = width(&dtype).map(|width| width as u64);
        let expected = width.map(|width| elements.and_then(|elements| elements.checked_mul(width)));
        let bytes = end.checked_sub(start);
        if bytes.is_none() || expected.is_some_and(|expected| expected != bytes) {
            return Err(format!(
                "its header gives tensor {name} bytes {start} to {end}, not what {shape:?} take"
            ));
        }
        let length = (end - start) as usize;
        list.push((end, TensorEntry { name, dtype, shape, start, length }));
    }
    list.sort_by_key(|(end, entry)| (entry.start, *end));
    let mut at = 0;
    for (end, entry) in &list {
        if entry.start != at {
            let name = &entry.name;
            return Err(format!(
                "its header puts tensor {name} at byte {}, where {at} should be next",
                entry.start
            ));
        }
        at = *end;
    }
    match at.cmp(&data) {
        Ordering::Equal => Ok(list.into_iter().map(|(_, entry)| entry).collect()),
        Ordering::Greater => {
            Err(format!("it is cut short: its header describes {at} bytes of tensors, and {data} are there"))
        }
        Ordering::Less => {
            Err(format!("it is longer than its header says: {at} bytes of tensors, and {data} are there"))
        }
    }
}

#[derive(Deserialize)]
struct TensorHeader {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::safetensors::{RawTensor, to_bytes};

    fn sample() -> Vec<u8> {
        let tensor = |name: &str, count: u8| RawTensor {
            name: name.into(),
            dtype: "BF16",
            shape: vec![count as usize],
            bytes: (0..2 * count).collect(),
        };
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        to_bytes(&[tensor("z", 3), tensor("nothing", 0), tensor("a", 2)], &metadata)
    }

    fn open(bytes: &[u8]) -> Result<TensorFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        crate::store::write_file(&path, bytes).unwrap();
        TensorFile::open(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn tensors_are_read_one_by_one_in_the_order_of_their_bytes() {
        let file = open(&sample()).unwrap();
        let names: Vec<&str> = file.entries().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["z", "nothing", "a"]);
        assert_eq!(file.metadata()["format"], "pt");
        let entry = file.entry("a").unwrap();
        assert_eq!((entry.dtype.as_str(), entry.shape.as_slice()), ("BF16", [2].as_slice()));
        assert_eq!(file.read(entry).unwrap(), [0, 1, 2, 3]);
        assert_eq!(file.read(file.entry("nothing").unwrap()).unwrap(), Vec::<u8>::new());
        let in_memory = TensorFile::from_bytes(sample(), Path::new("m.safetensors")).unwrap();
        assert_eq!((in_memory.entries(), in_memory.metadata()), (file.entries(), file.metadata()));
        for file in [&file, &in_memory] {
            let mut part = [0; 3];
            file.read_part(&file.entries()[0], 2, &mut part).unwrap();
            assert_eq!(part, [2, 3, 4]);
        }
    }

    #[test]
    fn every_cut_and_every_added_byte_is_noticed() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let message = open(&bytes[..end]).unwrap_err();
            assert!(message.contains("m.safetensors"), "{message}");
            let in_memory = TensorFile::from_bytes(bytes[..end].to_vec(), Path::new("m.safetensors"));
            assert_eq!(in_memory.unwrap_err().to_string().contains("bytes"), message.contains("bytes"));
        }
        assert!(
            open(&[bytes.as_slice(), &[0]].concat()).unwrap_err().contains("longer than its header says")
        );
    }
}
