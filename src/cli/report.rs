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
use crate::report::{ReportError, ResultSet, State, classes, collect, mixes_classes, names, read, render};
use crate::store::{Class, Store};

/// Arguments of `report`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Which manifest
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Write nothing; fail when a file of the report would change
    #[arg(long)]
    pub check: bool,
    /// Show runs of different builds or kinds of machines as if they were of one; every figure says so
    #[arg(long)]
    pub mix_classes: bool,
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
    /// What a reader should know about where it comes from.
    pub note: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the manifest or the results cannot be used, or, with `--check`, when a file would change.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.manifest.manifest, &args.manifest.overrides())?)?;
    let store = Store::open_read_only(&args.manifest.results)?;
    // What is checked is the report that is there, as it was made; what is written follows the command line.
    let mix = if args.check && !args.mix_classes { None } else { Some(args.mix_classes) };
    let report = make(&plan, &store, mix)?;
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
/// Whether runs of several classes are mixed is as the report on the disk has it, unless `mix_classes` says.
pub fn make(plan: &Plan, store: &Store, mix_classes: Option<bool>) -> Result<Report, ReportError> {
    let folder = store.results().join(&plan.manifest.name);
    let collected = collect(plan, store)?;
    let known = collected.runs.iter().any(|run| run.state != State::Pending || !run.evals.is_empty());
    let (set, note) = if !known && folder.join("runs.json").is_file() {
        let set = read(&folder)?;
        let note = unplanned(plan, &set, &folder);
        (set, note)
    } else {
        (collected, None)
    };
    let set = set.with_mix_classes(mix_classes.unwrap_or_else(|| mixes_classes(&folder)));
    let files = render(&set)?;
    let mut changed = Vec::new();
    for (path, bytes) in &files {
        if std::fs::read(folder.join(path)).ok().as_ref() != Some(bytes) {
            changed.push(path.clone());
        }
    }
    Ok(Report { set, folder, files, changed, note })
}

/// Whether committed results are of other runs than the manifest plans today.
fn unplanned(plan: &Plan, set: &ResultSet, folder: &Path) -> Option<String> {
    let missing =
        plan.runs.iter().filter(|run| !set.runs.iter().any(|known| known.id == run.id.as_str())).count();
    (missing > 0).then(|| {
        format!(
            "{} was made of other runs than the manifest plans now: {missing} of {} are not in it",
            folder.display(),
            plan.runs.len()
        )
    })
}

/// Writes the report of a plan from what the store holds, as every sweep does at its end; the page's path.
/// A report that mixes classes goes on doing so: `tickets report` alone changes that.
pub fn write_report(plan: &Plan, store: &Store) -> Result<PathBuf, Failure> {
    let report = make(plan, store, None)?;
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
    if let Some(sentence) = classes::sentence(set) {
        put(&mut text, format_args!("classes: {sentence}{}\n", mix_advice(set)));
    }
    if let Some(note) = &report.note {
        put(&mut text, format_args!("note: {note}\n"));
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

/// How to have it otherwise, with a space before it.
fn mix_advice(set: &ResultSet) -> &'static str {
    match (set.mixed_classes(), classes::groups(set).len()) {
        (Some(_), _) => " Without --mix-classes they are kept apart.",
        (None, 1) => "",
        (None, _) => " --mix-classes mixes them.",
    }
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
            let mut object = json!({
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
                "class": run.class(),
            });
            for name in names(set) {
                for (key, value) in [
                    (format!("base/{name}/score"), run.base_number(&format!("eval/{name}/score"))),
                    (format!("eval/{name}/score"), run.final_number(&format!("eval/{name}/score"))),
                    (format!("eval/{name}/stderr"), run.final_number(&format!("eval/{name}/stderr"))),
                ] {
                    object[key] = json!(value);
                }
            }
            object
        })
        .collect();
    let classes: Vec<Value> = classes::listed(set)
        .iter()
        .map(|group| {
            let made_with: Vec<_> = group.classes.iter().map(Class::fields).collect();
            json!({
                "class": group.id,
                "runs": group.runs,
                "description": group.description(),
                "made_with": made_with,
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
        "note": report.note,
        "classes": classes,
        "classes_differ_in": classes::differences(set),
        "mix_classes": set.mix_classes,
        "runs": runs,
    });
    format!("{object:#}\n")
}
