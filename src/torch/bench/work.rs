//! The work itself: random prompts to rollouts, rollouts with random rewards to an update.

use crate::counter::Counter;
use crate::grpo::{
    Advantage, ClipDomain, Decay, GrpoSpec, Level, Normaliser, OptimizerSpec, RatioRule, SamplingSpec,
    Schedule, advantages,
};
use crate::sparsity::{MaskRng, random};

use super::super::generate::{Reserve, Row, converse};
use super::super::loss::{Batch, token_bytes};
use super::super::rollout::Rollout;
use super::super::tape::Tape;
use super::super::update::update;
use super::super::{Model, SparseAdamW, TorchError};
use super::{BenchPart, BenchSpec};

/// A model with its optimizer, and the rollouts of the last repetition.
pub struct Work<'a> {
    spec: &'a BenchSpec,
    pub model: Model,
    adam: SparseAdamW,
    grpo: GrpoSpec,
    optimizer: OptimizerSpec,
    sampling: SamplingSpec,
    rollouts: Vec<Rollout>,
    tape: Option<Tape>,
}

/// Where the time of a rollout phase went, seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub prefill: f64,
    pub decode: f64,
}

impl<'a> Work<'a> {
    pub fn new(spec: &'a BenchSpec, model: Model) -> Result<Self, TorchError> {
        let mask = spec
            .sparsity
            .map(|sparsity| random(&model.weights.sizes(), sparsity, 0, MaskRng::Chacha))
            .transpose()
            .map_err(|error| TorchError::Op { message: error.to_string() })?;
        let rollouts = spec.prompts * spec.group;
        let optimizer = OptimizerSpec {
            lr: 1e-5,
            schedule: Schedule::CONSTANT,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            decay: Decay::Decoupled,
            clip_norm: 1.0,
            clip_domain: ClipDomain::Masked,
        };
        let grpo = GrpoSpec {
            steps: 1,
            rollouts_per_step: rollouts as u32,
            group_size: spec.group as u32,
            advantage: Advantage::MeanStd,
            ratio: RatioRule::Clip { low: 0.2, high: 0.2, delta: None },
            level: Level::Token,
            normaliser: Normaliser::Token,
            kl_coef: 0.0,
            kl_corrected: false,
            minibatches: 1,
            updates_per_batch: spec.updates,
            micro_batch: if spec.micro_batch == 0 { rollouts as u32 } else { spec.micro_batch as u32 },
            activations_mib: spec.activations_mib,
        };
        let sampling = SamplingSpec::plain(spec.new_tokens as u32);
        let adam = SparseAdamW::new(&model.weights, mask.as_ref(), &optimizer)?;
        Ok(Self { spec, model, adam, grpo, optimizer, sampling, rollouts: Vec::new(), tape: None })
    }

    /// Tokens of what the user says, by prompt and turn.
    fn said(&self, round: usize, prompt: usize, turn: usize) -> Vec<u32> {
        let mut counter = Counter::new(0, "bench/prompt", &[round as u64, prompt as u64, turn as u64]);
        let vocabulary = self.model.architecture().vocab_size as u64;
        (0..self.spec.prompt_tokens).map(|_| counter.below(vocabulary) as u32).collect()
    }

    /// Plays a batch.
    pub fn roll_out(&mut self, round: usize) -> Result<Spent, TorchError> {
        let contexts: Vec<Vec<u32>> = (0..self.spec.prompts).map(|p| self.said(round, p, 0)).collect();
        let group = self.spec.group;
        let mut counters: Vec<Counter> = (0..contexts.len() * group)
            .map(|row| Counter::new(0, "bench/rollout", &[round as u64, row as u64]))
            .collect();
        let mut rows: Vec<Row<'_>> = counters
            .iter_mut()
            .enumerate()
            .map(|(row, counter)| Row { context: row / group, counter, first_draw: 0 })
            .collect();
        let mut rollouts: Vec<Rollout> = (0..rows.len())
            .map(|row| {
                let mut rollout = Rollout { tokens: contexts[row / group].clone(), ..Rollout::default() };
                rollout.drawn = vec![false; rollout.tokens.len()];
                rollout.logprobs = vec![0.0; rollout.tokens.len()];
                rollout
            })
            .collect();
        let turns = self.spec.turns;
        let further = turns * (self.spec.prompt_tokens + self.spec.new_tokens) - self.spec.prompt_tokens;
        let most = contexts.len() * self.spec.prompt_tokens + rollouts.len() * further;
        let kept = token_bytes(&self.model).everything(most) <= (self.spec.activations_mib as usize) << 20
            && self.spec.part == BenchPart::Step;
        let reserve = Reserve { tokens: further, tape: if kept { most } else { 0 } };
        let mut turn = vec![0; rollouts.len()];
        let played =
            converse(&self.model, &contexts, &mut rows, &self.sampling, &[], reserve, &mut |done| {
                done.into_iter()
                    .map(|(row, completion)| {
                        let rollout = &mut rollouts[row];
                        rollout.tokens.extend(&completion.tokens);
                        rollout.drawn.resize(rollout.tokens.len(), true);
                        rollout.logprobs.extend(&completion.logprobs);
                        turn[row] += 1;
                        if turn[row] == turns {
                            return Ok(None);
                        }
                        let said = self.said(round, row, turn[row]);
                        rollout.tokens.extend(&said);
                        rollout.drawn.resize(rollout.tokens.len(), false);
                        rollout.logprobs.resize(rollout.tokens.len(), 0.0);
                        Ok(Some(said))
                    })
                    .collect()
            })?;
        (self.rollouts, self.tape) = (rollouts, played.tape);
        Ok(Spent { prefill: played.prefill_seconds, decode: played.decode_seconds })
    }

    /// Trains on the last batch.
    pub fn train(&mut self) -> Result<(), TorchError> {
        let mut counter = Counter::new(0, "bench/reward", &[]);
        let rewards: Vec<f64> = self.rollouts.iter().map(|_| counter.uniform()).collect();
        let advantages: Vec<f64> = rewards
            .chunks(self.spec.group)
            .flat_map(|rewards| advantages(rewards, self.grpo.advantage))
            .collect();
        let batch =
            Batch { rollouts: &self.rollouts, advantages: &advantages, reference: None, temperature: 1.0 };
        let (lr, tape) = (self.optimizer.lr, self.tape.take());
        update(&self.model, &mut self.adam, batch, &self.grpo, &self.optimizer, lr, tape)?;
        Ok(())
    }
}
