//! A file of rows that one attempt appends to, with a running digest of what it holds.
//!
//! In: rows. Out: JSON lines, and a [`RowsMark`] that a checkpoint stores: how many rows and bytes there were and
//! their digest, so that a later attempt can take over exactly this prefix and notice damage in it.

use std::path::Path;

use serde_json::{Value, json};

use super::disk::DiskFile;
use super::record::{self, Row};
use super::{StoreError, fs};

/// How far a file of rows had been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowsMark {
    pub rows: u64,
    pub bytes: u64,
    pub blake3: String,
}

impl RowsMark {
    pub fn to_value(&self) -> Value {
        json!({"rows": self.rows, "bytes": self.bytes, "blake3": self.blake3})
    }

    pub fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            rows: value["rows"].as_u64()?,
            bytes: value["bytes"].as_u64()?,
            blake3: value["blake3"].as_str()?.to_owned(),
        })
    }

    /// The prefix of the file at `path` that the mark describes; what was written after it is left out.
    pub fn prefix(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let mut bytes = fs::read_optional(path)?.ok_or_else(|| StoreError::damaged(path, "it is missing"))?;
        if (bytes.len() as u64) < self.bytes {
            let what = format!("{} bytes instead of at least {}", bytes.len(), self.bytes);
            return Err(StoreError::damaged(path, what));
        }
        bytes.truncate(self.bytes as usize);
        if record::digest(&bytes) != self.blake3 {
            return Err(StoreError::damaged(
                path,
                format!("its first {} rows are not those written", self.rows),
            ));
        }
        Ok(bytes)
    }
}

/// A file of rows, open for appending.
pub(super) struct RowsFile {
    file: DiskFile,
    hasher: blake3::Hasher,
    bytes: u64,
    rows: Vec<Row>,
}

impl RowsFile {
    /// Creates the file with the rows taken over from an earlier attempt.
    pub fn create(path: &Path, adopted: &[u8]) -> Result<Self, StoreError> {
        fs::write_new(path, adopted)?;
        let rows = record::parse_rows(adopted, path)?;
        let file = fs::append_to(path)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(adopted);
        Ok(Self { file, hasher, bytes: adopted.len() as u64, rows })
    }

    /// Appends one row. When that fails the file is cut back to the rows before it.
    pub fn append(&mut self, row: &Row) -> Result<(), StoreError> {
        let mut line = Value::Object(row.clone()).to_string();
        line.push('\n');
        if let Err(error) = self.file.append(line.as_bytes()) {
            let _ = self.file.cut(self.bytes);
            return Err(StoreError::io("write", self.file.path(), error));
        }
        self.hasher.update(line.as_bytes());
        self.bytes += line.len() as u64;
        self.rows.push(row.clone());
        Ok(())
    }

    /// Forces the rows to the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync().map_err(|e| StoreError::io("fsync", self.file.path(), e))
    }

    /// How far the file has been written.
    pub fn mark(&self) -> RowsMark {
        RowsMark {
            rows: self.rows.len() as u64,
            bytes: self.bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        }
    }

    /// All rows, adopted ones included.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}
