//! Rows of a Parquet file, read with Polars: any of its compressions, any number of row groups.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polars::error::PolarsError;
use polars::prelude::{ArrowDataType, Column, ParquetReader, PlSmallStr, SerReader, Series};

use super::{Cell, Holds, Table, Wanted, blank};

/// Reads the wanted columns.
///
/// # Errors
/// A sentence that names the column, and the row where it is one row's matter.
pub(super) fn read(bytes: Vec<u8>, wanted: &[Wanted]) -> Result<Table, String> {
    // Of some damaged files Polars believes lengths that are none, and panics.
    let read = catch_unwind(AssertUnwindSafe(|| columns(bytes, wanted)));
    read.unwrap_or_else(|_| Err("Polars cannot read it: it is damaged".into()))
}

fn columns(bytes: Vec<u8>, wanted: &[Wanted]) -> Result<Table, String> {
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let schema = reader.schema().map_err(|error| broken(&error))?;
    let there: Vec<&str> = schema.iter_names().map(polars::prelude::PlSmallStr::as_str).collect();
    let mut columns = Vec::with_capacity(wanted.len());
    for one in wanted {
        let name = one.among(&there)?;
        let found = schema.get(name).map(|field| &field.dtype);
        if let Some(found) = found.filter(|found| !fits(found, one.holds)) {
            return Err(format!("its column `{name}` holds {} and not {}", described(found), one.holds));
        }
        columns.push(name.to_owned());
    }
    let mut projected = columns.clone();
    projected.dedup();
    let frame = reader.with_columns(Some(projected)).finish().map_err(|error| broken(&error))?;
    let mut rows: Vec<Vec<Cell>> = (0..frame.height()).map(|_| Vec::with_capacity(wanted.len())).collect();
    for (one, name) in wanted.iter().zip(&columns) {
        let column = frame.column(name).map_err(|error| broken(&error))?;
        let cells = match one.holds {
            Holds::Text => texts(column, name),
            Holds::Texts => lists(column, name),
        };
        for (row, cell) in rows.iter_mut().zip(cells?) {
            row.push(cell);
        }
    }
    Ok(Table { columns, rows })
}

fn broken(error: &PolarsError) -> String {
    format!("Polars cannot read it: {error}")
}

/// Whether a type is the wanted one, in any of its layouts.
fn fits(found: &ArrowDataType, holds: Holds) -> bool {
    use ArrowDataType::{LargeList, LargeUtf8, List, Utf8, Utf8View};
    match (holds, found) {
        (Holds::Text, Utf8 | LargeUtf8 | Utf8View) => true,
        (Holds::Texts, List(field) | LargeList(field)) => fits(&field.dtype, Holds::Text),
        _ => false,
    }
}

/// A type, for people.
fn described(found: &ArrowDataType) -> String {
    use ArrowDataType as T;
    match found {
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "text".into(),
        T::Null => "nothing but nulls".into(),
        T::Boolean => "true or false".into(),
        T::List(field) | T::LargeList(field) => format!("lists of {}", described(&field.dtype)),
        T::FixedSizeList(field, length) => {
            format!("arrays of {length} values each, which hold {}", described(&field.dtype))
        }
        T::Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            format!("structs with the fields {}", names.join(", "))
        }
        T::Dictionary(..) => "categories (dictionary-encoded values)".into(),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "bytes".into(),
        other => format!("values of the type {other:?}"),
    }
}

fn texts(column: &Column, name: &str) -> Result<Vec<Cell>, String> {
    let values = column.str().map_err(|error| broken(&error))?;
    let cell = |(at, value): (usize, Option<&str>)| match value {
        None => Err(format!("row {}: `{name}` is null", at + 1)),
        Some(text) if text.trim().is_empty() => Err(format!("row {}: {}", at + 1, blank(name))),
        Some(text) => Ok(Cell::Text(text.to_owned())),
    };
    values.iter().enumerate().map(cell).collect()
}

fn lists(column: &Column, name: &str) -> Result<Vec<Cell>, String> {
    let failed = |error: PolarsError| broken(&error);
    let values = column.list().map_err(failed)?;
    let mut cells = Vec::with_capacity(values.len());
    for chunk in values.downcast_iter() {
        // All strings of the chunk follow each other; a series for each row would be slow.
        let strings = Series::try_from((PlSmallStr::EMPTY, chunk.values().clone())).map_err(failed)?;
        let start = *chunk.offsets().first() as usize;
        let mut strings = strings.str().map_err(failed)?.iter().skip(start);
        for (at, length) in chunk.offsets().lengths().enumerate() {
            let row = cells.len() + 1;
            if chunk.validity().is_some_and(|valid| !valid.get_bit(at)) {
                return Err(format!("row {row}: `{name}` is null"));
            }
            let mut texts = Vec::with_capacity(length);
            for (place, text) in strings.by_ref().take(length).enumerate() {
                let null = || format!("row {row}: value {} of `{name}` is null", place + 1);
                texts.push(text.ok_or_else(null)?.to_owned());
            }
            cells.push(Cell::Texts(texts));
        }
    }
    Ok(cells)
}
