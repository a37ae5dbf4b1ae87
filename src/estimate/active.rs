//! How many entries a mask trains, without choosing them.

use crate::data::Architecture;
use crate::sparsity::{MaskSpec, planned_counts};

/// Entries that `mask` trains in a model of this shape, tensor by tensor, see [`planned_counts`]. A sparsity that cannot be
/// counted with is refused where the mask is made.
pub fn counts(shape: &Architecture, mask: &MaskSpec) -> Vec<u64> {
    let tensors = shape.sizes();
    planned_counts(&tensors, mask).unwrap_or_else(|_| vec![0; tensors.len()])
}

/// The sum of [`counts`].
pub fn active(shape: &Architecture, mask: &MaskSpec) -> u64 {
    counts(shape, mask).iter().sum()
}
