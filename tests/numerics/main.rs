//! The tensors of the `torch` room against what they should be: the scalar reference of `grpo`, brute force in float64,
//! and themselves by another way.
#![cfg(feature = "torch")]

mod fisher;
mod loss;
mod rollouts;
mod sampling;
mod support;
