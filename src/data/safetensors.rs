//! safetensors, written canonically and read with every length checked.
//!
//! The `safetensors` crate writes metadata keys in random order, so equal content would get unequal digests; here the
//! header is sorted JSON: `__metadata__` first, then tensors in the order given. Reading is the crate's.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::DataError;

/// Larger headers are refused, as the format's own reader does.
const LARGEST_HEADER: u64 = 100_000_000;

/// A tensor to be written: little-endian bytes, row-major.
#[derive(Clone, Debug)]
pub struct RawTensor {
    /// Name in the file.
    pub name: String,
    /// `F32`, `BF16`, `F16`, `I32`, ...
    pub dtype: &'static str,
    /// Shape.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

/// The bytes of a safetensors file: equal content gives equal bytes.
pub fn to_bytes(tensors: &[RawTensor], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let described = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice(), tensor.bytes.len()));
    let mut bytes = header(described, metadata);
    bytes.reserve_exact(tensors.iter().map(|tensor| tensor.bytes.len()).sum());
    for tensor in tensors {
        bytes.extend_from_slice(&tensor.bytes);
    }
    bytes
}

/// What stands before the tensors' bytes, which follow in the same order. Tensors are given by name, name of the type,
/// shape and bytes.
pub fn header<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a str, &'a [usize], usize)>,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, dtype, shape, length) in tensors {
        let end = offset + length;
        entries.insert(
            name.to_owned(),
            json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    // The format wants the data to start at a multiple of eight.
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat()
}

/// How many bytes [`to_bytes`] puts before the data: for sizes of files that are not there yet. Tensors are given by name,
/// name of the type, shape and bytes.
pub fn header_bytes<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a str, &'a [usize], u64)>,
    metadata: &BTreeMap<String, String>,
) -> u64 {
    let digits = |number: u64| u64::from(number.checked_ilog10().unwrap_or(0)) + 1;
    // The braces; every entry is followed by a comma but the last.
    let mut text = 1;
    if !metadata.is_empty() {
        text += r#""__metadata__":,"#.len() as u64 + json!(metadata).to_string().len() as u64;
    }
    let mut offset: u64 = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = offset.saturating_add(bytes);
        let sizes = shape.iter().map(|size| digits(*size as u64)).sum::<u64>();
        let commas = shape.len().saturating_sub(1) as u64;
        text += r#""":{"dtype":"","shape":[],"data_offsets":[,]},"#.len() as u64;
        text += (name.len() + dtype.len()) as u64 + sizes + commas + digits(offset) + digits(end);
        offset = end;
    }
    8 + text.max(2).next_multiple_of(8)
}

/// Parses a safetensors file; `path` names it in errors.
///
/// # Errors
/// When the header is broken or the file is shorter or longer than its header says.
pub fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<SafeTensors<'a>, DataError> {
    SafeTensors::deserialize(bytes).map_err(|error| DataError::Weights {
        path: path.into(),
        what: format!("{error} (the file has {} bytes)", bytes.len()),
    })
}

/// A tensor of a file, as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name in the file.
    pub name: String,
    /// `F32`, `BF16`, `F16`, `I32`, ...
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub start: u64,
}

/// The tensors of a file in the order of their bytes. Only the header is read.
///
/// # Errors
/// When the file cannot be read, the header is broken, or the file is shorter or longer than its header says.
pub fn entries(path: &Path) -> Result<Vec<Entry>, DataError> {
    let unreadable = |source| DataError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let bad = |what: String| DataError::Weights { path: path.into(), what };
    let mut size = [0; 8];
    if length < 8 {
        return Err(bad(format!("it has {length} bytes, too few for a header")));
    }
    file.read_exact(&mut size).map_err(unreadable)?;
    let size = u64::from_le_bytes(size);
    if size > length - 8 || size > LARGEST_HEADER {
        return Err(bad(format!("its header should have {size} bytes, and the file has {length} in all")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    described(&header, length - 8 - size)
        .map(|list| list.into_iter().map(|entry| Entry { start: entry.start + 8 + size, ..entry }).collect())
        .map_err(bad)
}

/// The tensors of a header before `data` bytes; starts are counted from the end of the header.
fn described(header: &[u8], data: u64) -> Result<Vec<Entry>, String> {
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|error| format!("its header is broken: {error}"))?;
    let mut list = Vec::with_capacity(header.len());
    for (name, value) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
        let Ok(TensorHeader { dtype, shape, data_offsets: (start, end) }) = serde_json::from_value(value)
        else {
            return Err(format!("its header describes tensor {name} wrongly"));
        };
        let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
        // Types that no model here may have are not measured.
        let width = match dtype.as_str() {
            "F32" => Some(4),
            "BF16" | "F16" => Some(2),
            _ => None,
        };
        let expected = width.map(|width| elements.and_then(|elements| elements.checked_mul(width)));
        let bytes = end.checked_sub(start);
        if bytes.is_none() || expected.is_some_and(|expected| expected != bytes) {
            return Err(format!(
                "its header gives tensor {name} bytes {start} to {end}, not what {shape:?} take"
            ));
        }
        list.push((end, Entry { name, dtype, shape, start }));
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

/// The `__metadata__` of a safetensors file.
///
/// # Errors
/// As [`parse`].
pub fn metadata(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, String>, DataError> {
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|error| DataError::Weights { path: path.into(), what: error.to_string() })?;
    Ok(header.metadata().clone().unwrap_or_default().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let tensor = |name: &str, values: &[f32]| RawTensor {
            name: name.into(),
            dtype: "F32",
            shape: vec![values.len()],
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let metadata = BTreeMap::from([("format".into(), "pt".into()), ("a".into(), "b".into())]);
        to_bytes(&[tensor("z", &[1.0, 2.0]), tensor("a", &[3.0])], &metadata)
    }

    #[test]
    fn what_is_written_is_read_by_the_reference_crate() {
        let bytes = sample();
        let file = parse(&bytes, Path::new("x")).unwrap();
        assert_eq!(file.tensor("z").unwrap().data(), [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
        assert_eq!(file.tensor("a").unwrap().shape(), &[1]);
        assert_eq!(metadata(&bytes, Path::new("x")).unwrap()["format"], "pt");
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    }

    #[test]
    fn the_size_of_a_header_is_known_without_the_data() {
        for metadata in [
            BTreeMap::new(),
            BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("a".to_owned(), "\"b\"".to_owned())]),
        ] {
            // Offsets of one to four digits, shapes of no, one and two numbers.
            for count in 0..8 {
                let shapes = [vec![], vec![1], vec![2, 3], vec![40], vec![10, 25], vec![0], vec![7]];
                let tensors = shapes[..count.min(7)].iter().enumerate().map(|(i, shape)| RawTensor {
                    name: format!("layer.{i}.weight"),
                    dtype: if i % 2 == 0 { "F32" } else { "BF16" },
                    shape: shape.clone(),
                    bytes: vec![0; shape.iter().product::<usize>() * 4],
                });
                let tensors = tensors.collect::<Vec<_>>();
                let data = tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum::<u64>();
                let described = tensors.iter().map(|tensor| {
                    (tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice(), tensor.bytes.len() as u64)
                });
                let whole = header_bytes(described, &metadata) + data;
                assert_eq!(whole, to_bytes(&tensors, &metadata).len() as u64, "{count}");
            }
        }
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        assert!((0..8).all(|_| sample() == sample()));
    }

    #[test]
    fn truncated_and_corrupt_files_are_refused_by_name() {
        let bytes = sample();
        for end in [0, 4, 12, bytes.len() - 1] {
            let message = parse(&bytes[..end], Path::new("model.safetensors")).unwrap_err().to_string();
            assert!(message.contains("model.safetensors"), "{message}");
        }
        let mut corrupt = bytes.clone();
        corrupt[9] = b'!';
        assert!(parse(&corrupt, Path::new("x")).is_err());
    }
}
