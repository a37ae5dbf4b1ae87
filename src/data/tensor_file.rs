//! A safetensors file that is read tensor by tensor, so that no more than one of them is in memory.
//!
//! Invariant: the header and the length of the file were checked against each other before the first tensor is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};

use super::DataError;

/// The longest header that is believed, as in the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open file.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    start: u64,
    entries: Vec<TensorEntry>,
    metadata: BTreeMap<String, String>,
}

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it begins after the header, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub length: usize,
}

impl TensorFile {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// When it cannot be read, the header is broken, or the file is shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Read { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let whole = file.metadata().map_err(failed)?.len();
        let bad = |what: String| DataError::Weights {
            path: path.into(),
            what: format!("{what} (the file has {whole} bytes)"),
        };
        let mut size = [0; 8];
        if whole < 8 {
            return Err(bad("it is too short for a safetensors header".into()));
        }
        file.read_exact_at(&mut size, 0).map_err(failed)?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST_HEADER || size > whole - 8 {
            return Err(bad(format!(
                "its header would have {size} bytes: it is no safetensors file, or cut short"
            )));
        }
        let mut header = vec![0; size as usize];
        file.read_exact_at(&mut header, 8).map_err(failed)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|error| bad(format!("its header is broken: {error}")))?;
        let (start, data) = (8 + size, header.data_len() as u64);
        if start.checked_add(data) != Some(whole) {
            return Err(bad(format!(
                "its header speaks of {data} bytes of tensors, {} are there",
                whole - start
            )));
        }
        let mut entries: Vec<TensorEntry> = header
            .tensors()
            .into_iter()
            .map(|(name, info)| TensorEntry {
                name,
                dtype: info.dtype,
                shape: info.shape.clone(),
                offset: info.data_offsets.0 as u64,
                length: info.data_offsets.1 - info.data_offsets.0,
            })
            .collect();
        entries.sort_by(|a, b| (a.offset, a.length, &a.name).cmp(&(b.offset, b.length, &b.name)));
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { path: path.into(), file, start, entries, metadata })
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
        self.file
            .read_exact_at(&mut bytes, self.start + entry.offset)
            .map_err(|source| DataError::Read { path: self.path.clone(), source })?;
        Ok(bytes)
    }
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
        assert_eq!((entry.dtype, entry.shape.as_slice()), (Dtype::BF16, [2].as_slice()));
        assert_eq!(file.read(entry).unwrap(), [0, 1, 2, 3]);
        assert_eq!(file.read(file.entry("nothing").unwrap()).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn every_cut_and_every_added_byte_is_noticed() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let message = open(&bytes[..end]).unwrap_err();
            assert!(
                message.contains("m.safetensors") && message.contains(&format!("{end} bytes")),
                "{message}"
            );
        }
        assert!(
            open(&[bytes.as_slice(), &[0]].concat())
                .unwrap_err()
                .contains("10 bytes of tensors, 11 are there")
        );
    }
}
