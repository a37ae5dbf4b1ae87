//! Rows of datasets: Parquet, JSONL or JSON in, lists of names or questions with their answers out.
//!
//! In: files, in the order of their rows. Out: the columns that are wanted, each value present and of the right type; what
//! is not is an error with file, row and column. Only the wanted columns are read, and one file is held at a time.

mod json;
#[cfg(feature = "tables")]
mod parquet;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::error::{DataError, read};
pub use crate::task::QuestionRow;

/// Column names of questions, the first that is there.
pub const QUESTION_COLUMNS: [&str; 2] = ["question", "problem"];
/// Column names of answers, the first that is there.
pub const ANSWER_COLUMNS: [&str; 2] = ["answer", "solution"];
/// The first bytes of a Parquet file.
const MAGIC: &[u8] = b"PAR1";

/// A dataset of questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// Its rows, at least one.
    pub rows: Vec<QuestionRow>,
    /// The columns that questions and answers were taken from.
    pub columns: [String; 2],
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Text, not blank.
    Text,
    /// Lists of strings.
    Texts,
}

impl std::fmt::Display for Holds {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Text => "text",
            Self::Texts => "a list of strings",
        })
    }
}

/// A column that is wanted.
#[derive(Clone, Debug)]
struct Wanted {
    /// What it may be called: the first name that is there is taken.
    names: Vec<String>,
    holds: Holds,
}

impl Wanted {
    fn new(holds: Holds, given: Option<&str>, candidates: &[&str]) -> Self {
        let names: Vec<&str> = given.map_or_else(|| candidates.to_vec(), |name| vec![name]);
        Self { names: names.into_iter().map(str::to_owned).collect(), holds }
    }

    /// Its name among those that a file has.
    fn among(&self, there: &[&str]) -> Result<&str, String> {
        let found = self.names.iter().find(|name| there.contains(&name.as_str()));
        found.map(String::as_str).ok_or_else(|| {
            let quoted: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            format!("it has no column {}; its columns are: {there}", quoted.join(" or "))
        })
    }
}

/// A value that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Text(String),
    Texts(Vec<String>),
}

/// What was read: by row, the wanted values in their order.
#[derive(Clone, Debug, Default)]
struct Table {
    /// Names of the columns that were taken.
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// Trouble with a value, told with its row by the reader.
fn blank(column: &str) -> String {
    format!("`{column}` is empty")
}

fn bad(path: &Path, what: impl Into<String>) -> DataError {
    DataError::Rows { path: path.into(), what: what.into() }
}

/// Reads files one after the other. `seen` gets the bytes of each, as they were read, before anything is made of them.
fn table<E: From<DataError>>(
    files: &[&Path],
    mut wanted: Vec<Wanted>,
    mut seen: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<Table, E> {
    let mut table = Table::default();
    for (at, path) in files.iter().enumerate() {
        let bytes = read(path)?;
        seen(at, &bytes)?;
        let found = one(path, bytes, &wanted)?;
        if found.rows.is_empty() {
            continue;
        }
        // The first file with rows decides what the columns are called.
        for (wanted, name) in wanted.iter_mut().zip(&found.columns) {
            wanted.names = vec![name.clone()];
        }
        table.columns = found.columns;
        table.rows.extend(found.rows);
    }
    match files {
        [] => Err(bad(Path::new(""), "there is no file").into()),
        [first, ..] if table.rows.is_empty() => Err(bad(first, "there is no row").into()),
        _ => Ok(table),
    }
}

fn one(path: &Path, bytes: Vec<u8>, wanted: &[Wanted]) -> Result<Table, DataError> {
    let named = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    if named || bytes.starts_with(MAGIC) {
        #[cfg(feature = "tables")]
        return parquet::read(bytes, wanted).map_err(|what| bad(path, what));
        #[cfg(not(feature = "tables"))]
        drop(bytes);
        #[cfg(not(feature = "tables"))]
        return Err(bad(path, "this program was built without the feature `tables`, which reads Parquet"));
    }
    json::read(&bytes, wanted).map_err(|what| bad(path, what))
}

/// Reads the column `names` (a list of strings a row) of a Parquet, JSONL or JSON file.
///
/// # Errors
/// When the file cannot be read, has another shape, or holds no row.
pub fn read_names(path: &Path) -> Result<Vec<Vec<String>>, DataError> {
    names_of(&[path], |_, _| Ok::<_, DataError>(()))
}

/// As [`read_names`], of several files; `seen` gets the very bytes that were read of each.
pub(super) fn names_of<E: From<DataError>>(
    files: &[&Path],
    seen: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<Vec<Vec<String>>, E> {
    let wanted = vec![Wanted::new(Holds::Texts, None, &["names"])];
    let list = |row: Vec<Cell>| match row.into_iter().next() {
        Some(Cell::Texts(names)) => names,
        _ => Vec::new(),
    };
    Ok(table(files, wanted, seen)?.rows.into_iter().map(list).collect())
}

/// Reads questions and answers from files, from the given columns or else from the first of
/// [`QUESTION_COLUMNS`] and of [`ANSWER_COLUMNS`] that is there.
///
/// # Errors
/// When a file cannot be read, has another shape, or none holds a row.
pub fn read_questions(
    files: &[&Path],
    question: Option<&str>,
    answer: Option<&str>,
) -> Result<Questions, DataError> {
    questions_of(files, question, answer, |_, _| Ok::<_, DataError>(()))
}

/// As [`read_questions`]; `seen` gets the very bytes that were read of each file.
pub(super) fn questions_of<E: From<DataError>>(
    files: &[&Path],
    question: Option<&str>,
    answer: Option<&str>,
    seen: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<Questions, E> {
    let wanted = vec![
        Wanted::new(Holds::Text, question, &QUESTION_COLUMNS),
        Wanted::new(Holds::Text, answer, &ANSWER_COLUMNS),
    ];
    let Table { columns, rows } = table(files, wanted, seen)?;
    let text = |cell: Option<Cell>| match cell {
        Some(Cell::Text(text)) => text,
        _ => String::new(),
    };
    let row = |row: Vec<Cell>| {
        let mut cells = row.into_iter();
        QuestionRow { question: text(cells.next()), answer: text(cells.next()) }
    };
    let mut names = columns.into_iter();
    let columns = [names.next().unwrap_or_default(), names.next().unwrap_or_default()];
    Ok(Questions { rows: rows.into_iter().map(row).collect(), columns })
}
