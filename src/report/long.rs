//! The long tables `metrics.csv`, `evals.csv`, `jaccard.csv`, `scores.csv` and `stability.csv`: written and read back without
//! loss.
//!
//! In: rows of a run, or overlaps. Out: CSV text, and the same rows again. Invariant: `parse(write(x)) == x`, types
//! included: a number is written as JSON writes it (shortest text that reads back to the same bits), a missing cell is
//! empty, and a string that could be taken for something else is written as a JSON string.

use serde_json::Value;

use super::error::ReportError;
use super::masks::Overlap;
use super::put;
use super::result::{Row, RunResult};

/// The order in which known columns are written; others follow by name.
const COLUMNS: [&str; 27] = [
    "step",
    "reward/mean",
    "reward/std",
    "groups/zero_variance",
    "entropy",
    "kl/base",
    "clip_share",
    "length/mean",
    "grad_norm/masked",
    "grad_norm/dense",
    "grad_share/masked",
    "update/l2",
    "update/linf",
    "update/changed_fp32",
    "update/changed_bf16",
    "update/changed_1e-5",
    "rollout_tokens_per_second",
    "train_tokens_per_second",
    "rollout_seconds",
    "train_seconds",
    "peak_memory_bytes",
    "eval/score",
    "eval/stderr",
    "eval/examples",
    "eval/length",
    "eval/truncated",
    "eval_seconds",
];

/// The name of the column that says whose a row is.
const RUN: &str = "run";

const OVERLAP_COLUMNS: [&str; 9] =
    ["a", "b", "count_a", "count_b", "intersection", "union", "jaccard", "chance", "total"];

/// What came later: a report from before has none of them.
const LATER_COLUMNS: [&str; 3] = ["z", "chance_per_tensor", "z_per_tensor"];

/// Writes the rows of all runs below each other; `run` is the label.
pub fn write_rows<'a>(runs: &'a [RunResult], rows: impl Fn(&'a RunResult) -> &'a [Row]) -> Vec<u8> {
    let labelled = |run: &'a RunResult| rows(run).iter().map(|row| (run.label.as_str(), row));
    write_table(RUN, &COLUMNS, &runs.iter().flat_map(labelled).collect::<Vec<_>>())
}

/// Writes rows below each other, each with whose it is in the column `key`. Known columns stand in the order given, others
/// follow by name.
pub fn write_table(key: &str, known: &[&str], rows: &[(&str, &Row)]) -> Vec<u8> {
    let rank = |column: &str| known.iter().position(|known| *known == column).unwrap_or(known.len());
    let mut columns: Vec<&str> = Vec::new();
    for column in rows.iter().flat_map(|(_, row)| row.keys()) {
        let of = |column| (rank(column), column);
        if let Err(place) = columns.binary_search_by(|known| of(known).cmp(&of(column.as_str()))) {
            columns.insert(place, column);
        }
    }
    if columns.is_empty() {
        columns.extend(known.first());
    }
    let mut text = String::from(key);
    for column in &columns {
        text.push(',');
        push_field(&mut text, column);
    }
    text.push('\n');
    for (whose, row) in rows {
        push_field(&mut text, whose);
        for column in &columns {
            text.push(',');
            push_field(&mut text, &row.get(*column).map(cell).unwrap_or_default());
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Reads what [`write_rows`] wrote: `(run label, row)` in file order.
pub fn read_rows(file: &'static str, text: &str) -> Result<Vec<(String, Row)>, ReportError> {
    read_table(file, RUN, text)
}

/// Reads what [`write_table`] wrote: whose a row is, and the row, in file order.
pub fn read_table(file: &'static str, key: &str, text: &str) -> Result<Vec<(String, Row)>, ReportError> {
    let malformed = |line, what: String| ReportError::Malformed { file, line, what };
    let mut records = parse(file, text)?.into_iter();
    let Some((_, header)) = records.next() else {
        return Err(malformed(0, "the file is empty".to_owned()));
    };
    if header.first().map(String::as_str) != Some(key) {
        return Err(malformed(1, format!("the first column is not `{key}`")));
    }
    records
        .map(|(line, fields)| {
            if fields.len() != header.len() {
                return Err(malformed(line, format!("{} cells for {} columns", fields.len(), header.len())));
            }
            let mut cells = header.iter().cloned().zip(fields);
            let (_, label) = cells.next().ok_or_else(|| malformed(line, "no cells".to_owned()))?;
            let row = cells.filter_map(|(column, text)| Some((column, value(&text)?))).collect();
            Ok((label, row))
        })
        .collect()
}

/// Writes the overlaps, a pair a line. The columns that came later are left out where no pair has them.
pub fn write_overlaps(overlaps: &[Overlap]) -> Vec<u8> {
    let later = |pair: &Overlap| [pair.z, pair.chance_per_tensor, pair.z_per_tensor];
    let with_later = overlaps.iter().any(|pair| later(pair) != [None; 3]);
    let mut text = OVERLAP_COLUMNS.join(",");
    if with_later {
        put(&mut text, format_args!(",{}", LATER_COLUMNS.join(",")));
    }
    text.push('\n');
    for pair in overlaps {
        push_field(&mut text, &pair.a);
        text.push(',');
        push_field(&mut text, &pair.b);
        for count in [pair.count_a, pair.count_b, pair.intersection, pair.union] {
            put(&mut text, format_args!(",{count}"));
        }
        put(&mut text, format_args!(",{},{},{}", float(pair.jaccard), float(pair.chance), pair.total));
        if with_later {
            put(&mut text, format_args!(",{}", later(pair).map(float).join(",")));
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Reads what [`write_overlaps`] wrote.
pub fn read_overlaps(file: &'static str, text: &str) -> Result<Vec<Overlap>, ReportError> {
    let malformed = |line, what: String| ReportError::Malformed { file, line, what };
    let mut records = parse(file, text)?.into_iter();
    let header = records.next().map(|(_, header)| header).unwrap_or_default();
    if header != OVERLAP_COLUMNS && header != [&OVERLAP_COLUMNS[..], &LATER_COLUMNS[..]].concat() {
        let what = format!(
            "the columns are not {}, with or without {}",
            OVERLAP_COLUMNS.join(","),
            LATER_COLUMNS.join(",")
        );
        return Err(malformed(1, what));
    }
    records
        .map(|(line, mut fields)| {
            if fields.len() != header.len() {
                return Err(malformed(line, format!("{} cells for {} columns", fields.len(), header.len())));
            }
            fields.resize(OVERLAP_COLUMNS.len() + LATER_COLUMNS.len(), String::new());
            let count = |at: usize| {
                fields[at]
                    .parse::<u64>()
                    .map_err(|_| malformed(line, format!("`{}` is not a count", fields[at])))
            };
            let number = |at: usize| {
                let text = Some(&fields[at]).filter(|text| !text.is_empty());
                text.map(|text| text.parse::<f64>())
                    .transpose()
                    .map_err(|_| malformed(line, format!("`{}` is not a number", fields[at])))
            };
            Ok(Overlap {
                a: fields[0].clone(),
                b: fields[1].clone(),
                count_a: count(2)?,
                count_b: count(3)?,
                intersection: count(4)?,
                union: count(5)?,
                jaccard: number(6)?,
                chance: number(7)?,
                total: count(8)?,
                z: number(9)?,
                chance_per_tensor: number(10)?,
                z_per_tensor: number(11)?,
            })
        })
        .collect()
}

/// A float as JSON writes it; nothing where there is none.
fn float(value: Option<f64>) -> String {
    value.and_then(serde_json::Number::from_f64).map(|number| number.to_string()).unwrap_or_default()
}

/// The text of a cell; a null is empty.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if self::value(text).as_ref() == Some(value) => text.clone(),
        other => other.to_string(),
    }
}

/// The value of a cell's text; `None` when it is missing.
fn value(text: &str) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}

/// Appends a CSV field, quoted where it must be.
fn push_field(text: &mut String, field: &str) {
    if field.contains([',', '"', '\n', '\r']) {
        text.push('"');
        text.push_str(&field.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(field);
    }
}

/// Splits CSV text into records with their line numbers.
fn parse(file: &'static str, text: &str) -> Result<Vec<(usize, Vec<String>)>, ReportError> {
    let mut records = Vec::new();
    let (mut record, mut field): (Vec<String>, String) = (Vec::new(), String::new());
    let (mut quoted, mut line, mut start) = (false, 1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' {
            line += 1;
        }
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push((start, std::mem::take(&mut record)));
                start = line;
            }
            // A clone with converted line ends still reads.
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            other => field.push(other),
        }
    }
    if quoted {
        return Err(ReportError::Malformed { file, line: start, what: "a quote is not closed".to_owned() });
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push((start, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(label: &str, rows: &[Value]) -> RunResult {
        RunResult {
            id: String::new(),
            label: label.to_owned(),
            axes: Vec::new(),
            config: Vec::new(),
            state: super::super::result::State::Pending,
            step: None,
            reason: None,
            metrics: rows.iter().map(|row| row.as_object().expect("an object").clone()).collect(),
            evals: Vec::new(),
            done: None,
        }
    }

    #[test]
    fn rows_keep_their_types_and_gaps() {
        let odd = [
            json!({"step": 1, "reward/mean": 0.1, "zeta": "x, \"y\"\nz", "flag": true}),
            json!({"step": 2, "reward/mean": 1.0, "text": "1.5", "list": [1, 2.5, "a"], "tiny": 1e-310}),
            json!({"step": 3, "reward/mean": 0.1 + 0.2, "quoted": "\"", "word": "null", "big": u64::MAX}),
        ];
        let runs = [run("a,b", &odd), run("empty", &[]), run("c", &odd[..1])];
        let text = String::from_utf8(write_rows(&runs, |run| &run.metrics)).expect("utf-8");
        assert!(
            text.starts_with("run,step,reward/mean,big,flag,list,quoted,text,tiny,word,zeta\n"),
            "{text}"
        );
        let rows = read_rows("metrics.csv", &text).expect("what was written");
        let expected: Vec<(String, Row)> = runs
            .iter()
            .flat_map(|run| run.metrics.iter().map(|row| (run.label.clone(), row.clone())))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn missing_cells_are_empty_and_never_zero() {
        let runs = [run("r", &[json!({"step": 0, "kl/base": null, "entropy": 1.5}), json!({"step": 1})])];
        let text = String::from_utf8(write_rows(&runs, |run| &run.metrics)).expect("utf-8");
        assert_eq!(text, "run,step,entropy,kl/base\nr,0,1.5,\nr,1,,\n");
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let error = |text: &str| read_rows("metrics.csv", text).expect_err("damaged").to_string();
        assert_eq!(error(""), "metrics.csv, line 0: the file is empty");
        assert_eq!(error("run,step\na,1\nb,1,2\n"), "metrics.csv, line 3: 3 cells for 2 columns");
        assert_eq!(error("run,step\n\"a,1\n"), "metrics.csv, line 2: a quote is not closed");
        let overlaps = read_overlaps("jaccard.csv", "a,b\n").expect_err("wrong columns").to_string();
        assert!(overlaps.contains("line 1: the columns are not a,b,count_a"), "{overlaps}");
    }
}
