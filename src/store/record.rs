//! Records: canonical JSON, seals, completion markers, rows.
//!
//! In: JSON values and bytes. Out: text that is the same for the same content, and markers that notice damage, their
//! own included. Canonical JSON: keys sorted by their bytes, no spaces, floats as the shortest text that reads back
//! to the same bits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::StoreError;

/// The newest format of markers that this program reads and the one that it writes.
pub const FORMAT: u64 = 1;

/// One line of `metrics.jsonl` or `eval.jsonl`.
pub type Row = Map<String, Value>;

/// The canonical text of a value.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::String(key.clone()));
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(value, out);
            }
            out.push(']');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

/// blake3 in hex.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The text of a record with its own digest inside, so that a flipped bit in the record itself is noticed.
pub fn seal(mut record: Map<String, Value>) -> String {
    record.insert("format".to_owned(), json!(FORMAT));
    let body = Value::Object(record.clone());
    record.insert("seal".to_owned(), Value::String(digest(canonical(&body).as_bytes())));
    canonical(&Value::Object(record)) + "\n"
}

/// Reads a sealed record; `path` is for messages.
pub fn unseal(bytes: &[u8], path: &Path) -> Result<Map<String, Value>, StoreError> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|e| StoreError::damaged(path, format!("not JSON: {e}")))?;
    let Value::Object(mut record) = value else {
        return Err(StoreError::damaged(path, "not a JSON object"));
    };
    // A newer format may be sealed in another way, so its number is looked at first.
    match record.get("format").and_then(Value::as_u64) {
        Some(found) if found > FORMAT => {
            return Err(StoreError::Newer { path: path.to_path_buf(), found, known: FORMAT });
        }
        Some(_) => {}
        None => return Err(StoreError::damaged(path, "it states no format")),
    }
    let seal = record.shift_remove("seal");
    let expected = digest(canonical(&Value::Object(record.clone())).as_bytes());
    if seal.as_ref().and_then(Value::as_str) != Some(expected.as_str()) {
        return Err(StoreError::damaged(path, "its content does not fit its seal"));
    }
    Ok(record)
}

/// Size and digest of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// blake3 of the content, in hex.
    pub blake3: String,
}

impl FileRecord {
    /// The record of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, blake3: digest(bytes) }
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        json!({"bytes": self.bytes, "blake3": self.blake3})
    }

    /// Fails unless `bytes` are the bytes that were recorded.
    pub fn check(&self, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
        // The digest of what has another length is of no interest.
        if bytes.len() as u64 == self.bytes {
            return self.check_record(&Self::of(bytes), path);
        }
        self.check_record(&Self { bytes: bytes.len() as u64, blake3: String::new() }, path)
    }

    /// Fails unless a file has the size and the digest that were recorded.
    pub fn check_record(&self, found: &Self, path: &Path) -> Result<(), StoreError> {
        if found.bytes != self.bytes {
            let what = format!("{} bytes instead of {}", found.bytes, self.bytes);
            return Err(StoreError::damaged(path, what));
        }
        if found.blake3 != self.blake3 {
            return Err(StoreError::damaged(path, "its content does not fit the digest in its marker"));
        }
        Ok(())
    }
}

/// The completion marker of an artifact, a checkpoint or a run: it is written last, so what it names is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker {
    /// "base", "scores", "mask", "checkpoint" or "run".
    pub kind: String,
    /// The id of the artifact or run.
    pub id: String,
    /// Every file, by its name relative to the folder that the marker describes.
    pub files: BTreeMap<String, FileRecord>,
    /// What the store itself has to know: attempt, step, row counts.
    pub detail: Value,
    /// What the producer wants to say.
    pub meta: Value,
}

impl Marker {
    /// The marker's text.
    pub fn to_text(&self) -> String {
        let mut record = Map::new();
        record.insert("kind".to_owned(), json!(self.kind));
        record.insert("id".to_owned(), json!(self.id));
        let files: Map<String, Value> =
            self.files.iter().map(|(name, file)| (name.clone(), file.to_value())).collect();
        record.insert("files".to_owned(), Value::Object(files));
        record.insert("detail".to_owned(), self.detail.clone());
        record.insert("meta".to_owned(), self.meta.clone());
        seal(record)
    }

    /// Reads a marker and checks that it is one of `kind` for `id`.
    pub fn parse(bytes: &[u8], kind: &str, id: &str, path: &Path) -> Result<Self, StoreError> {
        let mut record = unseal(bytes, path)?;
        let mut take = |key: &str| {
            record.shift_remove(key).ok_or_else(|| StoreError::damaged(path, format!("it states no {key}")))
        };
        if take("kind")? != kind || take("id")? != id {
            return Err(StoreError::damaged(path, format!("it is not the marker of {kind} {id}")));
        }
        let Value::Object(entries) = take("files")? else {
            return Err(StoreError::damaged(path, "its list of files is not an object"));
        };
        let mut files = BTreeMap::new();
        for (name, entry) in entries {
            let (Some(bytes), Some(blake3)) = (entry["bytes"].as_u64(), entry["blake3"].as_str()) else {
                return Err(StoreError::damaged(
                    path,
                    format!("its entry for {name:?} lacks size or digest"),
                ));
            };
            files.insert(name, FileRecord { bytes, blake3: blake3.to_owned() });
        }
        Ok(Self {
            kind: kind.to_owned(),
            id: id.to_owned(),
            files,
            detail: take("detail")?,
            meta: take("meta")?,
        })
    }
}

/// The column of an evaluation's row that holds whole conversations, for people to read.
pub const TRANSCRIPTS: &str = "transcripts";

/// Whether a column measures time or memory, and so differs between two executions of the same run.
pub fn is_measured(column: &str) -> bool {
    ["_seconds", "_per_second", "_bytes"].iter().any(|suffix| column.ends_with(suffix))
}

/// blake3 over the reproducible content of rows: every column but those that measure time or memory. Two executions
/// of a run with the same build on the same class of device have the same digest, however often they were interrupted.
pub fn reproducible_digest(rows: &[Row]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("tickets/v1/rows");
    for row in rows {
        let kept: Map<String, Value> = row
            .iter()
            .filter(|(key, _)| !is_measured(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        hasher.update(canonical(&Value::Object(kept)).as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// Reads JSON lines. A last line that is cut short, as a kill in mid-write leaves it, is dropped; anything else that
/// is not a JSON object is damage.
pub fn parse_rows(bytes: &[u8], path: &Path) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let row = serde_json::from_slice(&rest[..end])
            .map_err(|e| StoreError::damaged(path, format!("line {}: {e}", rows.len() + 1)))?;
        rows.push(row);
        rest = &rest[end + 1..];
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn canonical_text_is_sorted_and_keeps_every_bit_of_floats() {
        let value: Value =
            serde_json::from_str(r#"{ "b": [1, 0.1, -0.0, 1e300], "a": {"z": null, "y": "ä\n"} }"#).unwrap();
        let text = canonical(&value);
        assert_eq!(text, r#"{"a":{"y":"ä\n","z":null},"b":[1,0.1,-0.0,1e+300]}"#);
        assert_eq!(canonical(&serde_json::from_str(&text).unwrap()), text);
    }

    #[test]
    fn every_flipped_bit_of_a_marker_is_noticed() {
        let marker = Marker {
            kind: "base".into(),
            id: "ab12".into(),
            files: BTreeMap::from([("w".into(), FileRecord::of(b"weights"))]),
            detail: json!({"rows": 3}),
            meta: json!({"score": 0.25, "name": "x"}),
        };
        let text = marker.to_text();
        let path = Path::new("DONE.json");
        assert_eq!(Marker::parse(text.as_bytes(), "base", "ab12", path).unwrap(), marker);
        // The last byte is the newline, whose loss or change into another space harms nothing.
        for index in 0..text.len() - 1 {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                assert!(Marker::parse(&bytes, "base", "ab12", path).is_err(), "byte {index} bit {bit}");
            }
        }
        for length in 0..text.len() - 1 {
            assert!(
                Marker::parse(&text.as_bytes()[..length], "base", "ab12", path).is_err(),
                "length {length}"
            );
        }
        assert!(Marker::parse(text.as_bytes(), "base", "ab13", path).is_err());
        assert!(Marker::parse(text.as_bytes(), "mask", "ab12", path).is_err());
    }

    #[test]
    fn a_newer_format_is_refused_as_such() {
        let text = seal(Map::new()).replace("\"format\":1", "\"format\":2");
        let error = unseal(text.as_bytes(), Path::new("DONE.json")).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error:?}");
    }

    #[test]
    fn the_reproducible_digest_leaves_out_measured_columns_only() {
        let one =
            [row(r#"{"step":1,"reward":0.5,"rollout_seconds":1.5,"tokens_per_second":9,"peak_bytes":7}"#)];
        let same = [row(r#"{"peak_bytes":8,"reward":0.5,"step":1}"#)];
        let other = [row(r#"{"step":1,"reward":0.5000000000000001}"#)];
        assert_eq!(reproducible_digest(&one), reproducible_digest(&same));
        assert_ne!(reproducible_digest(&one), reproducible_digest(&other));
        assert_ne!(reproducible_digest(&one), reproducible_digest(&[]));
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_damage_in_the_middle_is_not() {
        let path = Path::new("metrics.jsonl");
        assert_eq!(parse_rows(b"{\"step\":1}\n{\"step\":2}\n{\"ste", path).unwrap().len(), 2);
        assert_eq!(parse_rows(b"{\"step\":1", path).unwrap().len(), 0);
        let error = parse_rows(b"{\"step\":1}\n{\"st\n{\"step\":3}\n", path).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
