//! `plan.lock`: the ids and labels of a manifest's runs as a text worth committing, so that the difference of an edit
//! shows which runs it adds, drops and keeps.
//!
//! Ids stand alone, because a label depends on what else varies: an axis more renames every run and moves none. Invariant:
//! everything is sorted; nothing but the plan decides the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::Plan;

/// The file's name below the folder of the manifest's results.
pub const LOCK: &str = "plan.lock";

/// What stands behind the label of a run whose ids are not final.
const PROVISIONAL: &str = "(provisional)";

/// A lock that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The runs: labels by id.
    pub runs: BTreeMap<String, String>,
    /// Lines that are of no known form.
    pub unread: usize,
}

/// How a plan differs from its lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockChanges {
    /// Labels of runs that the plan has and the lock has not.
    pub added: Vec<String>,
    /// Labels of runs that the lock has and the plan has not.
    pub dropped: Vec<String>,
    /// Labels that stand for another run than before.
    pub changed: Vec<String>,
    /// Runs that are the same under another label: the old and the new one.
    pub renamed: Vec<(String, String)>,
    /// Runs that are the same, renamed ones included.
    pub kept: usize,
}

/// The text of a plan's lock.
pub fn lock_text(plan: &Plan) -> String {
    let name = &plan.manifest.name;
    let mut text = format!(
        "# The runs of `{name}`. `tickets plan {name} --lock` writes this file, `--check` compares it.\n"
    );
    let labels = plan.runs.iter().map(|run| {
        let mark = if run.provisional.is_empty() { String::new() } else { format!(" {PROVISIONAL}") };
        format!("{} {}{mark}", run.label, run.id.short())
    });
    let ids = plan.runs.iter().map(|run| run.id.to_string());
    for (heading, mut lines) in [("ids", ids.collect::<Vec<_>>()), ("labels", labels.collect())] {
        lines.sort();
        writeln!(text, "\n# {heading}\n{}", lines.join("\n")).expect("a String takes everything");
    }
    text
}

/// Reads a lock. A run without a label is called by its id.
pub fn read_lock(text: &str) -> Lock {
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let lines = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let ids = lines().filter(|line| hex(line, 64)).collect::<BTreeSet<_>>();
    let mut runs = ids.iter().map(|id| ((*id).to_owned(), (*id).to_owned())).collect::<BTreeMap<_, _>>();
    let mut unread = 0;
    for line in lines().filter(|line| !hex(line, 64)) {
        let line = line.strip_suffix(PROVISIONAL).map_or(line, str::trim_end);
        let named = line.rsplit_once(' ').filter(|(_, short)| hex(short, 12));
        let found = named.and_then(|(label, short)| {
            let (id, _) = runs.range(short.to_owned()..).next().filter(|(id, _)| id.starts_with(short))?;
            Some((id.clone(), label.to_owned()))
        });
        match found {
            Some((id, label)) => drop(runs.insert(id, label)),
            None => unread += 1,
        }
    }
    Lock { runs, unread }
}

/// What the plan adds to a lock, drops and keeps; labels in the order of the plan, dropped ones sorted.
pub fn lock_changes(plan: &Plan, lock: &Lock) -> LockChanges {
    let mut changes = LockChanges::default();
    let planned = plan.runs.iter().map(|run| run.id.as_str()).collect::<BTreeSet<_>>();
    let dropped = lock.runs.iter().filter(|(id, _)| !planned.contains(id.as_str()));
    let mut dropped = dropped.map(|(_, label)| label.clone()).collect::<BTreeSet<_>>();
    for run in &plan.runs {
        match lock.runs.get(run.id.as_str()) {
            None if dropped.remove(&run.label) => changes.changed.push(run.label.clone()),
            None => changes.added.push(run.label.clone()),
            Some(label) => {
                changes.kept += 1;
                if *label != run.label {
                    changes.renamed.push((label.clone(), run.label.clone()));
                }
            }
        }
    }
    changes.dropped = dropped.into_iter().collect();
    changes
}
