//! Masks: which entries of which tensors are trained, how they are chosen, how two choices overlap. Pure.

mod choose;
#[cfg(test)]
mod choose_tests;
mod counts;
mod draw;
mod error;
mod mask;
mod modules;
mod overlap;
mod part;
mod pools;
mod rank;
mod sets;
mod spec;
mod stability;
mod words;

pub use choose::{choose, random, top_k};
pub use counts::{kept_count, planned_counts};
pub use error::SparsityError;
pub use mask::{Mask, TensorSize};
pub use modules::Modules;
pub use overlap::{Chance, Comparison, Overlap, chance_jaccard, common, compare, compare_all};
pub use part::{ModuleKind, Place, layer_of};
pub use rank::{Scores, TIES, TIES_LOW};
pub use sets::same_model;
pub use spec::{
    Choice, Control, Criterion, FisherEstimator, FisherSpec, Join, Keep, MaskRng, MaskSource, MaskSpec,
    Measure, Rounding, Scope, Score, Side, Sparse, Unit,
};
pub use stability::{ONE_IN, TopOverlap, top_overlaps};
