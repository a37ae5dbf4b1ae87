//! The shared stages before a run: the built-in base and scores of gradients. Each is an [`Estimate`] of its own, whose
//! `train` phase is what is differentiated and whose `rollout` phase is what is played.

use crate::grpo::{ACTIVATIONS_MIB, SamplingSpec};
use crate::manifest::{Dtype, ModelSource, RunConfig};
use crate::sparsity::FisherEstimator;

use super::decoder::Decoder;
use super::lengths::Lengths;
use super::memory::{Playing, Together, memory};
use super::work::{Play, Sequences, Work, optimizer_step};
use super::{Estimate, shape, width};

/// Steps between looks at the sampled reward, conversations of a look, tokens above the longest right answer: as in
/// `torch::pretrain`.
const LOOK_EVERY: u32 = 50;
const LOOK_ROWS: f64 = 128.0;
const LOOK_MARGIN: f64 = 8.0;

/// Conversations that are drawn together, as in `torch::scores`.
const DRAWN_AT_ONCE: f64 = 32.0;

/// Making the built-in base; `None` for a base that is not made. All of `model.pretrain.steps` are counted: a warm start
/// that reaches its `target_reward` ends earlier.
pub fn of_pretrain(config: &RunConfig) -> Option<Estimate> {
    let ModelSource::Pretrain(spec) = &config.model.source else { return None };
    let decoder = Decoder::new(&shape::built_in(spec), 4.0);
    let lengths = Lengths::of(&config.task, &config.model.source);
    let unlimited = f64::INFINITY;
    let (steps, batch) = (f64::from(spec.steps), f64::from(spec.batch));
    // A batch is one micro-batch; no two demonstrations share their beginning.
    let longest = lengths.longest_right();
    let demonstrations = Sequences {
        rows: batch,
        length: lengths.whole(unlimited),
        shared: 0.0,
        group: 1.0,
        drawn: lengths.drawn(unlimited),
        micro_batch: batch,
    };
    let step = demonstrations.gradients(&decoder) + optimizer_step(&decoder, decoder.parameters);
    let sampling = SamplingSpec::plain((lengths.longest_right_answer() + LOOK_MARGIN) as u32);
    let look = Play { lengths: &lengths, rows: LOOK_ROWS, group: 1.0, sampling: &sampling };
    let (cost, read) = look.cost(&decoder);
    let looks =
        if spec.target_reward < 1.0 { f64::from(spec.steps.div_ceil(LOOK_EVERY)).max(1.0) } else { 1.0 };
    let work = Work {
        rollout: cost * looks,
        train: step * steps,
        weight_bytes_read: read * looks,
        disk_bytes: 4.0 * decoder.parameters,
        rollout_tokens: looks * LOOK_ROWS * lengths.drawn(f64::from(sampling.max_tokens)),
        train_tokens: steps * batch * lengths.whole(unlimited),
        ..Work::default()
    };
    let together = Together {
        rows: batch,
        micro_batch: batch,
        group: 1.0,
        shared: 0.0,
        length: longest,
        drawn: batch * lengths.drawn(unlimited),
        activations_mib: ACTIVATIONS_MIB,
        taped: false,
        passed_on: false,
    };
    let playing = Playing { lengths: &lengths, rows: LOOK_ROWS, group: 1.0, sampling: &sampling };
    let memory = memory(&decoder, decoder.parameters, together, &[playing]);
    let parameters = decoder.parameters as u64;
    Some(Estimate { parameters, active: parameters, dtype: Dtype::Float32, memory, work })
}

/// Making the scores of gradients that a run's mask needs; `None` for other masks and for bases of unknown shape.
pub fn of_scores(config: &RunConfig) -> Option<Estimate> {
    let fisher = config.mask.gradients()?;
    let decoder = Decoder::new(&shape::architecture(config)?, width(config));
    let lengths = Lengths::of(&config.task, &config.model.source);
    let rows = f64::from(fisher.episodes);
    let limit = f64::from(config.sampling.max_tokens);
    let batch = fisher.estimator == FisherEstimator::Batch;
    // Whether conversations are drawn, how many at once, and in what groups.
    let (played, at_once, group) = match fisher.estimator {
        FisherEstimator::Batch => (true, rows, f64::from(config.grpo.group_size)),
        FisherEstimator::Sample => (false, 0.0, 1.0),
        FisherEstimator::Model => (true, rows.min(DRAWN_AT_ONCE), 1.0),
    };
    let micro_batch = if batch { f64::from(config.grpo.micro_batch).min(rows) } else { 1.0 };
    let limit = if played { limit } else { f64::INFINITY };
    let shared = if batch { lengths.turns.first().map_or(0.0, |turn| turn.prompt) } else { 0.0 };
    let sequences = Sequences {
        rows,
        length: lengths.whole(limit),
        shared,
        group,
        drawn: lengths.drawn(limit),
        micro_batch,
    };
    let mut work = Work {
        train: sequences.gradients(&decoder),
        // The base is read, four bytes per parameter are written.
        disk_bytes: decoder.parameters * (decoder.width + 4.0),
        train_tokens: rows * sequences.length,
        ..Work::default()
    };
    // Two halves of the data, to be compared: the batch's gradients of both are taken anew, the others' are parts of the sum.
    let halves = rows >= 2.0 * if batch { group } else { 1.0 };
    if batch && halves {
        work.train += work.train;
        work.train_tokens += work.train_tokens;
    }
    if played {
        let play = Play { lengths: &lengths, rows: at_once, group, sampling: &config.sampling };
        let (cost, read) = play.cost(&decoder);
        (work.rollout, work.weight_bytes_read) = (cost * (rows / at_once), read * (rows / at_once));
        work.rollout_tokens = rows * sequences.drawn;
        if batch && config.grpo.kl_coef != 0.0 {
            work.train += sequences.scored(&decoder);
        }
    }
    let turns = lengths.turns.len() as f64;
    let (length, drawn) = if played {
        (lengths.longest(limit), lengths.drawn_at_most(micro_batch, limit))
    } else {
        (lengths.longest_right(), lengths.longest_right_answer() * turns)
    };
    let together = Together {
        rows: if batch { rows } else { 1.0 },
        micro_batch,
        group,
        shared: if batch { lengths.turns.first().map_or(0.0, |turn| turn.longest_prompt) } else { 0.0 },
        length,
        drawn,
        activations_mib: if batch { config.grpo.activations_mib } else { ACTIVATIONS_MIB },
        taped: false,
        passed_on: true,
    };
    let playing = Playing { lengths: &lengths, rows: at_once, group, sampling: &config.sampling };
    // Nothing is trained, so there is no optimizer.
    let mut memory =
        memory(&decoder, 0.0, together, if played { std::slice::from_ref(&playing) } else { &[] });
    // The sums, in the second half those of the first; of the batch's gradient the dense one is the sum.
    memory.gradients = if batch { 0 } else { memory.gradients } + 4 * decoder.parameters as u64;
    if halves {
        memory.gradients += 4 * decoder.parameters as u64;
    }
    Some(Estimate {
        parameters: decoder.parameters as u64,
        active: 0,
        dtype: config.model.dtype,
        memory,
        work,
    })
}
