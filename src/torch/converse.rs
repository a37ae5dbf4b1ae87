//! Conversations with a model on a run's task, for people to read: what `tickets chat` prints.
//!
//! In: a run, whose trained weights, base or exported folder answers. Out: whole conversations with what they earned. Nothing
//! is written. The episodes and draws are those of the run's evaluation, so its scores can be seen coming about.

use std::path::Path;

use serde_json::Value;

use crate::data::{ModelDir, TensorFile, open_task};
use crate::execute::{Context, Event};
use crate::manifest::{DeviceChoice, Dtype, EvalSpec, RunConfig};
use crate::plan::RunSpec;
use crate::store::Store;
use crate::task::TaskSpec;

use super::checkpoint::STATE_FILE;
use super::evaluate::transcript;
use super::failure::RunError;
use super::rollout::{Draws, play};
use super::trained::Trained;
use super::{TorchError, masks, setup};

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub enum Speaker<'a> {
    /// The run, as it ended.
    Run,
    /// The model that the run begins with.
    Base,
    /// A model folder.
    Folder(&'a Path),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The named evaluation whose episodes are asked; the plain one, or that of the training, without.
    pub eval: Option<&'a str>,
    /// The task of that evaluation.
    pub task: &'a TaskSpec,
    /// Its settings; sampling included.
    pub spec: &'a EvalSpec,
    /// Whether episodes of the training are asked instead, under the run's seed.
    pub train: bool,
    /// Episodes that are passed over.
    pub skip: u64,
    /// Conversations.
    pub count: u64,
}

/// Holds the conversations and returns them with their rewards.
///
/// # Errors
/// When the run is not finished, its parts are gone, or an episode cannot be made or played.
pub fn converse(
    run: &RunSpec,
    store: &Store,
    speaker: Speaker<'_>,
    asked: &Asked<'_>,
    choice: DeviceChoice,
    note: &dyn Fn(&str),
) -> Result<Vec<Value>, RunError> {
    let RunConfig { seed, model: described, exec, .. } = &run.config;
    let device = setup::prepare(choice, exec.threads)?;
    let events = |event: Event| {
        if let Event::Note(text) = event {
            note(&text);
        }
    };
    let cx = Context { store, events: &events, stop: &|| false };
    let folder = match speaker {
        Speaker::Folder(folder) => folder.to_path_buf(),
        Speaker::Run | Speaker::Base => setup::base_folder(run, &cx)?,
    };
    let dir = ModelDir::open(&folder)?;
    let mut model = setup::load(&dir, described.dtype, device)?;
    let chat = dir.chat()?;
    if let Speaker::Run = speaker {
        let state = store
            .final_path(run.id.as_str(), STATE_FILE)?
            .ok_or_else(|| RunError::NotFinished { run: run.label.clone() })?;
        let kind = if described.dtype == Dtype::Bfloat16 { tch::Kind::BFloat16 } else { tch::Kind::Float };
        let mask = masks::mask_in_memory(run, store, &dir)?;
        Trained::new(TensorFile::open(&state)?, mask.as_ref(), kind).put_into(&mut model.weights)?;
    }
    let task = open_task(asked.task, exec.serving())?;
    let end = asked.skip.saturating_add(asked.count);
    let (episodes, seed, stream) = if asked.train {
        (task.train(*seed, asked.skip..end).map_err(TorchError::from)?, *seed, "train")
    } else {
        let mut episodes = task.held_out(asked.spec.seed, asked.spec.rows, end).map_err(TorchError::from)?;
        (episodes.split_off(asked.skip as usize), asked.spec.seed, "eval")
    };
    let draws = Draws { seed, stream, step: 0 };
    // A row's draws are its place's: the evaluation's conversations come out as it held them when none is passed over.
    let rollouts = play(&model, &chat, &task, &episodes, 1, &asked.spec.sampling, draws)?;
    Ok(episodes
        .iter()
        .zip(&rollouts)
        .map(|(episode, rollout)| transcript(asked.eval, episode, rollout))
        .collect())
}
