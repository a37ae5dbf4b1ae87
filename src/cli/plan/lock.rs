//! `plan --lock` and `plan --check`: the committed list of a manifest's runs.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{counted, put};
use crate::exit::{Code, Failure};
use crate::plan::{LOCK, LockChanges, Plan, lock_changes, lock_text, read_lock};
use crate::store::Store;

/// Labels that are listed; more are counted.
const LISTED: usize = 20;

fn path(plan: &Plan, results: &Path) -> PathBuf {
    results.join(&plan.manifest.name).join(LOCK)
}

/// The lock on the disk; `None` when there is none.
fn stored(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::new(Code::Store, format!("failed to read {}: {error}", path.display()), None))
        }
    }
}

/// Writes the lock of a plan; what it says.
pub(super) fn write(plan: &Plan, store: &Store, json: bool) -> Result<String, Failure> {
    let path = path(plan, store.results());
    let before = stored(&path)?;
    let text = lock_text(plan);
    let changes = lock_changes(plan, &read_lock(before.as_deref().unwrap_or_default()));
    let changed = before.as_ref() != Some(&text);
    if changed {
        store.write_result(&Path::new(&plan.manifest.name).join(LOCK), text.as_bytes())?;
    }
    if json {
        return Ok(as_json(&path, &changes, changed));
    }
    let outcome = if changed { "written" } else { "as it was" };
    let mut said = format!("{} {outcome}: {}\n", path.display(), counted(plan.runs.len(), "run"));
    if before.is_some() {
        said.push_str(&told(&changes));
    }
    Ok(said)
}

/// Compares the lock on the disk with the plan.
///
/// # Errors
/// [`Code::Plan`] when there is none, or it differs.
pub(super) fn check(plan: &Plan, results: &Path, json: bool) -> Result<String, Failure> {
    let path = path(plan, results);
    let hint = Some(format!("`tickets plan {} --lock` writes it", plan.manifest.name));
    let Some(before) = stored(&path)? else {
        return Err(Failure::new(Code::Plan, format!("there is no {}", path.display()), hint));
    };
    let changes = lock_changes(plan, &read_lock(&before));
    if before != lock_text(plan) {
        let error = format!("{} is out of date\n{}", path.display(), told(&changes).trim_end());
        return Err(Failure::new(Code::Plan, error, hint));
    }
    if json {
        return Ok(as_json(&path, &changes, false));
    }
    Ok(format!("{} is up to date: {}\n", path.display(), counted(plan.runs.len(), "run")))
}

fn told(changes: &LockChanges) -> String {
    let LockChanges { added, dropped, renamed, kept } = changes;
    let renamed = renamed.iter().map(|(old, new)| format!("{old} -> {new}")).collect::<Vec<_>>();
    let mut said = String::new();
    for (what, labels) in [("added", added), ("dropped", dropped), ("renamed", &renamed)] {
        for label in labels.iter().take(LISTED) {
            put(&mut said, format_args!("  {what}: {label}"));
        }
        if labels.len() > LISTED {
            put(&mut said, format_args!("  {what}: and {} more", labels.len() - LISTED));
        }
    }
    put(&mut said, format_args!("  kept: {kept}"));
    said
}

fn as_json(path: &Path, changes: &LockChanges, changed: bool) -> String {
    let LockChanges { added, dropped, renamed, kept } = changes;
    let object = json!({
        "lock": path.display().to_string(), "changed": changed,
        "added": added, "dropped": dropped, "renamed": renamed, "kept": kept,
    });
    format!("{object:#}\n")
}
