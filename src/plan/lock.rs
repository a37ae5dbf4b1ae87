//! `plan.lock`: the ids and labels of a manifest's runs as a text worth committing, so that the difference of an edit
//! shows which runs it adds, drops and keeps.
//!
//! Invariant: one line a run, sorted by id; nothing but the plan decides the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::Plan;

/// The file's name below the folder of the manifest's results.
pub const LOCK: &str = "plan.lock";

/// What stands behind the label of a run whose ids are not final.
const PROVISIONAL: &str = "(provisional)";

/// How a plan differs from its lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockChanges {
    /// Labels of runs that the plan has and the lock has not.
    pub added: Vec<String>,
    /// Labels of runs that the lock has and the plan has not.
    pub dropped: Vec<String>,
    /// Runs that changed their label alone: the old and the new one.
    pub renamed: Vec<(String, String)>,
    /// Runs that are as they were.
    pub kept: usize,
}

/// The text of a plan's lock.
pub fn lock_text(plan: &Plan) -> String {
    let mut text = format!(
        "# The runs of `{}`: id, label. `tickets plan {} --lock` writes this file, `--check` compares it.\n",
        plan.manifest.name, plan.manifest.name
    );
    let mut lines = plan
        .runs
        .iter()
        .map(|run| {
            let mark = if run.provisional.is_empty() { String::new() } else { format!(" {PROVISIONAL}") };
            format!("{} {}{mark}", run.id, run.label)
        })
        .collect::<Vec<_>>();
    lines.sort();
    for line in lines {
        writeln!(text, "{line}").expect("a String takes everything");
    }
    text
}

/// The runs of a lock: labels by id. Lines that are not of that form are left out.
pub fn read_lock(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let run = |line: &str| {
        let (id, label) = line.split_once(' ')?;
        let label = label.strip_suffix(PROVISIONAL).unwrap_or(label).trim();
        let digits = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| (id.to_owned(), label.to_owned()))
    };
    lines.filter_map(run).collect()
}

/// What the plan adds to a lock, drops and keeps; labels in the order of the plan, dropped ones sorted.
pub fn lock_changes(plan: &Plan, locked: &BTreeMap<String, String>) -> LockChanges {
    let mut changes = LockChanges::default();
    for run in &plan.runs {
        match locked.get(run.id.as_str()) {
            None => changes.added.push(run.label.clone()),
            Some(label) if *label == run.label => changes.kept += 1,
            Some(label) => changes.renamed.push((label.clone(), run.label.clone())),
        }
    }
    let planned = plan.runs.iter().map(|run| run.id.as_str()).collect::<BTreeSet<_>>();
    let dropped =
        locked.iter().filter(|(id, _)| !planned.contains(id.as_str())).map(|(_, label)| label.clone());
    changes.dropped = dropped.collect();
    changes.dropped.sort();
    changes
}
