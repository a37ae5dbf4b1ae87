//! `tickets report`: tables, charts and one page of a manifest's results.
//!
//! In: a manifest, and its store or the files of an earlier report. Out: the files below `results/<manifest name>/`, and
//! the summary on stdout. Invariant: `--check` writes nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use super::args::ManifestArgs;
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, Plan};
use crate::report::put;
use crate::report::table::{self, TextTable};
use crate::report::{ReportError, ResultSet, State, collect, read, render};
use crate::store::Store;

/// Arguments of `report`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Which manifest
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Write nothing; fail when a file of the report would change
    #[arg(long)]
    pub check: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A finished report.
pub struct Report {
    /// What it was made of.
    pub set: ResultSet,
    /// The folder of the manifest's results.
    pub folder: PathBuf,
    /// Relative paths and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// The files that differ from what is on disk.
    pub changed: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When the manifest or the results cannot be used, or, with `--check`, when a file would change.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.manifest.manifest, &args.manifest.overrides())?)?;
    let store = Store::open_read_only(&args.manifest.results)?;
    let report = make(&plan, &store)?;
    if args.check {
        if !report.changed.is_empty() {
            return Err(ReportError::Differs { files: report.changed, total: report.files.len() }.into());
        }
    } else if !report.changed.is_empty() {
        write(&report, &Store::open(&args.manifest.results)?)?;
    }
    let text = if args.json { json_text(&report, args.check) } else { human_text(&report, args.check)? };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(Code::Bug, error, None))?;
    Ok(Code::Ok)
}

/// Makes the report of a plan: from the store when it knows any of the runs, else from the files of an earlier report.
pub fn make(plan: &Plan, store: &Store) -> Result<Report, ReportError> {
    let folder = store.results().join(&plan.manifest.name);
    let collected = collect(plan, store)?;
    let known = collected.runs.iter().any(|run| run.state != State::Pending || !run.evals.is_empty());
    let set = if !known && folder.join("runs.json").is_file() { read(&folder)? } else { collected };
    let files = render(&set)?;
    let mut changed = Vec::new();
    for (path, bytes) in &files {
        if std::fs::read(folder.join(path)).ok().as_ref() != Some(bytes) {
            changed.push(path.clone());
        }
    }
    Ok(Report { set, folder, files, changed })
}

/// Writes the report of a plan from what the store holds, as every sweep does at its end; the page's path.
pub fn write_report(plan: &Plan, store: &Store) -> Result<PathBuf, Failure> {
    let report = make(plan, store)?;
    write(&report, store)?;
    Ok(report.folder.join("index.html"))
}

/// Writes the files that changed.
pub fn write(report: &Report, store: &Store) -> Result<(), Failure> {
    for (path, bytes) in report.files.iter().filter(|(path, _)| report.changed.contains(path)) {
        store.write_result(&Path::new(&report.set.manifest).join(path), bytes)?;
    }
    Ok(())
}

/// The summary for a terminal.
pub fn human_text(report: &Report, checked: bool) -> Result<String, ReportError> {
    let set = &report.set;
    let mut text = format!("{}\n", set.title);
    if !set.question.is_empty() {
        put(&mut text, format_args!("{}\n", set.question));
    }
    let summary = table::text(&table::summary(set)?, &["id", "reason"]);
    put(&mut text, format_args!("\n{}\n", framed(&summary)));
    let best = table::best(set);
    if !best.rows.is_empty() {
        put(&mut text, format_args!("\n{}\n", framed(&best)));
    }
    for run in set.runs.iter().filter(|run| run.state == State::Failed) {
        let reason = run.reason.as_deref().unwrap_or("no reason recorded");
        put(&mut text, format_args!("failed: {}{}: {reason}\n", run.label, table::at_step(run)));
    }
    put(&mut text, format_args!("{}\n", table::status(set).replace("**", "")));
    let page = report.folder.join("index.html");
    let outcome = match (checked, report.changed.len()) {
        (true, _) => format!("{} files are as they would be written", report.files.len()),
        (false, 0) => format!("{} files, none changed", report.files.len()),
        (false, changed) => format!("{} files, {changed} written", report.files.len()),
    };
    put(&mut text, format_args!("report: {} ({outcome})\n", page.display()));
    Ok(text)
}

fn framed(table: &TextTable) -> Table {
    let mut framed = Table::new();
    framed.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    framed.set_header(&table.header);
    for row in &table.rows {
        framed.add_row(row);
    }
    for (column, numeric) in framed.column_iter_mut().zip(&table.numeric) {
        if *numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    framed
}

fn json_text(report: &Report, checked: bool) -> String {
    let set = &report.set;
    let runs: Vec<Value> = set
        .runs
        .iter()
        .map(|run| {
            json!({
                "id": run.id,
                "label": run.label,
                "axes": run.axes.iter().cloned().collect::<Map<_, _>>(),
                "state": run.state.name(),
                "step": run.step,
                "reason": run.reason,
                "base/score": run.base_score(),
                "eval/score": run.final_score(),
                "eval/stderr": run.final_stderr(),
                "invariant": run.invariant(),
            })
        })
        .collect();
    let object = json!({
        "manifest": set.manifest,
        "title": set.title,
        "question": set.question,
        "complete": set.partial().is_none(),
        "folder": report.folder.display().to_string(),
        "index": report.folder.join("index.html").display().to_string(),
        "files": report.files.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        "changed": report.changed,
        "written": !checked,
        "runs": runs,
    });
    format!("{object:#}\n")
}
