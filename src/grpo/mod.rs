//! The scalar mathematics of GRPO, in `f64`: what the tensors of `torch` are tested against.

mod config;

pub use config::{Advantage, ClipDomain, GrpoSpec, Normaliser, OptimizerSpec, RatioRule, SamplingSpec};
