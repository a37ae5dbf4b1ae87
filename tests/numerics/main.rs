//! The tensors of the `torch` room against what they should be: transformers and torch (fixtures that the scripts in
//! tests/oracles make), the scalar reference of `grpo`, brute force in float64, and themselves by another way.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod chat;
mod families;
mod fisher;
mod loading;
mod loss;
mod oracle;
mod overlap;
mod parity;
mod plain;
mod real_text;
mod rollouts;
mod rules;
mod sampling;
mod schedules;
mod steps;
mod strict;
mod support;
mod table;
mod tokens;
mod trl;
