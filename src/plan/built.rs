//! What a configuration asks for that has no implementation yet, and what it leaves unpinned.

use crate::manifest::{ModelSource, RunConfig};
use crate::task::{DataSpec, Episodes, HubDataset, NamesSpec, TaskSpec};

/// The settings of a run that plan but cannot be executed by this version, by name.
pub fn unbuilt(config: &RunConfig) -> Vec<String> {
    let mut missing = Vec::new();
    match &config.task {
        TaskSpec::AlphabetSort(sort) => {
            if let NamesSpec::Hub(_) = sort.names {
                missing.push("`task.dataset`".to_owned());
            }
            if let Episodes::Python { .. } = sort.episodes {
                missing.push("`task.episodes` = \"python\"".to_owned());
            }
        }
        TaskSpec::Gsm8k(_) => missing.push("`task.type` = \"gsm8k\"".to_owned()),
        TaskSpec::Math(_) => missing.push("`task.type` = \"math\"".to_owned()),
    }
    missing.extend(config.evals.iter().map(|eval| format!("[eval.{}]", eval.name)));
    missing
}

/// The revisions that would have to be set for the ids of a run to be final.
pub fn unpinned(config: &RunConfig) -> Vec<String> {
    let mut keys = Vec::new();
    if let ModelSource::Hub { revision: None, .. } = config.model.source {
        keys.push("model.revision".to_owned());
    }
    let open = |task: &TaskSpec| dataset(task).is_some_and(|dataset| dataset.revision.is_none());
    if open(&config.task) {
        keys.push("task.revision".to_owned());
    }
    let evals = config.evals.iter().filter(|eval| open(&eval.task));
    keys.extend(evals.map(|eval| format!("eval.{}.task.revision", eval.name)));
    keys
}

fn dataset(task: &TaskSpec) -> Option<&HubDataset> {
    match task {
        TaskSpec::AlphabetSort(sort) => match &sort.names {
            NamesSpec::Hub(dataset) => Some(dataset),
            NamesSpec::Shipped | NamesSpec::File { .. } => None,
        },
        TaskSpec::Gsm8k(questions) | TaskSpec::Math(questions) => match &questions.data {
            DataSpec::Hub(dataset) => Some(dataset),
            DataSpec::File { .. } => None,
        },
    }
}
