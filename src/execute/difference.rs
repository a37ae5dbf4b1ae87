//! Whether two executions of a run came to the same: rows, final files, digests, compared bit for bit.
//!
//! In: two finished runs. Out: nothing, or the first place where they differ, with both values. Columns that measure time or
//! memory do not count.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::store::{Artifact, Row, Store, StoreError, TRANSCRIPTS, is_measured};

/// The first place where two executions differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where: `metrics`, `evals`, the name of a file, or of a digest.
    pub part: String,
    /// The complete steps that a row is of.
    pub step: Option<u64>,
    /// The column of the row, or the tensor of the file.
    pub column: Option<String>,
    /// The place in the tensor, or the byte of the file.
    pub index: Option<u64>,
    /// What the first execution has there; `null` where it has nothing.
    pub expected: Value,
    /// What the second has there.
    pub found: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, step, column, index, expected, found } = self;
        write!(out, "{part}")?;
        if let Some(step) = step {
            write!(out, " of step {step}")?;
        }
        if let Some(column) = column {
            write!(out, ", {column}")?;
        }
        if let Some(index) = index {
            write!(out, "[{index}]")?;
        }
        let shown = |value: &Value| match value {
            Value::Null => "nothing".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        write!(out, ": {} instead of {}", shown(found), shown(expected))
    }
}

impl Difference {
    fn at(part: &str, expected: Value, found: Value) -> Self {
        Self { part: part.to_owned(), step: None, column: None, index: None, expected, found }
    }
}

/// The first difference between the results of a run in two stores; `None` when they are equal. A run that one of them
/// lacks differs.
///
/// # Errors
/// When a result cannot be read, or is damaged.
pub fn first_difference(
    expected: &Store,
    found: &Store,
    run: &str,
) -> Result<Option<Difference>, StoreError> {
    let (Some(left), Some(right)) = (expected.result(run)?, found.result(run)?) else {
        return Ok(Some(Difference::at("the result", "a finished run".into(), Value::Null)));
    };
    // Markers may agree about bytes that are no longer there.
    left.verify()?;
    right.verify()?;
    let (rows, others) = (expected.run_rows(run)?, found.run_rows(run)?);
    let differs = rows_differ("metrics", &rows.metrics, &others.metrics)
        .or_else(|| rows_differ("evals", &rows.evals, &others.evals));
    if differs.is_some() {
        return Ok(differs);
    }
    let digests = ["weights_digest", "moments_digest"].into_iter().find_map(|name| {
        let (left, right) = (&left.meta()[name], &right.meta()[name]);
        (left != right).then(|| Difference::at(name, left.clone(), right.clone()))
    });
    // The place in a file says more than a digest does.
    Ok(files_differ(&left, &right)?.or(digests))
}

fn rows_differ(part: &str, expected: &[Row], found: &[Row]) -> Option<Difference> {
    for (left, right) in expected.iter().zip(found) {
        let step = left.get("step").and_then(Value::as_u64);
        let columns = left.keys().chain(right.keys()).filter(|column| !is_measured(column));
        for column in columns {
            let (one, other) = (left.get(column), right.get(column));
            // Results of earlier versions hold no conversations.
            if column == TRANSCRIPTS && (one.is_none() || other.is_none()) {
                continue;
            }
            if one != other {
                let [expected, found] = [one, other].map(|value| value.cloned().unwrap_or_default());
                let column = Some(column.clone());
                return Some(Difference { step, column, ..Difference::at(part, expected, found) });
            }
        }
    }
    let count = |rows: &[Row]| json!(format!("{} rows", rows.len()));
    (expected.len() != found.len()).then(|| Difference::at(part, count(expected), count(found)))
}

/// The first file whose bytes differ. Rows were compared before, without what is measured.
fn files_differ(expected: &Artifact, found: &Artifact) -> Result<Option<Difference>, StoreError> {
    let names = expected.files().keys().chain(found.files().keys()).collect::<BTreeSet<_>>();
    for name in names.into_iter().filter(|name| name.contains('/')) {
        match (expected.files().get(name), found.files().get(name)) {
            (left, right) if left == right => {}
            (Some(_), Some(_)) => {
                return Ok(Some(contents_differ(name, &expected.read(name)?, &found.read(name)?)));
            }
            (left, right) => {
                let [left, right] = [left, right].map(|file| file.map_or(Value::Null, |_| "a file".into()));
                return Ok(Some(Difference::at(name, left, right)));
            }
        }
    }
    Ok(None)
}

/// The first difference of two files: a tensor and a place in it where both hold tensors, else a byte.
fn contents_differ(name: &str, expected: &[u8], found: &[u8]) -> Difference {
    tensors_differ(name, expected, found).unwrap_or_else(|| {
        let index = expected.iter().zip(found).position(|(left, right)| left != right);
        let index = index.unwrap_or(expected.len().min(found.len()));
        let byte = |bytes: &[u8]| bytes.get(index).map_or(Value::Null, |byte| json!(byte));
        Difference { index: Some(index as u64), ..Difference::at(name, byte(expected), byte(found)) }
    })
}

fn tensors_differ(name: &str, expected: &[u8], found: &[u8]) -> Option<Difference> {
    use safetensors::SafeTensors;
    let left = SafeTensors::deserialize(expected).ok()?;
    let right = SafeTensors::deserialize(found).ok()?;
    let names = left.names().into_iter().chain(right.names()).collect::<BTreeSet<_>>();
    for tensor in names {
        let column = Some(tensor.to_owned());
        let (one, other) = (left.tensor(tensor).ok(), right.tensor(tensor).ok());
        let (Some(one), Some(other)) = (&one, &other) else {
            let [one, other] = [one, other].map(|found| found.map_or(Value::Null, |_| "a tensor".into()));
            return Some(Difference { column, ..Difference::at(name, one, other) });
        };
        if one.dtype() != other.dtype() || one.shape() != other.shape() {
            let what = |view: &safetensors::tensor::TensorView| {
                json!(format!("{:?} {:?}", view.dtype(), view.shape()))
            };
            return Some(Difference { column, ..Difference::at(name, what(one), what(other)) });
        }
        let width = (one.dtype().bitsize() / 8).max(1);
        let mut pairs = one.data().chunks(width).zip(other.data().chunks(width));
        if let Some(index) = pairs.position(|(left, right)| left != right) {
            let at = index * width..(index + 1) * width;
            let [left, right] = [one, other].map(|view| number(view.dtype(), &view.data()[at.clone()]));
            let index = Some(index as u64);
            return Some(Difference { column, index, ..Difference::at(name, left, right) });
        }
    }
    None
}

/// An entry of a tensor for a reader: the number, and its bits, since two numbers may look the same.
fn number(dtype: safetensors::Dtype, bytes: &[u8]) -> Value {
    let mut bits = String::new();
    for byte in bytes.iter().rev() {
        let _ = write!(bits, "{byte:02x}");
    }
    let value = match (dtype, bytes) {
        (safetensors::Dtype::F32, &[a, b, c, d]) => Some(f32::from_le_bytes([a, b, c, d])),
        (safetensors::Dtype::BF16, &[a, b]) => Some(f32::from_le_bytes([0, 0, a, b])),
        _ => None,
    };
    value.map_or_else(|| json!(format!("0x{bits}")), |value| json!(format!("{value:e} (0x{bits})")))
}

/// How two executions were made differently, by what is noted beside their results: field, then, now. Where several ways
/// went into the first, or their number differs, that is the difference.
pub fn class_differences(then: &Value, now: &Value) -> Vec<(String, Value, Value)> {
    let (left, right) = (&then["classes"], &now["classes"]);
    let one = |classes: &Value| match classes.as_array().map(Vec::as_slice) {
        Some([class]) => class.as_object().cloned(),
        _ => None,
    };
    match (one(left), one(right)) {
        _ if left == right => Vec::new(),
        (Some(left), Some(right)) => {
            let fields = left.keys().chain(right.keys()).collect::<BTreeSet<_>>();
            let value =
                |class: &Map<String, Value>, field: &str| class.get(field).cloned().unwrap_or_default();
            let differ = fields.into_iter().filter(|field| value(&left, field) != value(&right, field));
            differ.map(|field| (field.clone(), value(&left, field), value(&right, field))).collect()
        }
        _ => vec![("classes".to_owned(), left.clone(), right.clone())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_row_that_differs_is_named_and_what_is_measured_does_not_count() {
        let one = [row(r#"{"step":1,"loss":0.5,"x_seconds":1}"#), row(r#"{"step":2,"loss":0.25}"#)];
        let same = [row(r#"{"step":1,"loss":0.5,"x_seconds":2}"#), row(r#"{"step":2,"loss":0.25}"#)];
        assert_eq!(rows_differ("metrics", &one, &same), None);
        let other = [row(r#"{"step":1,"loss":0.5}"#), row(r#"{"step":2,"loss":0.25000000000000006}"#)];
        let found = rows_differ("metrics", &one, &other).unwrap();
        assert_eq!(found.to_string(), "metrics of step 2, loss: 0.25000000000000006 instead of 0.25");
        let found = rows_differ("evals", &one, &one[..1]).unwrap();
        assert_eq!(found.to_string(), "evals: 1 rows instead of 2 rows");
        let more = [row(r#"{"step":1,"loss":0.5,"extra":1}"#)];
        let found = rows_differ("metrics", &one[..1], &more).unwrap();
        assert_eq!(found.to_string(), "metrics of step 1, extra: 1 instead of nothing");
    }

    #[test]
    fn the_first_tensor_entry_that_differs_is_named() {
        use safetensors::{Dtype, serialize, tensor::TensorView};
        let file = |values: [f32; 3]| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
            let zeros = [0; 4];
            let tensors = [
                ("b/w", TensorView::new(Dtype::F32, vec![3], &bytes).unwrap()),
                ("a/w", TensorView::new(Dtype::F32, vec![1], &zeros).unwrap()),
            ];
            serialize(tensors, None).unwrap()
        };
        let found = contents_differ("final/state", &file([1.0, 2.0, 3.0]), &file([1.0, -2.0, 4.0]));
        assert_eq!((found.column.as_deref(), found.index), (Some("b/w"), Some(1)));
        let text = "final/state, b/w[1]: -2e0 (0xc0000000) instead of 2e0 (0x40000000)";
        assert_eq!(found.to_string(), text);
        let found = contents_differ("final/weight", b"abc", b"abd");
        assert_eq!(found.to_string(), "final/weight[2]: 100 instead of 99");
        assert_eq!(contents_differ("x", b"abc", b"ab").to_string(), "x[2]: nothing instead of 99");
    }

    #[test]
    fn classes_differ_by_field() {
        let of = |threads: u32| json!({ "classes": [{ "device": "cpu", "threads": threads }] });
        assert_eq!(class_differences(&of(1), &of(1)), []);
        assert_eq!(class_differences(&of(1), &of(2)), [("threads".to_owned(), json!(1), json!(2))]);
        let mixed = json!({ "classes": [{ "threads": 1 }, { "threads": 2 }] });
        assert_eq!(class_differences(&mixed, &of(1))[0].0, "classes");
        assert_eq!(class_differences(&json!({}), &json!({})), []);
    }
}
