//! A base from a hub: fetched and checked once, and at each later load compared with the record of that. Datasets likewise.
//!
//! In: a run whose model is a repository at a commit. Out: the folder of its files in the shared cache. Invariant: what is
//! loaded has the digests that the base's artifact in the store holds, file by file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::Device;

use crate::data::hub::{self, HubError, Pinned, Settings, Snapshot, Told, Watch};
use crate::data::{Parameter, hub::digests, open_task};
use crate::execute::{Context, Event};
use crate::manifest::ModelSource;
use crate::plan::RunSpec;
use crate::store::{Artifact, Stage};
use crate::task::{Task, TaskSpec};

use super::failure::RunError;
use super::setup;

/// The file of a base's artifact that says what was looked at.
pub(super) const CHECKED: &str = "checked.json";

/// The repository and commit of a run's model.
fn pinned(run: &RunSpec) -> Result<Pinned, HubError> {
    match &run.config.model.source {
        ModelSource::Hub { id, revision: Some(commit) } => Ok(Pinned::model(id, commit)),
        ModelSource::Hub { id, revision: None } => Err(HubError::Unpinned { id: id.clone(), main: None }),
        ModelSource::Directory { .. } | ModelSource::Run { .. } | ModelSource::Pretrain(_) => {
            Err(HubError::Unpinned { id: String::new(), main: None })
        }
    }
}

/// Opens a task of a run. What the cache lacks of its dataset is fetched before.
pub(super) fn task(spec: &TaskSpec, run: &RunSpec, cx: &Context) -> Result<Task, RunError> {
    if let Some(dataset) = spec.dataset() {
        hub::fetch_dataset(&Settings::from_env()?, dataset, Watch { stop: cx.stop, tell: &notes(cx) })?;
    }
    Ok(open_task(spec, run.config.exec.serving())?)
}

/// Hands on what the user should see. Steps of the run are counted by its own progress.
fn notes<'c>(cx: &'c Context) -> impl Fn(Told) + 'c {
    |told| {
        if let Told::Note(text) = told {
            (cx.events)(Event::Note(text));
        }
    }
}

/// Fetches the model of a run, opens it once and publishes the record of what it is made of. `None` when asked to stop.
pub(super) fn publish(run: &RunSpec, device: Device, cx: &Context) -> Result<Option<()>, RunError> {
    let repo = pinned(run)?;
    let mut whole = 0;
    let tell = std::cell::RefCell::new(|told: Told| match told {
        Told::Begin { bytes } => {
            whole = mebibytes(bytes);
            (cx.events)(Event::Phase { name: "download, in MiB:".into(), steps: whole });
        }
        Told::Progress { done, text } => {
            (cx.events)(Event::Progress { step: mebibytes(done).min(whole), message: text });
        }
        Told::Note(text) => (cx.events)(Event::Note(text)),
    });
    let watch = Watch { stop: cx.stop, tell: &|told| (tell.borrow_mut())(told) };
    let Snapshot { folder, files } = match hub::fetch(&Settings::from_env()?, &repo, watch) {
        Ok(snapshot) => snapshot,
        Err(HubError::Stopped) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let digests = digests(&folder, &files)?;
    let (model, _) = setup::base(run, &folder, device)?;
    let parameters = &model.weights.parameters;
    let count = parameters.iter().map(Parameter::elements).sum::<usize>();
    let source = json!({ "id": repo.id, "commit": repo.commit });
    let record = json!({ "model": source, "files": digests, "tensors": tensors(parameters) });
    let meta = json!({ "model": source, "parameters": count });
    let text = format!("{record:#}\n");
    cx.store.publish(Stage::Base, &run.stages.base, &[(CHECKED, text.as_bytes())], meta)?;
    Ok(Some(()))
}

/// Names and shapes.
pub(super) fn tensors(parameters: &[Parameter]) -> Vec<Value> {
    parameters.iter().map(|found| json!({ "name": found.name, "shape": found.shape })).collect()
}

fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

/// The folder of a run's model, after it was compared with the record. What the cache has lost meanwhile is fetched again.
pub(super) fn folder(run: &RunSpec, checked: &Artifact, cx: &Context) -> Result<PathBuf, RunError> {
    let repo = pinned(run)?;
    let record: Value = serde_json::from_slice(&checked.read(CHECKED)?).unwrap_or_default();
    let recorded = record["files"].as_object().cloned().unwrap_or_default();
    let settings = Settings::from_env()?;
    let here = hub::cached_in(&settings.cache, &repo.id, Some(&repo.commit)).unwrap_or_default();
    if let Some(lost) = recorded.keys().find(|name| !here.join(name).is_file()) {
        (cx.events)(Event::Note(format!(
            "{repo} is no longer complete in the cache ({lost} is gone): it is fetched"
        )));
        hub::fetch(&settings, &repo, Watch { stop: cx.stop, tell: &notes(cx) })?;
    }
    compare(&here, &recorded)?;
    Ok(here)
}

/// Fails unless the files of a model are those of the record: the same names, the same bytes.
fn compare(folder: &Path, recorded: &Map<String, Value>) -> Result<(), HubError> {
    let changed = |name: &str| HubError::Changed { path: folder.join(name) };
    let present = hub::model_files(folder);
    if let Some(other) = present.iter().find(|name| !recorded.contains_key(*name)) {
        return Err(changed(other));
    }
    let names: Vec<String> = recorded.keys().cloned().collect();
    for (name, digest) in digests(folder, &names)? {
        if recorded[&name] != digest {
            return Err(changed(&name));
        }
    }
    Ok(())
}
