//! A base, or what a run made of it, as a Hugging Face directory or as a delta.
//!
//! Both go through the same change of every tensor, so a delta applied to its base gives the very bytes of the directory.
//! Weights have the base's types unless another is asked for; a run that trained in float32 is rounded to them.

use std::path::Path;

use tch::Kind;

use crate::data::{
    Change, DeltaHead, ModelDir, TensorDigests, TensorEntry, TensorFile, companions, copy_model, delta_bytes,
    each_tensor, width,
};
use crate::execute::{Context, Event};
use crate::manifest::{Dtype, ModelSource};
use crate::plan::RunSpec;
use crate::store::{NewFolder, Store};

use super::failure::RunError;
use super::trained::{Trained, converted};
use super::{checkpoint, masks, setup};

/// What was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Names of the files.
    pub files: Vec<String>,
    /// Digest of the tensors, see [`TensorDigests`].
    pub digest: String,
    /// Entries that differ from the base's.
    pub changed: usize,
    /// All entries.
    pub total: usize,
    /// Whether float32 values of the run were rounded to a narrower type.
    pub rounded: bool,
}

/// Writes the directory `out`: the base of a run, or with `trained` what the run made of it. `dtype` is the type of all
/// tensors instead of the base's.
///
/// # Errors
/// When the base or the run is not there or damaged, or `out` exists or cannot be written; nothing is visible then.
pub fn export_model(
    run: &RunSpec,
    store: &Store,
    trained: bool,
    dtype: Option<Dtype>,
    out: &Path,
    note: &dyn Fn(&str),
) -> Result<Exported, RunError> {
    let folder = NewFolder::begin(out)?;
    let state = trained.then(|| final_state(run, store)).transpose()?;
    let dir = base(run, store, note)?;
    let trained = state.map(|state| final_values(run, store, &dir, state)).transpose()?;
    let dtype = dtype.map(file_type);
    let (mut changed, mut total, mut rounded) = (0, 0, false);
    let mut edit = |entry: &TensorEntry, bytes: Vec<u8>| -> Result<Vec<u8>, RunError> {
        let (entry, mut bytes) = converted(entry, bytes, dtype.unwrap_or(&entry.dtype))?;
        total += entry.elements();
        if let Some(trained) = &trained
            && let Some(change) = trained.change(&entry, &bytes)?
        {
            changed += size(&change, &entry);
            rounded |= rounds(run, &entry.dtype);
            change.apply(width(&entry.dtype).unwrap_or(1), &mut bytes);
        }
        Ok(bytes)
    };
    let (digest, files) = copy_model(&dir, &folder, &companions(&dir)?, dtype, &mut edit)?;
    folder.publish()?;
    Ok(Exported { files, digest, changed, total, rounded })
}

/// The bytes of a delta of a finished run, and what they hold.
///
/// # Errors
/// As [`export_model`].
pub fn export_delta(
    run: &RunSpec,
    store: &Store,
    note: &dyn Fn(&str),
) -> Result<(Vec<u8>, Exported), RunError> {
    let state = final_state(run, store)?;
    let dir = base(run, store, note)?;
    let trained = final_values(run, store, &dir, state)?;
    let (mut before, mut after) = (TensorDigests::default(), TensorDigests::default());
    let (mut changed, mut total, mut rounded) = (0, 0, false);
    let mut changes: Vec<(TensorEntry, Change)> = Vec::new();
    each_tensor(&dir, |entry, mut bytes| {
        before.add_entry(entry, &bytes);
        total += entry.elements();
        if let Some(change) = trained.change(entry, &bytes)? {
            change.apply(width(&entry.dtype).unwrap_or(1), &mut bytes);
            changed += size(&change, entry);
            rounded |= rounds(run, &entry.dtype);
            changes.push((entry.clone(), change));
        }
        after.add_entry(entry, &bytes);
        Ok::<_, RunError>(())
    })?;
    let head = DeltaHead {
        base_digest: before.finish(),
        result_digest: after.finish(),
        mask: run.stages.mask.clone().unwrap_or_else(|| "full".into()),
        run: run.id.to_string(),
        base: named(run),
        files: companions(&dir)?,
    };
    let bytes = delta_bytes(&head, changes);
    Ok((bytes, Exported { files: Vec::new(), digest: head.result_digest, changed, total, rounded }))
}

/// The base's directory, as the plan saw it.
fn base(run: &RunSpec, store: &Store, note: &dyn Fn(&str)) -> Result<ModelDir, RunError> {
    let events = |event: Event| {
        if let Event::Note(text) = event {
            note(&text);
        }
    };
    let folder = setup::base_folder(run, &Context { store, events: &events, stop: &|| false })?;
    setup::unchanged(run)?;
    Ok(ModelDir::open(&folder)?)
}

fn final_state(run: &RunSpec, store: &Store) -> Result<TensorFile, RunError> {
    let path = store
        .final_path(run.id.as_str(), checkpoint::STATE_FILE)?
        .ok_or_else(|| RunError::NotFinished { run: run.label.clone() })?;
    Ok(TensorFile::open(&path)?)
}

fn final_values(
    run: &RunSpec,
    store: &Store,
    dir: &ModelDir,
    state: TensorFile,
) -> Result<Trained, RunError> {
    let kind = match run.config.model.dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
    };
    Ok(Trained::new(state, masks::mask_in_memory(run, store, dir)?.as_ref(), kind))
}

/// Whether values of the run may lose bits in files of this type. In bfloat16 runs rollouts and gradients see rounded
/// weights, so that bfloat16 files hold just what was trained.
fn rounds(run: &RunSpec, dtype: &str) -> bool {
    match run.config.model.dtype {
        Dtype::Float32 => dtype != "F32",
        Dtype::Bfloat16 => dtype == "F16",
    }
}

/// What people call the base.
fn named(run: &RunSpec) -> String {
    match &run.config.model.source {
        ModelSource::Pretrain(_) => format!("built-in {}", run.stages.base),
        ModelSource::Run { run } => format!("run {run}"),
        ModelSource::Directory { path, .. } => {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
        ModelSource::Hub { id, revision } => format!("{id}@{}", revision.as_deref().unwrap_or("main")),
    }
}

fn file_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float32 => "F32",
        Dtype::Bfloat16 => "BF16",
    }
}

fn size(change: &Change, entry: &TensorEntry) -> usize {
    match change {
        Change::Entries { indices, .. } => indices.len(),
        Change::Whole(_) => entry.elements(),
    }
}
