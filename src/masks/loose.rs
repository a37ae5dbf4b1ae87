//! Masks of a store that do not say of which shapes their tensors are: artifacts from before files described themselves.
//!
//! In: the bytes of a file. Out: its lists, to be made a mask of when the model is known. Invariant: lists ascend.

use std::path::Path;

use super::{MasksError, indices, shapes};
use crate::data::{Architecture, TensorFile};
use crate::sparsity::TensorSize;

/// Whether a file lacks the list of its shapes.
///
/// # Errors
/// When it is no safetensors file.
pub fn is_loose(bytes: &[u8], path: &Path) -> Result<bool, MasksError> {
    Ok(!crate::data::safetensors::metadata(bytes, path)?.contains_key(shapes::SHAPES))
}

/// The flat indices of every tensor of a file, in the file's order. Nothing is known of how large the tensors are.
///
/// # Errors
/// When the file is damaged or holds other than ascending indices.
pub fn lists(bytes: Vec<u8>, path: &Path) -> Result<Vec<(String, Vec<u32>)>, MasksError> {
    let file = TensorFile::from_bytes(bytes, path)?;
    let lists = file.entries().iter().map(|entry| {
        if entry.dtype != "I32" {
            let (tensor, dtype) = (entry.name.clone(), entry.dtype.clone());
            return Err(MasksError::Dtype { path: path.into(), tensor, dtype });
        }
        let any = TensorSize { name: entry.name.clone(), shape: vec![shapes::MOST_ELEMENTS] };
        Ok((entry.name.clone(), indices::indices(&file, entry, &any)?))
    });
    lists.collect()
}

/// The tensors of the model of a `config.json`, in study order; `name` stands for it in errors.
///
/// # Errors
/// When it is the configuration of no model that is known.
pub fn model_sizes(config: &[u8], name: &str) -> Result<Vec<TensorSize>, MasksError> {
    Ok(Architecture::from_config_json(config, name)?.sizes())
}
