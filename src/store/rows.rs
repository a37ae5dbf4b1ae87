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
    /// What the file holds is not known: half a row could not be taken back, or an fsync failed.
    spoiled: bool,
}

impl RowsFile {
    /// Creates the file with the rows taken over from an earlier attempt.
    pub fn create(path: &Path, adopted: &[u8]) -> Result<Self, StoreError> {
        fs::write_new(path, adopted)?;
        let rows = record::parse_rows(adopted, path)?;
        let file = fs::append_to(path)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(adopted);
        Ok(Self { file, hasher, bytes: adopted.len() as u64, rows, spoiled: false })
    }

    /// Appends one row. When that fails the file is cut back to the rows before it; when that fails too, it takes no more.
    pub fn append(&mut self, row: &Row) -> Result<(), StoreError> {
        self.refuse_spoiled("write")?;
        let mut line = Value::Object(row.clone()).to_string();
        line.push('\n');
        if let Err(error) = self.file.append(line.as_bytes()) {
            self.spoiled = self.file.cut(self.bytes).is_err();
            return Err(StoreError::io("write", self.file.path(), error));
        }
        self.hasher.update(line.as_bytes());
        self.bytes += line.len() as u64;
        self.rows.push(row.clone());
        Ok(())
    }

    /// Forces the rows to the disk. After a failure it is not tried again: the kernel may have dropped the rows, and a
    /// second try would succeed without them.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.refuse_spoiled("fsync")?;
        let synced = self.file.sync();
        self.spoiled = synced.is_err();
        synced.map_err(|e| StoreError::io("fsync", self.file.path(), e))
    }

    fn refuse_spoiled(&self, action: &'static str) -> Result<(), StoreError> {
        if !self.spoiled {
            return Ok(());
        }
        let source = std::io::Error::other("an earlier write to this file failed");
        Err(StoreError::io(action, self.file.path(), source))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::{Fault, watch};

    fn row(step: u32) -> Row {
        json!({"step": step}).as_object().unwrap().clone()
    }

    fn steps(file: &RowsFile) -> usize {
        let path = file.file.path();
        record::parse_rows(&fs::read(path).unwrap(), path).unwrap().len()
    }

    #[test]
    fn half_a_row_is_taken_back_and_the_next_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RowsFile::create(&folder.path().join("rows"), b"").unwrap();
        file.append(&row(1)).unwrap();
        let (failed, _) = watch(Some((0, Fault::ShortOnce)), || file.append(&row(2)));
        assert!(failed.unwrap_err().is_disk_full());
        file.append(&row(2)).unwrap();
        file.sync().unwrap();
        assert_eq!((steps(&file), file.rows().len(), file.mark().rows), (2, 2, 2));
        assert_eq!(file.mark().prefix(file.file.path()).unwrap(), fs::read(file.file.path()).unwrap());
    }

    #[test]
    fn a_file_takes_no_more_when_half_a_row_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RowsFile::create(&folder.path().join("rows"), b"").unwrap();
        file.append(&row(1)).unwrap();
        let (failed, _) = watch(Some((0, Fault::KillHalfway)), || file.append(&row(2)));
        failed.unwrap_err();
        file.append(&row(3)).unwrap_err();
        file.sync().unwrap_err();
        assert_eq!(steps(&file), 1, "no row was written behind the half one");
    }

    #[test]
    fn an_fsync_that_failed_is_not_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RowsFile::create(&folder.path().join("rows"), b"").unwrap();
        file.append(&row(1)).unwrap();
        let (failed, _) = watch(Some((0, Fault::Io)), || file.sync());
        failed.unwrap_err();
        file.sync().unwrap_err();
        file.append(&row(2)).unwrap_err();
    }
}
