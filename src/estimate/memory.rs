//! The memory of a run at its fullest, counted from what `torch` holds at the same time.
//!
//! Lengths are the longest possible ones here, not typical ones: every answer may run to its limit. On a CPU what was set aside and
//! never written takes no memory, so runs whose answers are shorter stay below.

use crate::data::{BACK_TOKENS, Kept, LOGIT_BYTES, ROW_ENTRIES, SMALL_VOCABULARY, WHOLE_GRADIENT};
use crate::grpo::SamplingSpec;
use crate::manifest::RunConfig;

use super::decoder::Decoder;
use super::lengths::Lengths;
use super::work::Asked;

/// What the process needs before any model: the program, libtorch and its allocator. Measured on the quickstart's runs.
const OVERHEAD: f64 = 190e6;
const LOGITS: f64 = LOGIT_BYTES as f64;
/// Tokens of the way back whose inner vectors exist at the same time, see `torch::layer_back`; in back.cpp the latter, for which every
/// run in float32 is taken.
const BLOCK: f64 = 2048.0;
const FUSED_BLOCK: f64 = BACK_TOKENS as f64;
/// Chunks of logits beside each other without fused operators: logits, log-softmax, shares, their product. In rows of the vocabulary
/// there is one, and its gradient in the weights' type.
const LOGIT_COPIES: f64 = 4.0;

/// Positions by which the rotary tables grow, see `torch::rotary`.
const TABLED: f64 = 4096.0;

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The model and its rotary tables.
    pub weights: u64,
    /// Gradients in float32: of the trained entries, and the dense ones of one layer and of the vocabulary.
    pub gradients: u64,
    /// Moments, masters, base values and indices of the active entries.
    pub optimizer: u64,
    /// What is kept for the way back, all of it or the layers' inputs, and what passes by on the way.
    pub activations: u64,
    /// The part of it that is written while rollouts are played, for the first update.
    pub tape: u64,
    /// Logits of a chunk of drawn tokens.
    pub logits: u64,
    /// Keys and values of a batch of rollouts, all played at once.
    pub cache: u64,
    /// What passes by while rollouts are played: a layer of the prefill, or the vocabulary's probabilities.
    pub passing: u64,
    /// A state, which is put together before it is written: at checkpoints and at the end.
    pub state: u64,
    /// The process itself.
    pub overhead: u64,
}

impl Memory {
    /// The most that is held at one time. Rollouts, gradients and saving take turns, so only the largest of them counts.
    pub fn total(&self) -> u64 {
        self.weights + self.optimizer + self.overhead + self.training().max(self.playing()).max(self.state)
    }

    /// What an update takes beside weights and optimizer.
    pub fn training(&self) -> u64 {
        self.gradients + self.activations + self.logits
    }

    /// What rollouts take beside weights and optimizer.
    pub fn playing(&self) -> u64 {
        self.tape + self.cache + self.passing
    }
}

/// Sequences whose gradient is taken, at their longest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together {
    /// All of them.
    pub rows: f64,
    /// Those that go through the model together.
    pub micro_batch: f64,
    /// Those that share a beginning, and its tokens.
    pub group: f64,
    pub shared: f64,
    /// Tokens of a sequence, the shared ones included.
    pub length: f64,
    /// Drawn tokens of a micro-batch.
    pub drawn: f64,
    /// MiB of activations that are kept.
    pub activations_mib: u32,
    /// Whether the rollouts' own pass serves.
    pub taped: bool,
    /// Whether no gradient is kept once it was used: scores add it up.
    pub passed_on: bool,
}

impl Together {
    /// Tokens of so many sequences; one that predicts nothing is left out of each.
    fn tokens(&self, rows: f64) -> f64 {
        rows * (self.length - self.shared - 1.0).max(0.0) + rows / self.group.min(rows) * self.shared
    }
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
        let whole = self.lengths.longest(limit).min(decoder.positions);
        let opening =
            self.lengths.turns.first().map_or(1.0, |turn| turn.longest_prompt).min(decoder.positions);
        let openings = self.rows / self.group;
        // The openings' own cache is copied to their rows.
        let cache = (self.rows * whole + openings * opening) * decoder.cached();
        let prefill = openings * opening * decoder.passing();
        (cache, prefill.max(self.rows * (decoder.passing() + decoder.drawing(self.sampling))))
    }
}

/// Adds up a stage that trains `active` entries.
pub(super) fn memory(decoder: &Decoder, active: f64, together: Together, playing: &[Playing<'_>]) -> Memory {
    let all = active == decoder.parameters;
    let own = decoder.width == 4.0;
    // Moments and base values; a master where the weight itself is not one; an index where not all entries are active.
    let entry = 8.0 + decoder.width + if all && own { 0.0 } else { 4.0 } + if all { 0.0 } else { 4.0 };
    let length = together.length.min(decoder.positions);
    let together = Together { length, shared: together.shared.min(length), ..together };
    let (tokens, part) = (together.tokens(together.rows), together.tokens(together.micro_batch));
    let stream = decoder.width * decoder.hidden;
    let held = Kept::of(&decoder.token, tokens as usize, together.activations_mib);
    let kept = held.bytes(&decoder.token, tokens as usize) as f64;
    let again = if held == Kept::Everything { 0.0 } else { part * decoder.kept() };
    // Of the vocabulary's gradient, which is whole or comes in rows: then those of embedded tokens are held, and what is behind the
    // last norm of all that predict something.
    let vocabulary = decoder.hidden * decoder.vocabulary;
    let in_rows = !all && !together.passed_on && vocabulary > WHOLE_GRADIENT as f64;
    let dense = decoder.layer()
        + if in_rows {
            decoder.hidden * (tokens.min(decoder.vocabulary) + tokens) + ROW_ENTRIES as f64
        } else {
            vocabulary
        };
    let gradients = if all { decoder.parameters } else { active + dense };
    // The stream's gradient of all parts; of one part those of attention; of a block those of the MLP.
    // Types that attention among sequences is widened for have all of its vectors in float32.
    let attention = if own { 2.0 * decoder.width } else { 16.0 };
    let back = tokens * stream
        + part * attention * (decoder.queries + decoder.keys)
        + if own {
            // And transposes of the matrices.
            let (h, i) = (decoder.hidden, decoder.inner);
            decoder.width
                * (FUSED_BLOCK.min(part) * (2.0 * h + 3.0 * i + decoder.queries)
                    + h * (3.0 * i + decoder.queries))
        } else {
            BLOCK.min(part) * decoder.width * (4.0 * decoder.inner + 2.0 * decoder.hidden)
        };
    let (h, v) = (decoder.hidden, decoder.vocabulary);
    let chunk = LOGITS.min(together.drawn * 4.0 * v);
    let logits = if own && v <= SMALL_VOCABULARY as f64 {
        // With the transpose of the matrix.
        4.0 * (FUSED_BLOCK.min(together.drawn) * (3.0 * h + v) + h * v)
    } else if own {
        chunk
    } else if in_rows {
        1.5 * chunk
    } else {
        LOGIT_COPIES * chunk
    };
    let tabled = (length / TABLED).ceil() * TABLED;
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
        gradients: (4.0 * if together.passed_on { dense } else { gradients }) as u64,
        optimizer: (entry * active) as u64,
        activations: (kept + again + back) as u64,
        tape: if together.taped && held == Kept::Everything { kept as u64 } else { 0 },
        logits: logits as u64,
        cache: cache as u64,
        passing: passing as u64,
        state: (12.0 * active) as u64,
        overhead: OVERHEAD as u64,
    }
}

/// A run.
pub(super) fn of_run(config: &RunConfig, decoder: &Decoder, active: f64, asked: &Asked<'_>) -> Memory {
    let grpo = &config.grpo;
    let lengths = &asked.training;
    let limit = f64::from(config.sampling.max_tokens);
    let rows = f64::from(grpo.rollouts_per_step) / f64::from(grpo.minibatches);
    let micro_batch = f64::from(grpo.micro_batch).min(rows);
    let together = Together {
        rows,
        micro_batch,
        group: f64::from(grpo.group_size),
        shared: lengths.turns.first().map_or(0.0, |turn| turn.longest_prompt),
        length: lengths.longest(limit),
        drawn: lengths.drawn_at_most(micro_batch, limit),
        activations_mib: grpo.activations_mib,
        taped: grpo.minibatches == 1,
        passed_on: false,
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
