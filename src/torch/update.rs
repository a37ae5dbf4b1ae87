//! What a batch of rollouts does to the weights: passes over it, each cut into minibatches of whole groups, one optimizer step per
//! minibatch. In: rollouts with advantages, a learning rate. Out: the weights moved, and what was measured on the way.

use tch::Tensor;

use crate::grpo::{ClipDomain, GrpoSpec, OptimizerSpec};

use super::loss::{Batch, absolute_sum, clip_scale, gradients, norm};
use super::objective::LossStats;
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

/// Trains on a batch at learning rate `lr`.
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
) -> Result<Update, TorchError> {
    let size = batch.rollouts.len() / grpo.minibatches as usize;
    let mut sum = Update::default();
    for _ in 0..grpo.updates_per_batch {
        for start in (0..batch.rollouts.len()).step_by(size) {
            let (dense, stats) = gradients(model, batch.part(start..start + size), grpo)?;
            let gathered = adam.gather(&dense)?;
            let (dense_norm, masked_norm) = (norm(&dense)?, norm(&gathered)?);
            let share = share(&dense, &gathered)?;
            drop(dense);
            let domain = match optimizer.clip_domain {
                ClipDomain::Masked => masked_norm,
                ClipDomain::Dense => dense_norm,
            };
            adam.step(&model.weights, &gathered, clip_scale(domain, optimizer.clip_norm), lr)?;
            sum.add(stats, dense_norm, masked_norm, share);
        }
    }
    Ok(sum.averaged())
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

/// Share of the summed absolute gradient that lies inside the mask; 1 when there is no gradient at all.
fn share(dense: &[Tensor], gathered: &[Tensor]) -> Result<f64, TorchError> {
    let all = absolute_sum(dense)?;
    Ok(if all == 0.0 { 1.0 } else { absolute_sum(gathered)? / all })
}
