//! What the runs of a plan stand on, looked at before anything is computed: what would fail hours later fails at once.
//!
//! In: a plan. Out: nothing, or what is wrong: an input without a commit, data that does not serve. Datasets of a hub that
//! runs still need come into the cache here; stages bring back what is gone from it later.

use std::io::Write;

use crate::data::{hub, open_task};
use crate::execute::Requests;
use crate::exit::Failure;
use crate::manifest::{ModelSource, RunConfig};
use crate::plan::Plan;
use crate::store::{RunState, Store};
use crate::task::{Serving, TaskSpec};

/// The tasks of a run, each with the table of the manifest that describes it.
fn tasks(config: &RunConfig) -> Vec<(String, &TaskSpec)> {
    let mut tasks = vec![("task".to_owned(), &config.task)];
    if let ModelSource::Pretrain(spec) = &config.model.source {
        tasks.extend(spec.mix.iter().map(|task| ("model.pretrain".to_owned(), task)));
    }
    tasks.extend(config.evals.iter().map(|eval| (format!("eval.{}.task", eval.name), &eval.task)));
    tasks
}

/// Finds what would fail hours later: inputs without a commit, name lists, questions and templates that do not serve. No
/// program is started, and no network is asked unless a commit is missing.
///
/// # Errors
/// When there is something.
pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
    let mut seen: Vec<&TaskSpec> = Vec::new();
    for run in &plan.runs {
        if let ModelSource::Hub { id, revision: None } = &run.config.model.source {
            return Err(hub::unpinned(id).into());
        }
        for (table, task) in tasks(&run.config) {
            if seen.contains(&task) {
                continue;
            }
            seen.push(task);
            match task.dataset() {
                Some(dataset) if dataset.revision.is_none() => {
                    return Err(hub::unpinned_dataset(&dataset.id, &table).into());
                }
                Some(_) => {}
                // A program is started by its runs: one that does not start fails them alone, and the grid goes on.
                None if matches!(task, TaskSpec::Program(_)) => {}
                None => drop(open_task(task, run.config.exec.serving())?),
            }
        }
    }
    Ok(())
}

/// Brings the datasets of a hub here that unfinished runs need, and opens the tasks that stand on them.
///
/// # Errors
/// When one cannot be had or does not serve, or it is asked to stop.
pub(super) fn fetch(
    plan: &Plan,
    store: &Store,
    requests: &Requests,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut wanted: Vec<(&TaskSpec, Serving)> = Vec::new();
    for run in &plan.runs {
        let of_hub = tasks(&run.config)
            .into_iter()
            .map(|(_, task)| task)
            .filter(|task| task.dataset().is_some() && wanted.iter().all(|(earlier, _)| earlier != task));
        let of_hub: Vec<&TaskSpec> = of_hub.collect();
        if !of_hub.is_empty() && store.run_state(run.id.as_str())? != RunState::Done {
            wanted.extend(of_hub.into_iter().map(|task| (task, run.config.exec.serving())));
        }
    }
    for (task, serving) in wanted {
        fetch_one(task, requests, out)?;
        open_task(task, serving)?;
    }
    Ok(())
}

#[cfg(feature = "torch")]
fn fetch_one(task: &TaskSpec, requests: &Requests, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(dataset) = task.dataset() else { return Ok(()) };
    let out = std::cell::RefCell::new(out);
    let tell = |told: hub::Told| {
        let text = match told {
            hub::Told::Begin { bytes } => {
                format!("fetches the dataset {}: {}", dataset.id, crate::store::human_bytes(bytes))
            }
            hub::Told::Note(text) => text,
            hub::Told::Progress { .. } => return,
        };
        // A reader that closed the pipe does not undo what was done.
        let _ = writeln!(out.borrow_mut(), "{text}");
    };
    let watch = hub::Watch { stop: &|| requests.level() > 0, tell: &tell };
    hub::fetch_dataset(&hub::Settings::from_env()?, dataset, watch)?;
    Ok(())
}

#[cfg(not(feature = "torch"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build asks a network")]
fn fetch_one(_: &TaskSpec, _: &Requests, _: &mut dyn Write) -> Result<(), Failure> {
    Ok(())
}
