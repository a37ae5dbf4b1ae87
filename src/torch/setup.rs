//! What a stage of a run works with: device, task, tokenizer, model, mask. Artifacts and files in, values out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind};

use crate::data::{Chat, ModelDir};
use crate::execute::Context;
use crate::manifest::{DeviceChoice, Dtype, ModelSource, RunConfig};
use crate::plan::RunSpec;
use crate::store::Stage;

use super::failure::RunError;
use super::{Model, TorchError, Weights, device, foreign, from_hub};

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
    device::keep_pages();
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
        ModelSource::Directory { .. } | ModelSource::Run { .. } | ModelSource::Pretrain(_) => {
            Ok(artifact.folder().to_path_buf())
        }
    }
}

/// Opens the base: tokenizer and weights, in the run's type.
///
/// # Errors
/// When a part is missing, damaged, or not what the plan saw.
pub fn base(run: &RunSpec, folder: &Path, device: Device) -> Result<(Model, Chat), RunError> {
    let dir = ModelDir::open(folder)?;
    unchanged(run)?;
    let mut model = load(&dir, run.config.model.dtype, device)?;
    if run.config.exec.cuda_graphs {
        record_steps(&mut model)?;
    }
    Ok((model, dir.chat()?))
}

/// Has decoding steps recorded on a GPU; on the CPU there is nothing to record.
///
/// # Errors
/// When the library beside the program cannot be opened, or CUDA refuses a stream.
pub fn record_steps(model: &mut Model) -> Result<(), TorchError> {
    static HAS_STREAM: AtomicBool = AtomicBool::new(false);
    if let Device::Cuda(index) = model.device() {
        let refused = |message: String| TorchError::Op { message: format!("record CUDA graphs: {message}") };
        let library = foreign::cuda_library().map_err(|message| refused(message.to_owned()))?;
        // A run that begins anew stays on the stream that it has.
        if !HAS_STREAM.swap(true, Ordering::Relaxed) {
            library.own_stream(index as i32).map_err(refused)?;
        }
        model.graphs = true;
    }
    Ok(())
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
