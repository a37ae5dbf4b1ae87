//! `tickets verify store`: reads every byte below `.store` and says what is damaged.
//!
//! In: a results folder. Out: one line a finding and a summary, or JSON. Exit codes: 0 nothing is damaged, 5 something is
//! or could not be judged, repaired by now or not. Nothing is changed without `--repair`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::store::{Audit, Checked, Finding, Severity, Store, audit, human_bytes};

/// Arguments of `tickets verify store`.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// Where results are
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Move what is damaged to .store/quarantine, so that the next sweep makes it again; nothing is removed
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The command.
///
/// # Errors
/// When the store has a newer format, cannot be read, or what is damaged cannot be moved.
pub fn store(args: &StoreArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    // A store whose format cannot be read is looked at all the same.
    if let Ok(store) = Store::open_read_only(&args.results) {
        store.expect_some()?;
    }
    let audit = audit(&args.results, args.repair)?;
    let text = if args.json { format!("{:#}", to_json(args, &audit)) } else { to_text(args, &audit) };
    let _ = writeln!(out, "{text}");
    Ok(if audit.is_clean() { Code::Ok } else { Code::Store })
}

fn to_json(args: &StoreArgs, audit: &Audit) -> Value {
    let Checked { artifacts, runs, checkpoints, files, bytes } = audit.checked;
    let finding = |finding: &Finding| {
        let Finding { kind, severity, path, what, moved_to } = finding;
        json!({
            "kind": kind.name(), "severity": severity.name(), "path": path.display().to_string(), "what": what,
            "moved_to": moved_to.as_ref().map(|path| path.display().to_string()),
        })
    };
    json!({
        "results": args.results.display().to_string(),
        "format": audit.format,
        "checked": {
            "artifacts": artifacts, "runs": runs, "checkpoints": checkpoints, "files": files, "bytes": bytes,
        },
        "findings": audit.findings.iter().map(finding).collect::<Vec<_>>(),
        "clean": audit.is_clean(),
    })
}

fn to_text(args: &StoreArgs, audit: &Audit) -> String {
    let mut lines = Vec::new();
    for Finding { kind, severity, path, what, moved_to } in &audit.findings {
        let note = if *severity == Severity::Note { "note: " } else { "" };
        let moved = moved_to.as_ref().map(|to| format!("; moved to {}", to.display())).unwrap_or_default();
        lines.push(format!("{:<10} {}  {note}{what}{moved}", kind.name(), path.display()));
    }
    let Checked { artifacts, runs, checkpoints, files, bytes } = audit.checked;
    let counts = [(artifacts, "artifact"), (runs, "run"), (checkpoints, "checkpoint")];
    let counts = counts.map(|(number, what)| count(number, what)).join(", ");
    let read = format!("{} read ({})", count(files, "file"), human_bytes(bytes));
    lines.push(format!("{}: {counts}: {read}; {}", args.results.display(), verdict(audit)));
    let damaged = |finding: &&Finding| finding.severity == Severity::Damage;
    let left = audit.findings.iter().filter(damaged).filter(|finding| finding.moved_to.is_none()).count();
    if left > 0 && !args.repair {
        lines.push(
            "`tickets verify store --repair` moves it aside, and the next sweep makes it again".to_owned(),
        );
    }
    lines.join("\n")
}

/// How it went, in a few words.
fn verdict(audit: &Audit) -> String {
    let of = |severity| audit.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let mut parts = Vec::new();
    match of(Severity::Damage) {
        0 => parts.push("nothing is damaged".to_owned()),
        damaged => parts.push(format!("{damaged} damaged")),
    }
    match of(Severity::Error) {
        0 => {}
        errors => parts.push(format!("{errors} could not be judged")),
    }
    match of(Severity::Note) {
        0 => {}
        notes => parts.push(count(notes, "note")),
    }
    parts.join(", ")
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
