//! `plan --lock` and `plan --check`: the committed list of a manifest's runs.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{counted, put};
use crate::exit::{Code, Failure};
use crate::plan::{LOCK, Lock, LockChanges, Plan, lock_changes, lock_text, read_lock};
use crate::store;

/// Labels that are listed; more are counted.
const LISTED: usize = 20;

/// The lock as it is on the disk.
struct Stored {
    path: PathBuf,
    text: Option<String>,
    lock: Lock,
}

/// Reads the lock of a plan.
///
/// # Errors
/// When the plan is not that of the manifest alone, or the file cannot be read.
fn stored(plan: &Plan, results: &Path) -> Result<Stored, Failure> {
    let overridden = plan.manifest.overridden();
    if let Some(found) = overridden.iter().find(|found| !found.key.starts_with("exec.")) {
        let error = format!(
            "the lock is of the manifest as it is written, but `{}` is overridden ({})",
            found.key, found.origin
        );
        let hint = "drop the override; --no-env ignores the environment";
        return Err(Failure::new(Code::Plan, error, Some(hint.into())));
    }
    let path = results.join(&plan.manifest.name).join(LOCK);
    let text = match std::fs::read(&path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let error = format!("failed to read {}: {error}", path.display());
            return Err(Failure::new(Code::Store, error, None));
        }
    };
    let lock = read_lock(text.as_deref().unwrap_or_default());
    Ok(Stored { path, text, lock })
}

/// Writes the lock of a plan; what it says.
pub(super) fn write(plan: &Plan, results: &Path, json: bool) -> Result<String, Failure> {
    let Stored { path, text: before, lock } = stored(plan, results)?;
    let text = lock_text(plan);
    let changes = lock_changes(plan, &lock);
    let written = before.as_ref() != Some(&text);
    if written {
        store::write_file(&path, text.as_bytes())?;
    }
    if json {
        return Ok(as_json(&path, &changes, written));
    }
    let outcome = if written { "written" } else { "as it was" };
    let mut said = format!("{} {outcome}: {}\n", path.display(), counted(plan.runs.len(), "run"));
    if before.is_some() && written {
        said.push_str(&told(&changes, lock.unread));
    }
    Ok(said)
}

/// Compares the lock on the disk with the plan: what it says, and [`Code::Plan`] when it says in JSON that they differ.
///
/// # Errors
/// [`Code::Plan`] when there is none, or it differs.
pub(super) fn check(plan: &Plan, results: &Path, json: bool) -> Result<(String, Code), Failure> {
    let Stored { path, text, lock } = stored(plan, results)?;
    let changes = lock_changes(plan, &lock);
    let current = text.as_ref() == Some(&lock_text(plan));
    if json {
        return Ok((as_json(&path, &changes, !current), if current { Code::Ok } else { Code::Plan }));
    }
    if current {
        let said = format!("{} is up to date: {}\n", path.display(), counted(plan.runs.len(), "run"));
        return Ok((said, Code::Ok));
    }
    let error = match text {
        None => format!("there is no {}", path.display()),
        Some(_) => {
            format!("{} is out of date\n{}", path.display(), told(&changes, lock.unread).trim_end())
        }
    };
    let hint = format!("`tickets plan {} --lock` writes it", plan.manifest.name);
    Err(Failure::new(Code::Plan, error, Some(hint)))
}

fn told(changes: &LockChanges, unread: usize) -> String {
    let LockChanges { added, dropped, changed, renamed, kept } = changes;
    let renamed = renamed.iter().map(|(old, new)| format!("{old} -> {new}")).collect::<Vec<_>>();
    let mut said = String::new();
    let all = [("added", added), ("dropped", dropped), ("changed", changed), ("renamed", &renamed)];
    for (what, labels) in all {
        for label in labels.iter().take(LISTED) {
            put(&mut said, format_args!("  {what}: {label}"));
        }
        if labels.len() > LISTED {
            put(&mut said, format_args!("  {what}: and {} more", labels.len() - LISTED));
        }
    }
    if unread > 0 {
        put(&mut said, format_args!("  not understood: {}", counted(unread, "line")));
    }
    let others = if renamed.is_empty() { String::new() } else { format!(", {} renamed", renamed.len()) };
    put(&mut said, format_args!("  kept: {kept}{others}"));
    said
}

fn as_json(path: &Path, changes: &LockChanges, differs: bool) -> String {
    let LockChanges { added, dropped, changed, renamed, kept } = changes;
    let object = json!({
        "lock": path.display().to_string(), "differs": differs, "added": added, "dropped": dropped,
        "changed": changed, "renamed": renamed, "kept": kept,
    });
    format!("{object:#}\n")
}
