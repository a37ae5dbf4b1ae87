//! The scalar mathematics of GRPO, in `f64`: what the tensors of `torch` are tested against.

mod advantage;
mod config;
mod objective;
mod schedule;

pub use advantage::{STD_EPS, advantages, zero_variance};
pub use config::{
    Advantage, ClipDomain, Decay, GrpoSpec, Normaliser, OptimizerSpec, RatioRule, SamplingSpec,
};
pub use objective::{TokenTerm, token_term, token_weight};
pub use schedule::{Schedule, Shape};
