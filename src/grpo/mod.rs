//! The scalar mathematics of GRPO, in `f64`: what the tensors of `torch` are tested against.

mod advantage;
mod config;
mod objective;
mod schedule;

pub use advantage::{STD_EPS, advantages, zero_variance};
pub use config::{
    ACTIVATIONS_MIB, Advantage, ClipDomain, Decay, GrpoSpec, Level, Normaliser, OptimizerSpec, RatioRule,
    SamplingSpec,
};
pub use objective::{TokenLogprobs, TokenTerm, rollout_terms, token_weight};
pub use schedule::{Schedule, Shape};
