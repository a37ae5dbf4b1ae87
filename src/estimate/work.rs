//! The work of a run, phase by phase, counted from the loops of `torch::train`, `torch::rollout` and `torch::generate`.

use crate::data::Kept;
use crate::grpo::{GrpoSpec, SamplingSpec};
use crate::manifest::{EvalSpec, RunConfig};
use crate::task::TaskSpec;

use super::cost::Cost;
use super::decoder::{Decoder, Pass};
use super::lengths::Lengths;

/// Tensors of a layer.
const TENSORS_PER_LAYER: f64 = 12.0;

/// The work of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Playing the training rollouts.
    pub rollout: Cost,
    /// Gradients, the distance to the base, optimizer steps.
    pub train: Cost,
    /// All evaluations.
    pub eval: Cost,
    /// What is measured of the update after every step.
    pub other: Cost,
    /// Bytes of weights that decode steps read, in rollouts and evaluations; a part of their traffic.
    pub weight_bytes_read: f64,
    /// Bytes read from and written to the disk: the base twice, checkpoints, the final state.
    pub disk_bytes: f64,
    /// Tokens drawn in training rollouts.
    pub rollout_tokens: f64,
    /// Tokens in training sequences, prompts included; once, however many passes there are.
    pub train_tokens: f64,
}

impl Work {
    /// Operations of matrix products in rollouts.
    pub fn rollout_flops(&self) -> f64 {
        self.rollout.flops
    }

    /// Operations of matrix products in training.
    pub fn train_flops(&self) -> f64 {
        self.train.flops
    }

    /// Operations of matrix products in evaluations.
    pub fn eval_flops(&self) -> f64 {
        self.eval.flops
    }
}

/// Conversations that are played together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play<'a> {
    pub lengths: &'a Lengths,
    /// Conversations.
    pub rows: f64,
    /// Conversations that share a prompt.
    pub group: f64,
    pub sampling: &'a SamplingSpec,
}

impl Play<'_> {
    /// The cost, and the bytes of weights that decode steps read.
    ///
    /// Per turn: its prompt, once per group in the first turn and once per row in later ones, over what the cache has; then as
    /// many decode steps as the longest answer has tokens, each one pass over the rows that are not done.
    pub fn cost(&self, decoder: &Decoder) -> (Cost, f64) {
        let limit = f64::from(self.sampling.max_tokens);
        let (mut cost, mut read) = (Cost::default(), 0.0);
        for (at, turn) in self.lengths.turns.iter().enumerate() {
            let rows = self.rows * turn.share;
            let contexts = if at == 0 { rows / self.group } else { rows };
            let context = self.lengths.context(at, limit);
            cost += decoder.forward(Pass {
                tokens: contexts * turn.prompt,
                rows: contexts,
                attended: context,
                logits: contexts,
                passes: 1.0,
            });
            let answer = turn.answer.min(limit);
            let steps = turn.longest_answer.min(limit).max(answer);
            let tokens = rows * answer;
            cost += decoder.forward(Pass {
                tokens,
                rows: tokens,
                attended: context + answer / 2.0,
                logits: tokens,
                passes: steps,
            });
            cost += decoder.drawn(tokens, steps, self.sampling);
            read += steps * decoder.weights_read();
        }
        (cost, read)
    }
}

/// Sequences whose logprobs are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequences {
    pub rows: f64,
    /// Tokens of a sequence.
    pub length: f64,
    /// Those that a group shares, and how many sequences that is.
    pub shared: f64,
    pub group: f64,
    /// Drawn tokens of a sequence.
    pub drawn: f64,
    /// Sequences that go together.
    pub micro_batch: f64,
}

impl Sequences {
    fn pass(&self) -> Pass {
        let group = self.group.min(self.micro_batch);
        Pass {
            tokens: self.rows * (self.length - self.shared + self.shared / group),
            rows: self.rows,
            // Later tokens are not looked at.
            attended: self.length / 2.0,
            logits: self.rows * self.drawn,
            passes: (self.rows / self.micro_batch).ceil(),
        }
    }

    /// Logprobs without gradients.
    pub fn scored(&self, decoder: &Decoder) -> Cost {
        decoder.scored(self.pass())
    }

    /// Dense gradients of what went forward: 12 bytes per parameter and micro-batch for the sums.
    ///
    /// Rollouts of groups with equal rewards are not differentiated; here all are, which is at most what is done.
    pub fn back(&self, decoder: &Decoder) -> Cost {
        let passes = self.pass().passes;
        let sums = Cost {
            flops: 0.0,
            bytes: passes * 12.0 * decoder.parameters,
            calls: passes * TENSORS_PER_LAYER * decoder.layers,
        };
        decoder.back(self.pass()) + sums
    }

    /// Forward and back.
    pub fn gradients(&self, decoder: &Decoder) -> Cost {
        decoder.scored(self.pass()) + self.back(decoder)
    }
}

/// One optimizer step: norm and share of the gradient, 24 bytes per parameter; gather, norm and share of the gathered,
/// Adam, 132 bytes per active entry; 144 more where entries are scattered over the tensor (a cache line each to gather and
/// to put back, and their indices).
pub(super) fn optimizer_step(decoder: &Decoder, active: f64) -> Cost {
    let scattered = if active < decoder.parameters { 144.0 } else { 0.0 };
    Cost {
        flops: 0.0,
        bytes: 24.0 * decoder.parameters + (132.0 + scattered) * active,
        calls: 28.0 * TENSORS_PER_LAYER * decoder.layers,
    }
}

/// The whole run.
pub(super) fn work(config: &RunConfig, decoder: &Decoder, active: f64, asked: &Asked<'_>) -> Work {
    let grpo = &config.grpo;
    let steps = f64::from(grpo.steps);
    let lengths = &asked.training;
    let limit = f64::from(config.sampling.max_tokens);
    let play = Play {
        lengths,
        rows: f64::from(grpo.rollouts_per_step),
        group: f64::from(grpo.group_size),
        sampling: &config.sampling,
    };
    let (rollout, read) = play.cost(decoder);
    let sequences = batch(grpo, lengths, limit);
    let minibatches = f64::from(grpo.minibatches);
    let updates = f64::from(grpo.updates_per_batch);
    let one_minibatch = Sequences { rows: sequences.rows / minibatches, ..sequences };
    let one = one_minibatch.gradients(decoder) + optimizer_step(decoder, active);
    // The first update of the whole batch needs no pass of its own: it has that of the rollouts, when everything of it is kept.
    let forward = one_minibatch.scored(decoder);
    // Whether it is kept is decided by how long conversations may become.
    let longest = Sequences { length: lengths.longest(limit).min(decoder.positions), ..one_minibatch };
    let kept = Kept::of(&decoder.token, longest.pass().tokens as usize, grpo.activations_mib);
    let taped = minibatches == 1.0 && kept == Kept::Everything;
    let spared = if taped { forward } else { Cost::default() };
    let again = decoder.forward(Pass { logits: 0.0, ..one_minibatch.pass() }) * kept.again();
    let update = (one + again) * minibatches * updates + spared * -1.0;
    let measured = if grpo.kl_coef > 0.0 { steps } else { after(grpo.steps, config.eval.every) };
    // The base's values are put in and taken out again: 16 bytes per active entry and way, and a copy.
    let reference = sequences.scored(decoder) + Cost::traffic(48.0 * active);
    let (eval, eval_read) = evaluations(grpo.steps, decoder, asked);
    // Per step, how far each active entry has moved, in float32 and in bfloat16.
    let movement =
        Cost { flops: 0.0, bytes: 80.0 * active, calls: 15.0 * TENSORS_PER_LAYER * decoder.layers };
    let state = 12.0 * active;
    let saves = 2.0 + f64::from(grpo.steps.saturating_sub(1) / config.exec.checkpoint_every.max(1));
    Work {
        rollout: rollout * steps,
        train: update * steps + reference * measured,
        eval,
        other: movement * steps,
        weight_bytes_read: read * steps + eval_read,
        disk_bytes: 2.0 * decoder.parameters * decoder.width + saves * state,
        rollout_tokens: play.rows * lengths.drawn(limit) * steps,
        train_tokens: sequences.rows * sequences.length * steps,
    }
}

/// The sequences of a step.
pub(super) fn batch(grpo: &GrpoSpec, lengths: &Lengths, limit: f64) -> Sequences {
    Sequences {
        rows: f64::from(grpo.rollouts_per_step),
        length: lengths.whole(limit),
        shared: lengths.turns.first().map_or(0.0, |turn| turn.prompt),
        group: f64::from(grpo.group_size),
        drawn: lengths.drawn(limit),
        micro_batch: f64::from(grpo.micro_batch),
    }
}

/// How often something is done that is done every so many steps and after the last.
fn after(steps: u32, every: u32) -> f64 {
    f64::from(steps.div_ceil(every.max(1)))
}

/// What a run asks: in training, and in its evaluations, which are the named ones, else the one.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub training: Lengths,
    pub evals: Vec<(&'a EvalSpec, Lengths)>,
}

impl<'a> Asked<'a> {
    pub fn of(config: &'a RunConfig) -> Self {
        let model = &config.model.source;
        let training = Lengths::of(&config.task, model);
        if config.evals.is_empty() {
            return Self { evals: vec![(&config.eval, training.clone())], training };
        }
        let lengths = |task: &TaskSpec| {
            if *task == config.task { training.clone() } else { Lengths::of(task, model) }
        };
        let evals = config.evals.iter().map(|named| (&named.eval, lengths(&named.task))).collect();
        Self { training, evals }
    }
}

/// At step 0, every so many steps, and after the last.
fn evaluations(steps: u32, decoder: &Decoder, asked: &Asked<'_>) -> (Cost, f64) {
    let (mut all, mut all_read) = (Cost::default(), 0.0);
    for (eval, lengths) in &asked.evals {
        let play = Play { lengths, rows: f64::from(eval.examples), group: 1.0, sampling: &eval.sampling };
        let (cost, read) = play.cost(decoder);
        let times = 1.0 + after(steps, eval.every);
        all += cost * times;
        all_read += read * times;
    }
    (all, all_read)
}
