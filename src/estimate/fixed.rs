//! The memory of work whose lengths are known to the token: that of `tickets bench`.

use crate::data::Architecture;
use crate::grpo::SamplingSpec;
use crate::manifest::Dtype;

use super::decoder::Decoder;
use super::lengths::{Lengths, Turn};
use super::memory::{Memory, Playing, Together, memory};

/// A step of which all lengths are known.
#[derive(Clone, Copy, Debug)]
pub struct FixedWork {
    /// Prompts, and rollouts of each.
    pub prompts: usize,
    /// Rollouts of a prompt.
    pub group: usize,
    /// Turns of a conversation.
    pub turns: usize,
    /// Tokens that the user says in a turn.
    pub prompt_tokens: usize,
    /// Tokens that are drawn in a turn.
    pub new_tokens: usize,
    /// Share of the parameters that is frozen; `None` trains all.
    pub sparsity: Option<f64>,
    /// Rollouts of a backward pass.
    pub micro_batch: usize,
    /// MiB of activations that are kept.
    pub activations_mib: u32,
    /// Whether an update follows rollouts, so that their pass may serve it.
    pub taped: bool,
    /// Type of the weights.
    pub dtype: Dtype,
}

/// The memory of such a step on a model of this shape, by the formulas of a run.
pub fn memory_of(shape: &Architecture, work: &FixedWork) -> Memory {
    let decoder = Decoder::new(shape, if work.dtype == Dtype::Float32 { 4.0 } else { 2.0 });
    let real = |n: usize| n as f64;
    let (prompt, new) = (real(work.prompt_tokens), real(work.new_tokens));
    let turn = Turn { share: 1.0, prompt, longest_prompt: prompt, answer: new, longest_answer: new };
    let lengths = Lengths { turns: vec![turn; work.turns] };
    let sampling = SamplingSpec::plain(work.new_tokens as u32);
    let rows = real(work.prompts * work.group);
    let micro_batch = real(work.micro_batch).min(rows);
    let together = Together {
        rows,
        micro_batch,
        group: real(work.group),
        shared: prompt,
        length: lengths.longest(new),
        drawn: lengths.drawn_at_most(micro_batch, new),
        activations_mib: work.activations_mib,
        taped: work.taped,
        passed_on: false,
    };
    let active = decoder.parameters * (1.0 - work.sparsity.unwrap_or(0.0));
    let playing = Playing { lengths: &lengths, rows, group: real(work.group), sampling: &sampling };
    memory(&decoder, active, together, &[playing])
}
