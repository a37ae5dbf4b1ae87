//! Masks: which entries of which tensors are trained, how they are chosen, how two choices overlap. Pure.

mod spec;

pub use spec::{FisherEstimator, FisherSpec, MaskRng, MaskSpec, Rounding};
