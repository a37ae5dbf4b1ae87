//! What a command writes where `--out` says: it must not be there yet, and what keeps it from being written is told as such.

use std::path::Path;

use crate::exit::{Code, Failure};
use crate::store::{free_space, human_bytes};

/// What helps when the place does not.
const ELSEWHERE: &str =
    "free some space, correct its permissions, or name another place by --out: nothing is left half-written";

/// Refuses a place that is taken.
pub fn must_be_free(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() { Err(taken(path)) } else { Ok(()) }
}

/// That something is there already.
pub fn taken(path: &Path) -> Failure {
    let hint = "remove it, or name another by --out";
    Failure::new(Code::Environment, format!("{} exists", path.display()), Some(hint.into()))
}

/// Refuses a place that is too small for so many bytes, before they are made.
pub fn must_have_room(path: &Path, bytes: u64) -> Result<(), Failure> {
    let Some(free) = free_space(path).ok().and_then(|space| space.bytes).filter(|free| *free < bytes) else {
        return Ok(());
    };
    let (needed, free) = (human_bytes(bytes), human_bytes(free));
    let error = format!("write {}: it takes {needed}, and {free} are free there", path.display());
    Err(Failure::new(Code::Store, error, Some(ELSEWHERE.into())))
}

/// A failure to write there, with the advice that fits: the results folder is not what is written to.
pub fn placed(failure: Failure, path: &Path) -> Failure {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = failure.error.to_string();
    let here =
        [folder.join(".tmp-"), path.to_path_buf()].iter().any(|at| text.contains(&at.display().to_string()));
    let about_results = failure.hint.as_ref().is_none_or(|hint| hint.contains("--results"));
    if here && about_results { Failure { hint: Some(ELSEWHERE.into()), ..failure } } else { failure }
}
