//! The memory of a run at its fullest, counted from what `torch` holds at the same time.
//!
//! Lengths are the longest possible ones here, not typical ones: a micro-batch is padded to its longest sequence, a
//! batch of rollouts to its longest context, and one answer that runs to the limit is enough. Logits are made for drawn
//! tokens alone, so there the other answers of the micro-batch count with their own length.

use crate::grpo::SamplingSpec;
use crate::manifest::RunConfig;

use super::decoder::Decoder;
use super::lengths::Lengths;
use super::work::Asked;

/// What the process needs before any model: the program, libtorch and its allocator. Measured on the quickstart's runs.
const OVERHEAD: f64 = 190e6;
/// A cache that loses a quarter of its rows is copied, and both copies are held.
const CACHE_AND_COPY: f64 = 1.75;
/// Bytes per logit: the logits, their log-softmax, and two passing copies, all float32.
const PER_LOGIT: f64 = 16.0;

/// Positions by which the rotary tables grow, see `torch::rotary`.
const TABLED: f64 = 4096.0;

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The model and its rotary tables.
    pub weights: u64,
    /// Dense gradients: the float32 sum, and the gradient that is being added.
    pub gradients: u64,
    /// Moments, masters, base values and indices of the active entries.
    pub optimizer: u64,
    /// What autograd keeps of a micro-batch.
    pub activations: u64,
    /// Logits of a micro-batch's drawn tokens.
    pub logits: u64,
    /// Keys and values of a batch of rollouts, all played at once.
    pub cache: u64,
    /// What passes by while rollouts are played: the scores of a prefill, or the vocabulary's probabilities.
    pub passing: u64,
    /// The process itself.
    pub overhead: u64,
}

impl Memory {
    /// The most that is held at one time. Rollouts and gradients take turns, so only the larger of the two counts.
    pub fn total(&self) -> u64 {
        let training = self.gradients + self.activations + self.logits;
        let playing = self.cache + self.passing;
        self.weights + self.optimizer + self.overhead + training.max(playing)
    }
}

/// Sequences that are differentiated together, at their longest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together {
    pub rows: f64,
    pub length: f64,
    /// Drawn tokens of all of them.
    pub drawn: f64,
    /// Whether there is more than one micro-batch, so that gradients are summed.
    pub summed: bool,
}

/// Conversations that are played together, at their longest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Playing<'a> {
    pub lengths: &'a Lengths,
    pub rows: f64,
    pub group: f64,
    pub sampling: &'a SamplingSpec,
}

impl Playing<'_> {
    /// Cache, and what passes by.
    fn bytes(&self, decoder: &Decoder) -> (f64, f64) {
        let limit = f64::from(self.sampling.max_tokens);
        let turns = self.lengths.turns.len();
        let whole = self.lengths.longest(limit).min(decoder.positions);
        let cache = CACHE_AND_COPY * self.rows * whole * decoder.cached();
        // The last turn's prefill is the largest; with one turn there is one context per group.
        let context = (whole - limit).max(1.0);
        let contexts = if turns == 1 { self.rows / self.group } else { self.rows };
        let prefill = contexts * context * decoder.passing(context);
        (cache, prefill.max(self.rows * decoder.drawing(self.sampling)))
    }
}

/// Adds up a stage that trains `active` entries.
pub(super) fn memory(decoder: &Decoder, active: f64, together: Together, playing: &[Playing<'_>]) -> Memory {
    let all = active == decoder.parameters;
    let own = decoder.width == 4.0;
    // Moments and base values; a master where the weight itself is not one; an index where not all entries are active.
    let entry = 12.0 + if all && own { 0.0 } else { 4.0 } + if all { 0.0 } else { 8.0 };
    let gradient = 4.0 + if together.summed || !own { decoder.width } else { 0.0 };
    let length = together.length.min(decoder.positions);
    let tabled = (length / TABLED).ceil() * TABLED;
    let tokens = together.rows * length;
    let played = playing.iter().map(|playing| playing.bytes(decoder));
    let (cache, passing) = played.fold(
        (0.0, 0.0),
        |most: (f64, f64), one: (f64, f64)| {
            if one.0 + one.1 > most.0 + most.1 { one } else { most }
        },
    );
    Memory {
        weights: (decoder.parameters * decoder.width
            + 2.0 * decoder.positions.min(tabled) * decoder.head_dim * decoder.width) as u64,
        gradients: (gradient * decoder.parameters) as u64,
        optimizer: (entry * active) as u64,
        activations: (tokens * decoder.kept(length) + together.rows * length * 8.0 * decoder.heads * length)
            as u64,
        logits: (together.drawn.min(tokens) * PER_LOGIT * decoder.vocabulary) as u64,
        cache: cache as u64,
        passing: passing as u64,
        overhead: OVERHEAD as u64,
    }
}

/// A run.
pub(super) fn of_run(config: &RunConfig, decoder: &Decoder, active: f64, asked: &Asked<'_>) -> Memory {
    let grpo = &config.grpo;
    let lengths = &asked.training;
    let limit = f64::from(config.sampling.max_tokens);
    let size = f64::from(grpo.rollouts_per_step) / f64::from(grpo.minibatches);
    let micro_batch = f64::from(grpo.micro_batch).min(size);
    let together = Together {
        rows: micro_batch,
        length: lengths.longest(limit),
        drawn: lengths.drawn_at_most(micro_batch, limit),
        summed: size > micro_batch,
    };
    let training = Playing {
        lengths,
        rows: f64::from(grpo.rollouts_per_step),
        group: f64::from(grpo.group_size),
        sampling: &config.sampling,
    };
    let mut playing = vec![training];
    playing.extend(asked.evals.iter().map(|(eval, lengths)| Playing {
        lengths,
        rows: f64::from(eval.examples),
        group: 1.0,
        sampling: &eval.sampling,
    }));
    memory(decoder, active, together, &playing)
}
