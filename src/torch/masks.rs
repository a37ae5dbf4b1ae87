//! Masks of runs: read from the store, or made of what they are made of.

use std::path::Path;

use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::data::ModelDir;
use crate::data::safetensors::{RawTensor, parse, to_bytes};
use crate::plan::RunSpec;
use crate::sparsity::{Mask, MaskSpec, TensorSize, random, top_k};
use crate::store::{Stage, Store};

use super::failure::RunError;
use super::scores::SCORES_FILE;
use super::weights::float_vector;
use super::{Model, TorchError, setup};

/// File of a mask artifact: sorted flat indices, int32, one tensor per parameter.
pub const MASK_FILE: &str = "mask.safetensors";

/// The mask of a run, from the store or made now and published; `None` trains everything.
///
/// # Errors
/// When the scores are missing, or the mask cannot be made or stored.
pub fn mask(run: &RunSpec, store: &Store, model: &Model) -> Result<Option<Mask>, RunError> {
    let Some(id) = &run.stages.mask else { return Ok(None) };
    let sizes = model.weights.sizes();
    if let Some(mask) = stored(id, store, &sizes)? {
        return Ok(Some(mask));
    }
    let (mask, meta) = made(run, store, &sizes, &|| magnitudes(model))?;
    let header = [("format".to_owned(), "pt".to_owned()), ("recipe".to_owned(), meta.to_string())].into();
    let kept = store.publish(Stage::Mask, id, &[(MASK_FILE, &to_bytes(&raw_mask(&mask), &header))], meta)?;
    // Another run may have published it first; were it another one, that one counts.
    Ok(Some(parse_mask(&kept.read(MASK_FILE)?, &kept.path(MASK_FILE), sizes)?))
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
    let load = || magnitudes(&setup::load(dir, run.config.model.dtype, Device::Cpu)?);
    Ok(Some(made(run, store, &sizes, &load)?.0))
}

fn stored(id: &str, store: &Store, sizes: &[TensorSize]) -> Result<Option<Mask>, RunError> {
    let Some(artifact) = store.verified_artifact(Stage::Mask, id)? else { return Ok(None) };
    Ok(Some(parse_mask(&artifact.read(MASK_FILE)?, &artifact.path(MASK_FILE), sizes.to_vec())?))
}

/// The mask, made, and how. `magnitudes` are the absolute weights, where they are asked for.
fn made(
    run: &RunSpec,
    store: &Store,
    sizes: &[TensorSize],
    magnitudes: &dyn Fn() -> Result<Vec<Vec<f32>>, RunError>,
) -> Result<(Mask, Value), RunError> {
    let (mask, recipe) = match &run.config.mask {
        MaskSpec::Full => return Err(RunError::NoArtifact { stage: "mask", id: String::new() }),
        MaskSpec::Layers { .. } => return Err(RunError::NotBuilt { what: "`mask.type` = \"layers\"" }),
        MaskSpec::Random { sparsity, seed, rng } => (
            random(sizes, *sparsity, *seed, *rng).map_err(TorchError::from)?,
            json!({ "type": "random", "sparsity": sparsity, "seed": seed, "rng": "chacha", "scope": "per_tensor",
                    "rounding": "floor" }),
        ),
        MaskSpec::Fisher { sparsity, rounding, .. } => {
            let id = run
                .stages
                .scores
                .as_ref()
                .ok_or(RunError::NoArtifact { stage: "scores", id: String::new() })?;
            let artifact = store
                .verified_artifact(Stage::Scores, id)?
                .ok_or_else(|| RunError::NoArtifact { stage: "scores", id: id.clone() })?;
            let scores = parse_scores(&artifact.read(SCORES_FILE)?, &artifact.path(SCORES_FILE), sizes)?;
            (
                top_k(sizes, &scores, *sparsity, *rounding).map_err(TorchError::from)?,
                json!({ "type": "fisher", "sparsity": sparsity, "scores": id, "scope": "global",
                        "rounding": format!("{rounding:?}").to_lowercase() }),
            )
        }
        MaskSpec::Magnitude { sparsity, rounding } => {
            let scores = magnitudes()?;
            (
                top_k(sizes, &scores, *sparsity, *rounding).map_err(TorchError::from)?,
                json!({ "type": "magnitude", "sparsity": sparsity, "scope": "global",
                        "rounding": format!("{rounding:?}").to_lowercase() }),
            )
        }
    };
    let mut meta = recipe;
    meta["active"] = mask.active().into();
    meta["total"] = mask.total().into();
    meta["ties"] = "score descending, tensor order, flat index ascending".into();
    Ok((mask, meta))
}

fn magnitudes(model: &Model) -> Result<Vec<Vec<f32>>, RunError> {
    let read = |tensor: &tch::Tensor| -> Result<Vec<f32>, TorchError> {
        let flat =
            tensor.f_detach()?.f_abs()?.f_to_kind(Kind::Float)?.f_reshape([-1])?.f_to_device(Device::Cpu)?;
        Ok(Vec::<f32>::try_from(&flat)?)
    };
    Ok(model.weights.tensors.iter().map(read).collect::<Result<_, _>>()?)
}

fn raw_mask(mask: &Mask) -> Vec<RawTensor> {
    mask.tensors()
        .iter()
        .zip(mask.indices())
        .map(|(tensor, indices)| RawTensor {
            name: tensor.name.clone(),
            dtype: "I32",
            shape: vec![indices.len()],
            bytes: indices.iter().flat_map(|index| index.to_le_bytes()).collect(),
        })
        .collect()
}

fn parse_mask(bytes: &[u8], path: &Path, sizes: Vec<TensorSize>) -> Result<Mask, TorchError> {
    let file = parse(bytes, path)?;
    let indices = sizes
        .iter()
        .map(|size| match file.tensor(&size.name) {
            Ok(view) => Ok(view
                .data()
                .chunks_exact(4)
                .map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
                .collect()),
            Err(error) => Err(TorchError::Tensor {
                file: path.into(),
                tensor: size.name.clone(),
                what: error.to_string(),
            }),
        })
        .collect::<Result<Vec<Vec<u32>>, _>>()?;
    Ok(Mask::new(sizes, indices)?)
}

fn parse_scores(bytes: &[u8], path: &Path, sizes: &[TensorSize]) -> Result<Vec<Vec<f32>>, TorchError> {
    let file = parse(bytes, path)?;
    sizes
        .iter()
        .map(|size| {
            let view = file.tensor(&size.name).map_err(|error| TorchError::Tensor {
                file: path.into(),
                tensor: size.name.clone(),
                what: error.to_string(),
            })?;
            Ok(Vec::<f32>::try_from(&float_vector(&view, Device::Cpu)?)?)
        })
        .collect()
}
