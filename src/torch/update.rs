//! What a batch of rollouts does to the weights: passes over it, each cut into minibatches of whole groups, one optimizer step per
//! minibatch. In: rollouts with advantages, a learning rate. Out: the weights moved, and what was measured on the way.

use tch::Tensor;

use crate::grpo::{ClipDomain, GrpoSpec, OptimizerSpec};

use super::loss::{Batch, absolute_sum, clip_scale, each_gradient, root, square_sum, total_of};
use super::objective::LossStats;
use super::tape::Tape;
use super::{Model, SparseAdamW, TorchError};

/// What the optimizer steps of one batch did: sums over them in `stats`, averages in all else.
#[derive(Debug, Default)]
pub struct Update {
    /// Sums over all tokens of all passes.
    pub stats: LossStats,
    /// The normalised loss.
    pub loss: f64,
    /// L2 norm of the gradient of all entries, before clipping.
    pub dense_norm: f64,
    /// L2 norm of the gradient of the trained entries, before clipping.
    pub masked_norm: f64,
    /// Part of the summed absolute gradient that lies inside the mask.
    pub share: f64,
    count: f64,
}

/// Trains on a batch at learning rate `lr`. `tape` is how all of the batch's rollouts came about, under the weights as they are: it
/// serves the first optimizer step, when that is of the whole batch.
///
/// # Errors
/// When the loss or a gradient is not finite, or memory runs out.
pub fn update(
    model: &Model,
    adam: &mut SparseAdamW,
    batch: Batch<'_>,
    grpo: &GrpoSpec,
    optimizer: &OptimizerSpec,
    lr: f64,
    tape: Option<Tape>,
) -> Result<Update, TorchError> {
    let size = batch.rollouts.len() / grpo.minibatches as usize;
    let mut tape = tape.filter(|_| grpo.minibatches == 1);
    let mut sum = Update::default();
    for _ in 0..grpo.updates_per_batch {
        for start in (0..batch.rollouts.len()).step_by(size) {
            let part = batch.part(start..start + size);
            let mut own = Gathered::new(model);
            let stats =
                each_gradient(model, part, grpo, tape.take(), &mut |i, dense| own.put(adam, i, &dense))?;
            let (dense_norm, masked_norm) = (root(&own.dense_squares)?, root(&own.squares)?);
            let (all, inside) = (total_of(&own.dense_sums)?, total_of(&own.sums)?);
            // A gradient of nothing but zeros lies inside any mask.
            let share = if all == 0.0 { 1.0 } else { inside / all };
            let domain = match optimizer.clip_domain {
                ClipDomain::Masked => masked_norm,
                ClipDomain::Dense => dense_norm,
            };
            adam.step(&model.weights, &own.gradients, clip_scale(domain, optimizer.clip_norm), lr)?;
            sum.add(stats, dense_norm, masked_norm, share);
        }
    }
    Ok(sum.averaged())
}

/// The trained entries of every gradient, and of each dense one no more than two sums, by tensor.
struct Gathered {
    gradients: Vec<Tensor>,
    squares: Vec<Tensor>,
    sums: Vec<Tensor>,
    dense_squares: Vec<Tensor>,
    dense_sums: Vec<Tensor>,
}

impl Gathered {
    fn new(model: &Model) -> Self {
        let list = || model.weights.tensors.iter().map(|_| Tensor::new()).collect();
        Self { gradients: list(), squares: list(), sums: list(), dense_squares: list(), dense_sums: list() }
    }

    fn put(&mut self, adam: &SparseAdamW, i: usize, dense: &Tensor) -> Result<(), TorchError> {
        (self.dense_squares[i], self.dense_sums[i]) = (square_sum(dense)?, absolute_sum(dense)?);
        self.gradients[i] = adam.gather_one(i, dense)?;
        (self.squares[i], self.sums[i]) = if self.gradients[i].numel() == dense.numel() {
            (self.dense_squares[i].shallow_clone(), self.dense_sums[i].shallow_clone())
        } else {
            (square_sum(&self.gradients[i])?, absolute_sum(&self.gradients[i])?)
        };
        Ok(())
    }
}

impl Update {
    fn add(&mut self, stats: LossStats, dense_norm: f64, masked_norm: f64, share: f64) {
        self.stats.tokens += stats.tokens;
        self.stats.clipped += stats.clipped;
        self.stats.entropy += stats.entropy;
        self.stats.kl += stats.kl;
        self.loss += stats.loss;
        self.dense_norm += dense_norm;
        self.masked_norm += masked_norm;
        self.share += share;
        self.count += 1.0;
    }

    fn averaged(mut self) -> Self {
        for value in [&mut self.loss, &mut self.dense_norm, &mut self.masked_norm, &mut self.share] {
            *value /= self.count;
        }
        self
    }
}
