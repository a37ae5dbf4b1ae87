//! The stages of a run, as the executor calls them: base, scores, and the run itself.

use std::path::Path;

use serde_json::json;
use tch::Device;

use crate::data::{ModelDir, Parameter};
use crate::execute::{Context, Event, FailureClass, Outcome, StageFailure, Trainer};
use crate::manifest::ModelSource;
use crate::plan::RunSpec;
use crate::store::Stage;
use crate::task::{Mixture, Order, Task};

use super::failure::RunError;
use super::{TorchError, directory, from_hub, from_run, masks, scores, setup, train, warm_start};

/// Trains on libtorch.
#[derive(Clone, Copy, Debug, Default)]
pub struct TorchTrainer;

impl Trainer for TorchTrainer {
    fn base(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
        base(run, cx)?.ok_or_else(interrupted)
    }

    fn scores(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
        score(run, cx)?.ok_or_else(interrupted)
    }

    fn mask(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
        Ok(mask(run, cx)?)
    }

    fn run(&self, run: &RunSpec, cx: &Context) -> Result<Outcome, StageFailure> {
        train::run(run, cx)
    }
}

fn interrupted() -> StageFailure {
    StageFailure::new(FailureClass::Interrupted, "asked to stop before it was complete")
}

fn base(run: &RunSpec, cx: &Context) -> Result<Option<()>, RunError> {
    if cx.store.artifact(Stage::Base, &run.stages.base)?.is_some() {
        return Ok(Some(()));
    }
    let device = setup::device(&run.config)?;
    let spec = match &run.config.model.source {
        ModelSource::Pretrain(spec) => spec,
        ModelSource::Hub { .. } => return from_hub::publish(run, device, cx),
        ModelSource::Run { run: other } => {
            return from_run::publish(cx.store, other, &run.stages.base).map(Some);
        }
        ModelSource::Directory { path, digest } => return checked(run, path, digest, device, cx).map(Some),
    };
    let task = if spec.mix.is_empty() {
        from_hub::task(&run.config.task, run, cx)?
    } else {
        let tasks = spec.mix.iter().map(|task| from_hub::task(task, run, cx));
        let mixture = Mixture::new(tasks.collect::<Result<_, _>>()?).map_err(TorchError::from)?;
        Task::of(mixture, Order::Shuffled)
    };
    (cx.events)(Event::Phase { name: "warm start".into(), steps: spec.steps });
    let progress = |step, message| (cx.events)(Event::Progress { step, message });
    let Some(warm) = warm_start(spec, &task, device, &progress, cx.stop)? else { return Ok(None) };
    let files = directory(&warm)?;
    let views: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    cx.store.publish(Stage::Base, &run.stages.base, &views, warm.meta)?;
    Ok(Some(()))
}

/// Opens a model directory once, so that what is wrong with it is said once and not by every run. The artifact is a
/// record of that; the directory itself stays where it is.
fn checked(run: &RunSpec, path: &Path, digest: &str, device: Device, cx: &Context) -> Result<(), RunError> {
    let (model, _) = setup::base(run, path, device)?;
    let parameters = &model.weights.parameters;
    let meta = json!({ "model_digest": digest, "parameters": parameters.iter().map(Parameter::elements).sum::<usize>() });
    let record = format!("{:#}\n", json!({ "tensors": from_hub::tensors(parameters) }));
    cx.store.publish(Stage::Base, &run.stages.base, &[(from_hub::CHECKED, record.as_bytes())], meta)?;
    Ok(())
}

fn mask(run: &RunSpec, cx: &Context) -> Result<(), RunError> {
    let folder = setup::base_folder(run, cx)?;
    setup::unchanged(run)?;
    masks::mask(run, cx.store, &ModelDir::open(&folder)?)?;
    Ok(())
}

fn score(run: &RunSpec, cx: &Context) -> Result<Option<()>, RunError> {
    let (Some(spec), Some(id)) = (run.config.mask.gradients(), &run.stages.scores) else {
        return Ok(Some(()));
    };
    if cx.store.artifact(Stage::Scores, id)?.is_some() {
        return Ok(Some(()));
    }
    scores::publish(run, id, spec, run.config.mask.measure(), cx)
}
