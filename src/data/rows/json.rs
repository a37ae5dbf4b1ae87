//! Rows of JSON: one object a line, or one list of objects.
//!
//! Polars reads JSON too, but guesses types from the first rows, fills what is missing with nulls, and names no line.

use serde_json::{Map, Value};

use super::{Cell, Holds, Table, Wanted, blank};

/// Reads the wanted columns. A line without anything in it is no row.
///
/// # Errors
/// A sentence that names the line or the row.
pub(super) fn read(bytes: &[u8], wanted: &[Wanted]) -> Result<Table, String> {
    // Some programs begin a file with this mark.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        format!("line {line} is not UTF-8")
    })?;
    let mut table = Table::default();
    if text.trim_start().starts_with('[') {
        let rows: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| format!("it begins as a JSON list and is none: {error}"))?;
        for (at, row) in rows.into_iter().enumerate() {
            table.add(row, wanted).map_err(|what| format!("row {}: {what}", at + 1))?;
        }
    } else {
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let row = serde_json::from_str(line).map_err(|error| without_line(&error.to_string()));
            let added = row.and_then(|row| table.add(row, wanted));
            added.map_err(|what| format!("line {}: {what}", at + 1))?;
        }
    }
    Ok(table)
}

/// A message about one line, in which serde calls this line the first.
fn without_line(message: &str) -> String {
    message.replace(" at line 1 column ", " at column ")
}

impl Table {
    fn add(&mut self, row: Value, wanted: &[Wanted]) -> Result<(), String> {
        let Value::Object(mut row) = row else {
            return Err(format!("it is {} and no object", kind(&row)));
        };
        if self.columns.is_empty() {
            // The first row decides what the columns are called.
            self.columns = wanted.iter().map(|one| among(one, &row)).collect::<Result<_, _>>()?;
        }
        let mut cells = Vec::with_capacity(wanted.len());
        for (wanted, column) in wanted.iter().zip(&self.columns) {
            // Two columns may be the same.
            let Some(value) = row.get_mut(column).map(|value| value.clone()) else {
                let one = Wanted { names: vec![column.clone()], holds: wanted.holds };
                return Err(among(&one, &row).err().unwrap_or_default());
            };
            cells.push(cell(value, column, wanted.holds)?);
        }
        self.rows.push(cells);
        Ok(())
    }
}

fn among(wanted: &Wanted, row: &Map<String, Value>) -> Result<String, String> {
    let there: Vec<&str> = row.keys().map(String::as_str).collect();
    wanted.among(&there).map(str::to_owned)
}

fn cell(value: Value, column: &str, holds: Holds) -> Result<Cell, String> {
    match (holds, value) {
        (Holds::Text, Value::String(text)) if text.trim().is_empty() => Err(blank(column)),
        (Holds::Text, Value::String(text)) => Ok(Cell::Text(text)),
        (Holds::Texts, Value::Array(values)) => {
            let mut texts = Vec::with_capacity(values.len());
            for (at, value) in values.into_iter().enumerate() {
                let Value::String(text) = value else {
                    return Err(format!("value {} of `{column}` is {} and no string", at + 1, kind(&value)));
                };
                texts.push(text);
            }
            Ok(Cell::Texts(texts))
        }
        (_, value) => Err(format!("`{column}` is {} and not {holds}", kind(&value))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
