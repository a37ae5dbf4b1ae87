//! The form with booleans, as PyTorch has it: one tensor per parameter, of its shape.

use super::MasksError;
use super::read::each_piece;
use crate::data::{TensorEntry, TensorFile};
use crate::sparsity::TensorSize;

/// The indices of the entries that are true.
pub fn indices(file: &TensorFile, entry: &TensorEntry, size: &TensorSize) -> Result<Vec<u32>, MasksError> {
    if entry.shape != size.shape {
        return Err(MasksError::Shape {
            path: file.path().into(),
            tensor: entry.name.clone(),
            found: entry.shape.clone(),
            expected: size.shape.clone(),
        });
    }
    let (mut indices, mut at) = (Vec::new(), 0);
    each_piece(file, entry, |bytes| {
        for (&value, index) in bytes.iter().zip(at..) {
            match value {
                0 => {}
                1 => indices.push(index as u32),
                _ => {
                    let (path, tensor) = (file.path().into(), entry.name.clone());
                    return Err(MasksError::NoBool { path, tensor, entry: index, value });
                }
            }
        }
        at += bytes.len();
        Ok(())
    })?;
    indices.shrink_to_fit();
    Ok(indices)
}
