//! What a stage of a run works with: device, task, tokenizer, model, mask. Artifacts and files in, values out.

use std::path::{Path, PathBuf};

use serde_json::json;
use tch::{Device, Kind};

use crate::data::safetensors::{RawTensor, parse, to_bytes};
use crate::data::{Chat, ModelDir};
use crate::execute::Context;
use crate::manifest::{DeviceChoice, Dtype, ModelSource, RunConfig};
use crate::plan::RunSpec;
use crate::sparsity::{Mask, MaskSpec, TensorSize, random, top_k};
use crate::store::{Stage, Store};

use super::failure::RunError;
use super::weights::float_vector;
use super::{Model, TorchError, Weights, device, from_hub};

/// File of a mask artifact: sorted flat indices, int32, one tensor per parameter.
pub const MASK_FILE: &str = "mask.safetensors";
/// File of a scores artifact: float32, one tensor per parameter.
pub const SCORES_FILE: &str = "scores.safetensors";

/// Chooses the device and makes libtorch's sums repeatable: fixed threads, deterministic algorithms, no TF32.
///
/// # Errors
/// When CUDA is asked for and absent, or libtorch refuses a setting.
pub fn device(config: &RunConfig) -> Result<Device, RunError> {
    prepare(config.exec.device, config.exec.threads)
}

/// [`device`] with the choice and the threads given.
///
/// # Errors
/// As [`device`].
pub fn prepare(choice: DeviceChoice, threads: u32) -> Result<Device, RunError> {
    let device = device::choose(choice)?;
    tch::set_num_threads(threads as i32);
    device::set_deterministic()?;
    Ok(device)
}

/// A model directory's decoder, its weights converted to `dtype` on `device`; a tokenizer is not looked for.
///
/// # Errors
/// When a file is damaged, or a tensor is missing, unknown, or of the wrong shape or type.
pub fn load(dir: &ModelDir, dtype: Dtype, device: Device) -> Result<Model, TorchError> {
    let kind = match dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
    };
    Model::new(Weights::load(dir, kind, device)?)
}

/// The folder of a run's base model: the manifest's own, that of a hub's model in the cache, or the built-in base in the
/// store.
///
/// # Errors
/// When the base's artifact is not there or is damaged, or a hub's model is not what its record says.
pub fn base_folder(run: &RunSpec, cx: &Context) -> Result<PathBuf, RunError> {
    if let ModelSource::Directory { path, .. } = &run.config.model.source {
        return Ok(path.clone());
    }
    let Some(artifact) = cx.store.verified_artifact(Stage::Base, &run.stages.base)? else {
        return Err(RunError::NoArtifact { stage: "base", id: run.stages.base.clone() });
    };
    match &run.config.model.source {
        ModelSource::Hub { .. } => from_hub::folder(run, &artifact, cx),
        ModelSource::Directory { .. } | ModelSource::Pretrain(_) => Ok(artifact.folder().to_path_buf()),
    }
}

/// Opens the base: tokenizer and weights, in the run's type, ready for gradients.
///
/// # Errors
/// When a part is missing, damaged, or not what the plan saw.
pub fn base(run: &RunSpec, folder: &Path, device: Device) -> Result<(Model, Chat), RunError> {
    let dir = ModelDir::open(folder)?;
    unchanged(run)?;
    let mut model = load(&dir, run.config.model.dtype, device)?;
    let tensors = std::mem::take(&mut model.weights.tensors);
    model.weights.tensors = tensors.into_iter().map(|tensor| tensor.set_requires_grad(true)).collect();
    Ok((model, dir.chat()?))
}

/// That the base is what the plan saw.
///
/// # Errors
/// [`RunError::Changed`] when it is not.
pub fn unchanged(run: &RunSpec) -> Result<(), RunError> {
    let ModelSource::Directory { digest, path } = &run.config.model.source else { return Ok(()) };
    let found = crate::manifest::model_digest(path)
        .map_err(|source| crate::data::DataError::Read { path: path.clone(), source })?;
    if found == *digest { Ok(()) } else { Err(RunError::Changed { path: path.clone() }) }
}

/// The mask of a run, from the store or made now and published; `None` trains everything.
///
/// # Errors
/// When the scores are missing, or the mask cannot be made or stored.
pub fn mask(run: &RunSpec, store: &Store, model: &Model) -> Result<Option<Mask>, RunError> {
    let Some(id) = &run.stages.mask else { return Ok(None) };
    let sizes = model.weights.sizes();
    if let Some(artifact) = store.verified_artifact(Stage::Mask, id)? {
        let bytes = artifact.read(MASK_FILE)?;
        return Ok(Some(parse_mask(&bytes, &artifact.path(MASK_FILE), sizes)?));
    }
    let (mask, recipe) = match &run.config.mask {
        MaskSpec::Full => return Ok(None),
        MaskSpec::Layers { .. } => return Err(RunError::NotBuilt { what: "`mask.type` = \"layers\"" }),
        MaskSpec::Random { sparsity, seed, rng } => (
            random(&sizes, *sparsity, *seed, *rng).map_err(TorchError::from)?,
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
            let scores = parse_scores(&artifact.read(SCORES_FILE)?, &artifact.path(SCORES_FILE), &sizes)?;
            (
                top_k(&sizes, &scores, *sparsity, *rounding).map_err(TorchError::from)?,
                json!({ "type": "fisher", "sparsity": sparsity, "scores": id, "scope": "global",
                        "rounding": format!("{rounding:?}").to_lowercase() }),
            )
        }
        MaskSpec::Magnitude { sparsity, rounding } => {
            let scores = magnitudes(model)?;
            (
                top_k(&sizes, &scores, *sparsity, *rounding).map_err(TorchError::from)?,
                json!({ "type": "magnitude", "sparsity": sparsity, "scope": "global",
                        "rounding": format!("{rounding:?}").to_lowercase() }),
            )
        }
    };
    let mut meta = recipe;
    meta["active"] = mask.active().into();
    meta["total"] = mask.total().into();
    meta["ties"] = "score descending, tensor order, flat index ascending".into();
    let header = [("format".to_owned(), "pt".to_owned()), ("recipe".to_owned(), meta.to_string())].into();
    let kept = store.publish(Stage::Mask, id, &[(MASK_FILE, &to_bytes(&raw_mask(&mask), &header))], meta)?;
    // Another run may have published it first; were it another one, that one counts.
    Ok(Some(parse_mask(&kept.read(MASK_FILE)?, &kept.path(MASK_FILE), sizes)?))
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
