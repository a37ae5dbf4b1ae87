//! Name lists from a user's file: JSONL or Parquet in, rows of names out.

use std::path::Path;

use super::DataError;
use super::error::read;

/// Reads the column `names` (a list of strings a row) of a `.jsonl`/`.json` or `.parquet` file.
///
/// # Errors
/// When the file cannot be read, has another shape, or holds no row.
pub fn read_names(path: &Path) -> Result<Vec<Vec<String>>, DataError> {
    Ok(names_and_digest(path)?.0)
}

/// As [`read_names`], with the blake3 digest (hex) of the very bytes that were read.
pub(super) fn names_and_digest(path: &Path) -> Result<(Vec<Vec<String>>, String), DataError> {
    let bytes = read(path)?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let rows = match extension.as_str() {
        "parquet" => parquet(path, bytes)?,
        _ => jsonl(path, &bytes)?,
    };
    if rows.is_empty() { Err(bad(path, "the file holds no row")) } else { Ok((rows, digest)) }
}

fn bad(path: &Path, what: impl Into<String>) -> DataError {
    DataError::Names { path: path.into(), what: what.into() }
}

fn jsonl(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<String>>, DataError> {
    #[derive(serde::Deserialize)]
    struct Line {
        names: Vec<String>,
    }
    let text = std::str::from_utf8(bytes).map_err(|error| bad(path, format!("it is not UTF-8: {error}")))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str::<Line>(line)
                .map(|line| line.names)
                .map_err(|error| bad(path, format!("line {}: {error}", number + 1)))
        })
        .collect()
}

#[cfg(feature = "tables")]
fn parquet(path: &Path, bytes: Vec<u8>) -> Result<Vec<Vec<String>>, DataError> {
    use polars::prelude::{ParquetReader, SerReader};
    let failed = |error: polars::error::PolarsError| bad(path, error.to_string());
    let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().map_err(failed)?;
    let column = frame.column("names").map_err(failed)?;
    let lists = column.list().map_err(failed)?;
    (0..lists.len())
        .map(|row| {
            let Some(values) = lists.get_as_series(row) else { return Ok(Vec::new()) };
            let names = values.str().map_err(failed)?;
            Ok(names.iter().flatten().map(str::to_owned).collect())
        })
        .collect()
}

#[cfg(not(feature = "tables"))]
fn parquet(path: &Path, _: Vec<u8>) -> Result<Vec<Vec<String>>, DataError> {
    Err(bad(path, "this program was built without the feature `tables`, which reads Parquet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        crate::store::fs::write_new(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn jsonl_rows_are_read_in_order() {
        let (_dir, path) =
            written("n.jsonl", b"{\"names\": [\"Ann Lee\", \"Bo\"]}\n\n{\"names\": [], \"id\": 3}\n");
        assert_eq!(read_names(&path).unwrap(), vec![vec!["Ann Lee".to_owned(), "Bo".into()], vec![]]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, part) in [
            ("{\"names\": [\"a\"]}\n{\"names\": 3}\n", "line 2"),
            ("{\"other\": []}", "names"),
            ("", "no row"),
        ] {
            let (_dir, path) = written("n.jsonl", text.as_bytes());
            let message = read_names(&path).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("n.jsonl"), "{message}");
        }
        assert!(
            read_names(Path::new("/nowhere/n.jsonl")).unwrap_err().to_string().contains("/nowhere/n.jsonl")
        );
    }

    #[cfg(feature = "tables")]
    #[test]
    fn parquet_lists_are_read_and_other_columns_refused() {
        use polars::prelude::*;
        let encode = |mut frame: DataFrame| {
            let mut bytes = Vec::new();
            ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
            bytes
        };
        let lists =
            Series::new("names".into(), [Series::new("".into(), ["A", "B"]), Series::new("".into(), ["C"])]);
        let (_dir, path) = written("n.parquet", &encode(DataFrame::new(2, vec![lists.into()]).unwrap()));
        assert_eq!(read_names(&path).unwrap(), vec![vec!["A".to_owned(), "B".into()], vec!["C".into()]]);
        let plain = Series::new("names".into(), ["A", "B"]);
        let (_dir, path) = written("n.parquet", &encode(DataFrame::new(2, vec![plain.into()]).unwrap()));
        assert!(read_names(&path).unwrap_err().to_string().contains("n.parquet"));
        let (_dir, path) = written("n.parquet", b"PAR1 nonsense");
        assert!(read_names(&path).is_err());
    }
}
