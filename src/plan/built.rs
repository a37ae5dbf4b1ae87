//! What a configuration leaves unpinned.

use crate::manifest::{ModelSource, RunConfig};
use crate::task::TaskSpec;

/// The revisions that would have to be set for the ids of a run to be final.
pub fn unpinned(config: &RunConfig) -> Vec<String> {
    let mut keys = Vec::new();
    if let ModelSource::Hub { revision: None, .. } = config.model.source {
        keys.push("model.revision".to_owned());
    }
    let open = |task: &TaskSpec| task.dataset().is_some_and(|dataset| dataset.revision.is_none());
    if open(&config.task) {
        keys.push("task.revision".to_owned());
    }
    let evals = config.evals.iter().filter(|eval| open(&eval.task));
    keys.extend(evals.map(|eval| format!("eval.{}.task.revision", eval.name)));
    keys
}
