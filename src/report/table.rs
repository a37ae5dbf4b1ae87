//! The summary: one row a run, through Polars, as CSV, as Markdown and as rows of text.
//!
//! In: a [`ResultSet`]. Out: a `DataFrame` in plan order and what is written of it. Invariant: what was not measured is
//! null in the frame and empty in every output, never zero.

use polars::prelude::{AnyValue, Column, CsvWriter, DataFrame, NamedFrom, SerWriter, Series};
use serde_json::Value;

use super::classes;
use super::error::ReportError;
use super::masks;
use super::put;
use super::result::{ResultSet, RunResult, State};
use super::scores;
use super::series::{self, rate, trimmed};
use super::view;

/// The settings that every summary has.
const SETTINGS: [&str; 4] = ["mask.type", "mask.sparsity", "mask.seed", "optimizer.lr"];

/// The name of the summary in error messages.
const TABLE: &str = "summary";

/// The summary as a frame.
pub fn summary(set: &ResultSet) -> Result<DataFrame, ReportError> {
    let mut settings: Vec<&str> = SETTINGS.to_vec();
    for (key, _) in set.runs.iter().flat_map(|run| &run.axes) {
        if !settings.contains(&key.as_str()) {
            settings.push(key);
        }
    }
    let text = |name: &str, value: &dyn Fn(&RunResult) -> Option<String>| {
        let values: Vec<Option<String>> = set.runs.iter().map(value).collect();
        Column::from(Series::new(name.into(), values))
    };
    let float = |name: &str, value: &dyn Fn(&RunResult) -> Option<f64>| {
        let values: Vec<Option<f64>> = set.runs.iter().map(value).collect();
        Column::from(Series::new(name.into(), values))
    };
    let mut columns =
        vec![text("run", &|run| Some(run.label.clone())), text("id", &|run| Some(run.short().to_owned()))];
    columns.extend(settings.iter().map(|key| setting(set, key)));
    let steps: Vec<Option<u64>> = set.runs.iter().map(|run| run.step).collect();
    columns.extend([
        text("state", &|run| Some(run.state.name().to_owned())),
        Column::from(Series::new("step".into(), steps)),
    ]);
    let names = view::names(set);
    if names.is_empty() {
        columns.extend([
            float("base/score", &RunResult::base_score),
            float("eval/score", &RunResult::final_score),
            float("eval/stderr", &RunResult::final_stderr),
            float("gain", &gain),
        ]);
    }
    for name in &names {
        let (score, stderr) = (format!("eval/{name}/score"), format!("eval/{name}/stderr"));
        let gained = |run: &RunResult| Some(run.final_number(&score)? - run.base_number(&score)?);
        columns.extend([
            float(&format!("base/{name}/score"), &|run| run.base_number(&score)),
            float(&score, &|run| run.final_number(&score)),
            float(&stderr, &|run| run.final_number(&stderr)),
            float(&format!("gain/{name}"), &gained),
        ]);
    }
    columns.extend([text("invariant", &RunResult::invariant)]);
    if set.several_classes() {
        columns.push(text("class", &RunResult::class));
    }
    columns.push(text("reason", &|run| run.reason.clone()));
    DataFrame::new(set.runs.len(), columns).map_err(|source| ReportError::Table { table: TABLE, source })
}

fn gain(run: &RunResult) -> Option<f64> {
    Some(run.final_score()? - run.base_score()?)
}

/// A column of a setting, in the narrowest type that holds all its values.
fn setting(set: &ResultSet, key: &str) -> Column {
    let values: Vec<Option<&Value>> = set.runs.iter().map(|run| run.axis(key)).collect();
    let all = |test: fn(&Value) -> bool| values.iter().flatten().all(|value| test(value));
    let name = key.into();
    if values.iter().all(Option::is_none) {
        Series::new(name, vec![None::<f64>; values.len()]).into()
    } else if all(Value::is_u64) {
        Series::new(name, values.iter().map(|value| value.and_then(Value::as_u64)).collect::<Vec<_>>()).into()
    } else if all(Value::is_number) {
        Series::new(name, values.iter().map(|value| value.and_then(Value::as_f64)).collect::<Vec<_>>()).into()
    } else {
        Series::new(name, values.iter().map(|value| value.map(series::plain)).collect::<Vec<_>>()).into()
    }
}

/// A frame as CSV.
pub fn csv(frame: &mut DataFrame) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes)
        .include_header(true)
        .finish(frame)
        .map_err(|source| ReportError::Table { table: TABLE, source })?;
    Ok(bytes)
}

/// A table of text: a header and rows of equal length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTable {
    /// The columns' names.
    pub header: Vec<String>,
    /// Whether a column holds numbers.
    pub numeric: Vec<bool>,
    /// The rows; a missing cell is empty.
    pub rows: Vec<Vec<String>>,
}

/// A frame as a reader sees it: scores to four digits, columns that are empty throughout or not wanted left out.
pub fn text(frame: &DataFrame, unwanted: &[&str]) -> TextTable {
    let mut table =
        TextTable { header: Vec::new(), numeric: Vec::new(), rows: vec![Vec::new(); frame.height()] };
    for column in frame.columns() {
        let name = column.name().as_str();
        if unwanted.contains(&name) || (column.null_count() == frame.height() && frame.height() > 0) {
            continue;
        }
        table.header.push(name.to_owned());
        table.numeric.push(column.dtype().is_primitive_numeric());
        for (index, row) in table.rows.iter_mut().enumerate() {
            row.push(column.get(index).map(|value| cell(name, &value)).unwrap_or_default());
        }
    }
    table
}

fn cell(column: &str, value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::Null => String::new(),
        AnyValue::String(text) => (*text).to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        AnyValue::Float64(number) if column == "gain" || column.starts_with("gain/") => {
            format!("{number:+.4}")
        }
        AnyValue::Float64(number) if column.contains('/') => format!("{number:.4}"),
        AnyValue::Float64(number) if column == "mask.sparsity" => trimmed(*number, 8),
        AnyValue::Float64(number) => rate(*number),
        other => other.to_string(),
    }
}

/// The best learning rate of each family.
pub fn best(set: &ResultSet) -> TextTable {
    let words = ["mask", "best learning rate", "rates tried", "runs", "score", "± s.e.", "gain over base"];
    let rows = series::families(set)
        .iter()
        .filter_map(|family| {
            let best = family.best(set)?;
            Some(vec![
                family.name.clone(),
                best.lr.map(rate).unwrap_or_default(),
                best.tried.to_string(),
                best.runs.to_string(),
                format!("{:.4}", best.score),
                best.stderr.map(|stderr| format!("{stderr:.4}")).unwrap_or_default(),
                family.base(set).map(|base| format!("{:+.4}", best.score - base)).unwrap_or_default(),
            ])
        })
        .collect();
    TextTable {
        header: words.map(str::to_owned).to_vec(),
        numeric: vec![false, true, true, true, true, true, true],
        rows,
    }
}

/// The summary as Markdown: what was asked, the classes where there are several, the best rates, every run, the failures.
pub fn markdown(set: &ResultSet, frame: &DataFrame) -> String {
    let mut text = format!("# {}\n", line(if set.title.is_empty() { &set.manifest } else { &set.title }));
    if !set.question.is_empty() {
        put(&mut text, format_args!("\n{}\n", line(&set.question)));
    }
    put(&mut text, format_args!("\n{}\n", status(set)));
    if let Some(sentence) = classes::sentence(set) {
        put(&mut text, format_args!("\n## Classes\n\n{sentence}\n\n"));
        text.push_str(&markdown_table(&classes::table(set)));
        put(&mut text, format_args!("\n{}\n", classes::note(set)));
    }
    for view in view::all(set) {
        let best = best(&view.set);
        if best.rows.is_empty() {
            continue;
        }
        put(&mut text, format_args!("\n## Best learning rate per mask{}\n\n", view.heading()));
        text.push_str(&markdown_table(&best));
        if let Some(base) = series::base_score(&view.set) {
            put(&mut text, format_args!("\nBase model: {base:.4}. {BEST_NOTE}\n"));
        }
    }
    text.push_str("\n## Runs\n\n");
    text.push_str(&markdown_table(&self::text(frame, &["reason"])));
    if let Some((overlaps, note)) = masks::table(set) {
        put(&mut text, format_args!("\n## Overlap of the masks\n\n{}\n{note}\n", markdown_table(&overlaps)));
    }
    if !set.scores.is_empty() {
        put(
            &mut text,
            format_args!("\n## Scores\n\n{}\n\n{}\n", scores::LEAD, markdown_table(&scores::table(set))),
        );
        for fact in scores::facts(set) {
            put(&mut text, format_args!("- `{}`: {}\n", fact.id, line(&fact.text)));
        }
        let stability = scores::stability(set);
        if !stability.rows.is_empty() {
            put(&mut text, format_args!("\n{}\n{}\n", markdown_table(&stability), scores::STABILITY_NOTE));
        }
    }
    let failed: Vec<&RunResult> = set.runs.iter().filter(|run| run.state == State::Failed).collect();
    if !failed.is_empty() {
        text.push_str("\n## Failed runs\n\n");
        for run in failed {
            let reason = run.reason.as_deref().unwrap_or("no reason recorded");
            put(
                &mut text,
                format_args!(
                    "- `{}`{}: {}\n",
                    line(&run.label).replace('`', "'"),
                    at_step(run),
                    line(reason)
                ),
            );
        }
    }
    put(&mut text, format_args!("\nWritten by `{}`.\n", command(set)));
    text
}

/// What a reader of best rates must know.
pub const BEST_NOTE: &str = "The best rate is chosen by the score that is shown, so it flatters masks with more rates \
                             tried; with one run, s.e. is that of the evaluation, with several, that over the runs.";

/// ` at step 12`, where the step is known.
pub fn at_step(run: &RunResult) -> String {
    run.step.map_or_else(String::new, |step| format!(" at step {step}"))
}

/// The command that writes the report again.
pub fn command(set: &ResultSet) -> String {
    let quoted = set.manifest.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c)));
    let mix = if set.mix_classes { " --mix-classes" } else { "" };
    if quoted {
        format!("tickets report '{}'{mix}", set.manifest.replace('\'', "'\\''"))
    } else {
        format!("tickets report {}{mix}", set.manifest)
    }
}

/// How many runs are in which state.
pub fn status(set: &ResultSet) -> String {
    let states: Vec<String> = State::ALL
        .into_iter()
        .map(|state| (set.count(state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", state.name()))
        .collect();
    let states = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
    match set.partial() {
        Some(partial) => format!("**{partial}** runs: {states}."),
        None => format!("{} runs: {states}.", set.runs.len()),
    }
}

fn markdown_table(table: &TextTable) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| line(cell).replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = row(&table.header);
    let rule: Vec<&str> = table.numeric.iter().map(|numeric| if *numeric { "---:" } else { "---" }).collect();
    put(&mut text, format_args!("| {} |\n", rule.join(" | ")));
    for cells in &table.rows {
        text.push_str(&row(cells));
    }
    text
}

/// Text on one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
