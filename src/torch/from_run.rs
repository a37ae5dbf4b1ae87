//! A base that is another run's final weights: copied once into the store, as a model folder.
//!
//! In: the id of a finished run in the same results folder. Out: the base's artifact: the other run's base with its trained
//! values put in, in the types that the base has, so it is what `tickets export` writes. A mask of the run is needed; a full
//! run has none.

use std::path::PathBuf;

use serde_json::{Value, json};
use tch::Kind;

use crate::data::{
    Change, ModelDir, TensorEntry, TensorFile, companions, each_tensor, hub, safetensors, width,
};
use crate::masks::{self, MASK_FILE};
use crate::store::{Artifact, Stage, Store, StoreError};

use super::checkpoint::STATE_FILE;
use super::failure::RunError;
use super::from_hub::CHECKED;
use super::trained::Trained;

/// Publishes the weights of the finished run `other` as the base `id`.
///
/// # Errors
/// When the run has no result here, its base or mask is gone, or the store cannot be written.
pub(super) fn publish(store: &Store, other: &str, id: &str) -> Result<(), RunError> {
    let unusable = |why: &str| RunError::NotABase { run: other.to_owned(), why: why.to_owned() };
    let state = store
        .final_path(other, STATE_FILE)?
        .ok_or_else(|| unusable("it has no result in this results folder"))?;
    let record = store
        .described(other)?
        .map(Value::Object)
        .ok_or_else(|| unusable("its record in this results folder is missing or damaged"))?;
    let base = record["stages"]["base"].as_str().unwrap_or_default().to_owned();
    let artifact = store
        .verified_artifact(Stage::Base, &base)?
        .ok_or_else(|| RunError::NoArtifact { stage: "base", id: base.clone() })?;
    let dir = ModelDir::open(&folder(&artifact).ok_or_else(|| {
        unusable(
            "its base is a folder outside of the results: export the run and name the folder by `model.path`",
        )
    })?)?;
    let mask = match record["stages"]["mask"].as_str() {
        None => None,
        Some(mask) => {
            let artifact = store
                .verified_artifact(Stage::Mask, mask)?
                .ok_or_else(|| RunError::NoArtifact { stage: "mask", id: mask.to_owned() })?;
            let sizes = dir.architecture.sizes();
            Some(masks::parse(artifact.read(MASK_FILE)?, &artifact.path(MASK_FILE), Some(&sizes))?.mask)
        }
    };
    let kind = if record["settings"]["model.dtype"] == "bfloat16" { Kind::BFloat16 } else { Kind::Float };
    let trained = Trained::new(TensorFile::open(&state)?, mask.as_ref(), kind);
    let mut entries: Vec<TensorEntry> = Vec::new();
    each_tensor(&dir, |entry, _| {
        entries.push(entry.clone());
        Ok::<_, RunError>(())
    })?;

    let mut new = store.begin_artifact(Stage::Base, id)?;
    for name in companions(&dir)?.keys() {
        let path = dir.path.join(name);
        let bytes = std::fs::read(&path).map_err(|source| crate::data::DataError::Read { path, source })?;
        new.file::<StoreError>(name, |file| file.append(&bytes))?;
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let described = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.dtype.as_str(), entry.shape.as_slice(), entry.length));
    let head = safetensors::header(described, &metadata);
    let mut changed = 0;
    new.file::<RunError>("model.safetensors", |file| {
        file.append(&head)?;
        each_tensor(&dir, |entry, mut bytes| {
            if let Some(change) = trained.change(entry, &bytes)? {
                changed += match &change {
                    Change::Entries { indices, .. } => indices.len(),
                    Change::Whole(_) => entry.elements(),
                };
                change.apply(width(&entry.dtype).unwrap_or(1), &mut bytes);
            }
            Ok::<_, RunError>(file.append(&bytes)?)
        })
    })?;
    new.publish(json!({ "run": other, "base": base, "changed": changed }))?;
    Ok(())
}

/// The model folder of a base's artifact: its own, or that of a hub in the cache. A folder of the user is not on record.
fn folder(artifact: &Artifact) -> Option<PathBuf> {
    if artifact.path("config.json").is_file() {
        return Some(artifact.folder().to_path_buf());
    }
    let record: Value = serde_json::from_slice(&artifact.read(CHECKED).ok()?).ok()?;
    let (id, commit) = (record["model"]["id"].as_str()?, record["model"]["commit"].as_str()?);
    hub::cached(id, Some(commit)).filter(|folder| folder.join("config.json").is_file())
}
