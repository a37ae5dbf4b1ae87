//! Masks of runs: read from the store, or made of what they are made of. No tensor is loaded for it.

use serde_json::{Value, json};

use crate::data::ModelDir;
use crate::manifest::Dtype;
use crate::masks::{self, MASK_FILE, Made, MasksError, Numbers, Streamed};
use crate::plan::RunSpec;
use crate::sparsity::{Mask, MaskSpec, Score, TensorSize};
use crate::store::{Artifact, Stage, Store};

use super::checkpoint::STATE_FILE;
use super::failure::RunError;
use super::scores::SCORES_FILE;

/// The mask of a run on the base in `dir`, from the store or made now and published; `None` trains everything.
///
/// # Errors
/// When the scores are missing, or the mask cannot be made or stored.
pub fn mask(run: &RunSpec, store: &Store, dir: &ModelDir) -> Result<Option<Mask>, RunError> {
    let Some(id) = &run.stages.mask else { return Ok(None) };
    let sizes = dir.architecture.sizes();
    if let Some(mask) = stored(id, store, &sizes)? {
        return Ok(Some(mask));
    }
    let Some(Made { mask, recipe }) = made(run, store, dir, &sizes)? else { return Ok(None) };
    let kept = store.publish(Stage::Mask, id, &[(MASK_FILE, &masks::to_bytes(&mask, &recipe))], recipe)?;
    drop(mask);
    // Another run may have published it first; were it another one, that one counts.
    Ok(Some(opened(&kept, &sizes)?))
}

/// The mask of a run from the store; one that is gone is made again, and only in memory: the store may be for reading only.
///
/// # Errors
/// As [`mask`].
pub fn mask_in_memory(run: &RunSpec, store: &Store, dir: &ModelDir) -> Result<Option<Mask>, RunError> {
    let Some(id) = &run.stages.mask else { return Ok(None) };
    let sizes = dir.architecture.sizes();
    if let Some(mask) = stored(id, store, &sizes)? {
        return Ok(Some(mask));
    }
    Ok(made(run, store, dir, &sizes)?.map(|made| made.mask))
}

fn stored(id: &str, store: &Store, sizes: &[TensorSize]) -> Result<Option<Mask>, RunError> {
    let Some(artifact) = store.verified_artifact(Stage::Mask, id)? else { return Ok(None) };
    Ok(Some(opened(&artifact, sizes)?))
}

fn opened(artifact: &Artifact, sizes: &[TensorSize]) -> Result<Mask, RunError> {
    Ok(masks::parse(artifact.read(MASK_FILE)?, &artifact.path(MASK_FILE), Some(sizes))?.mask)
}

fn made(
    run: &RunSpec,
    store: &Store,
    dir: &ModelDir,
    sizes: &[TensorSize],
) -> Result<Option<Made>, RunError> {
    let MaskSpec::Sparse(spec) = &run.config.mask else { return Ok(None) };
    let weights = || Numbers::of_model(dir, run.config.model.dtype == Dtype::Bfloat16);
    let (scores, origin) = match run.config.mask.score() {
        None => (Streamed::None, None),
        Some(Score::Magnitude) => (Streamed::Magnitude(weights()?), None),
        Some(Score::Fisher(_) | Score::Gradient(_)) => {
            let (scores, origin) = gradient_scores(run, store, sizes)?;
            (Streamed::Given(scores), Some(origin))
        }
        Some(Score::Snip(_)) => {
            let (scores, origin) = gradient_scores(run, store, sizes)?;
            (Streamed::Product(weights()?, scores), Some(origin))
        }
        Some(Score::Moved { run: other }) => {
            (Streamed::Moved(weights()?, moved(run, other, store, sizes)?), None)
        }
    };
    let mut made = masks::make(sizes, spec, &scores, origin)?;
    made.recipe["base"] = run.stages.base.as_str().into();
    Ok(Some(made))
}

/// The scores that the run's mask ranks by, and what they are.
fn gradient_scores(run: &RunSpec, store: &Store, sizes: &[TensorSize]) -> Result<(Numbers, Value), RunError> {
    let id = run.stages.scores.clone().unwrap_or_default();
    let artifact = store
        .verified_artifact(Stage::Scores, &id)?
        .ok_or_else(|| RunError::NoArtifact { stage: "scores", id: id.clone() })?;
    let mut meta = artifact.meta().clone();
    // How stable they are is said with the scores.
    if let Some(meta) = meta.as_object_mut() {
        meta.remove("halves");
    }
    Ok((Numbers::of_scores(&artifact.path(SCORES_FILE), sizes)?, json!({ "id": id, "recipe": meta })))
}

/// The final weights of a finished full run on the same base.
fn moved(run: &RunSpec, other: &str, store: &Store, sizes: &[TensorSize]) -> Result<Numbers, RunError> {
    let unusable = |why: &str| RunError::NotMoved { run: other.to_owned(), why: why.to_owned() };
    let Some(path) = store.final_path(other, STATE_FILE)? else {
        return Err(RunError::NotYetMoved { run: other.to_owned() });
    };
    let Some(record) = store.described(other)?.map(Value::Object) else {
        return Err(unusable("its record in this results folder is missing or damaged"));
    };
    if !record["stages"]["mask"].is_null() {
        return Err(unusable("it is no full run"));
    }
    if record["stages"]["base"] != run.stages.base.as_str() {
        return Err(unusable("it has another base"));
    }
    // The id of the built-in base does not hold it.
    let dtype = run.config.model.dtype;
    if record["settings"]["model.dtype"] != if dtype == Dtype::Bfloat16 { "bfloat16" } else { "float32" } {
        return Err(unusable("it computed in another `model.dtype`"));
    }
    Ok(Numbers::of_file(&path, "value/", sizes)?)
}

impl From<MasksError> for RunError {
    fn from(error: MasksError) -> Self {
        Self::Torch(error.into())
    }
}
