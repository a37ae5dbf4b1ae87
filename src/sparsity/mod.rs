//! Masks: which entries of which tensors are trained, how they are chosen, how two choices overlap. Pure.

mod error;
mod mask;
mod part;
mod select;
mod spec;
mod stability;

pub use error::SparsityError;
pub use mask::{Mask, Overlap, TensorSize, chance_jaccard};
pub use part::{ModuleKind, layer_of};
pub use select::{kept_count, random, top_k};
pub use spec::{FisherEstimator, FisherSpec, MaskRng, MaskSpec, Measure, Rounding, Side};
pub use stability::{ONE_IN, TopOverlap, top_overlaps};
