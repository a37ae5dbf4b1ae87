//! Masks: which entries of which tensors are trained, how they are chosen, how two choices overlap. Pure.

mod error;
mod mask;
mod overlap;
mod part;
mod select;
mod sets;
mod spec;

pub use error::SparsityError;
pub use mask::{Mask, TensorSize};
pub use overlap::{Chance, Comparison, Overlap, chance_jaccard, common, compare, compare_all};
pub use part::{ModuleKind, Place, layer_of};
pub use select::{kept_count, random, top_k};
pub use sets::same_model;
pub use spec::{FisherEstimator, FisherSpec, MaskRng, MaskSpec, Rounding, Side};
