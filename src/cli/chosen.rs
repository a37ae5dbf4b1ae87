//! The run that `[MANIFEST] RUN` names, with its whole configuration.

use super::args::LookArgs;
use crate::exit::{Code, Failure};
use crate::plan::{Plan, RunSpec};
use crate::store::Store;
use crate::{manifest, plan};

/// With a second argument, the run of that name in the manifest of the first; else the run whose id begins with the first, in
/// the manifest that the store says it is of. `command` is for advice.
///
/// # Errors
/// When there is no such run, or its manifest has changed.
pub fn chosen(
    command: &str,
    first: &str,
    second: Option<&str>,
    look: &LookArgs,
    store: &Store,
) -> Result<RunSpec, Failure> {
    let load =
        |name: &str| -> Result<Plan, Failure> { Ok(plan::expand(manifest::load(name, &look.overrides())?)?) };
    if let Some(wanted) = second {
        return Ok(load(first)?.find(wanted)?.clone());
    }
    let id = store.find_run(first)?;
    let hint = format!(
        "name the manifest too, and the overrides that the run was made with: tickets {command} MANIFEST RUN --set ..."
    );
    let failed = |error: String| Failure::new(Code::Plan, error, Some(hint.clone()));
    let record = store.described(&id)?;
    let name = record.as_ref().and_then(|record| record.get("manifest")?.as_str());
    let name = name.ok_or_else(|| failed(format!("the store does not say which manifest run {id} is of")))?;
    let plan = load(name)
        .map_err(|error| failed(format!("find the manifest {name} of run {id}: {}", error.error)))?;
    let found = plan.runs.into_iter().find(|run| run.id.as_str() == id);
    found.ok_or_else(|| failed(format!("manifest {name} has no run {id} as it is now")))
}
