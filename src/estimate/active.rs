//! How many entries a mask trains, without drawing it.

use crate::data::{Architecture, Parameter};
use crate::sparsity::{MaskSpec, Rounding, kept_count};

/// Entries that `mask` trains in a model of this shape: all of them; the floor of each tensor's kept share (random); the
/// rounded share of all entries (Fisher and magnitude); whole layers.
pub fn active(shape: &Architecture, mask: &MaskSpec) -> u64 {
    let parameters = shape.parameters();
    let all = || parameters.iter().map(Parameter::elements).sum::<usize>();
    // A sparsity that cannot be counted with is refused where the mask is made.
    let kept = |elements, sparsity, rounding| kept_count(elements, sparsity, rounding).unwrap_or(0);
    let count = match mask {
        MaskSpec::Full => all(),
        MaskSpec::Random { sparsity, .. } => {
            parameters.iter().map(|tensor| kept(tensor.elements(), *sparsity, Rounding::Floor)).sum()
        }
        MaskSpec::Fisher { sparsity, rounding, .. } | MaskSpec::Magnitude { sparsity, rounding } => {
            kept(all(), *sparsity, *rounding)
        }
        MaskSpec::Layers { count, .. } => {
            let layer = parameters.iter().filter(|tensor| tensor.name.starts_with("model.layers.0."));
            let layers = shape.layers.min(*count as usize);
            layers * layer.map(Parameter::elements).sum::<usize>()
        }
    };
    count as u64
}
