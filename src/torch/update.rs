//! What a batch of rollouts does to the weights: passes over it, each cut into minibatches of whole groups, one optimizer step per
//! minibatch. In: rollouts with advantages, a learning rate. Out: the weights moved, and what was measured on the way.

use tch::{Kind, Tensor};

use crate::data::WHOLE_GRADIENT;
use crate::grpo::{ClipDomain, GrpoSpec, OptimizerSpec};

use super::loss::{Batch, absolute_sum, clip_scale, each_gradient, root, square_sum, total_of};
use super::objective::LossStats;
use super::tape::{Sink, Tape};
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
            let mut own = Gathered::new(model, adam)?;
            let stats = each_gradient(model, part, grpo, tape.take(), &mut own)?;
            let Gathered { gradients, flat, dense_squares, dense_sums, .. } = own;
            let (squares, sums) = if adam.masked() {
                (each(&gradients, square_sum)?, each(&gradients, absolute_sum)?)
            } else {
                (shared(&dense_squares), shared(&dense_sums))
            };
            let (dense_norm, masked_norm) = (root(&dense_squares)?, root(&squares)?);
            let (total, inside) = (total_of(&dense_sums)?, total_of(&sums)?);
            // A gradient of nothing but zeros lies inside any mask.
            let share = if total == 0.0 { 1.0 } else { inside / total };
            let domain = match optimizer.clip_domain {
                ClipDomain::Masked => masked_norm,
                ClipDomain::Dense => dense_norm,
            };
            let all = flat.map_or_else(|| shared(&gradients), |flat| vec![flat]);
            adam.step(&model.weights, &all, clip_scale(domain, optimizer.clip_norm), lr)?;
            sum.add(stats, dense_norm, masked_norm, share);
        }
    }
    Ok(sum.averaged())
}

/// The trained entries of every gradient, and of each dense one no more than two sums, by tensor.
struct Gathered<'a> {
    model: &'a Model,
    adam: &'a SparseAdamW,
    gradients: Vec<Tensor>,
    /// All of them in one vector, where there is a mask.
    flat: Option<Tensor>,
    dense_squares: Vec<Tensor>,
    dense_sums: Vec<Tensor>,
}

impl<'a> Gathered<'a> {
    fn new(model: &'a Model, adam: &'a SparseAdamW) -> Result<Self, TorchError> {
        let zeros = || {
            let zero = |_: &Tensor| Tensor::f_zeros([], (Kind::Double, model.device()));
            Ok::<_, TorchError>(model.weights.tensors.iter().map(zero).collect::<Result<Vec<_>, _>>()?)
        };
        let (flat, gradients) = if adam.masked() {
            let (flat, parts) = adam.room(model.device())?;
            (Some(flat), parts)
        } else {
            (None, model.weights.tensors.iter().map(|_| Tensor::new()).collect())
        };
        Ok(Self { model, adam, gradients, flat, dense_squares: zeros()?, dense_sums: zeros()? })
    }

    fn measure(&mut self, i: usize, dense: &Tensor) -> Result<(), TorchError> {
        let _ = self.dense_squares[i].f_add_(&square_sum(dense)?)?;
        let _ = self.dense_sums[i].f_add_(&absolute_sum(dense)?)?;
        Ok(())
    }
}

impl Sink for Gathered<'_> {
    fn put(&mut self, index: usize, gradient: Tensor) -> Result<(), TorchError> {
        self.measure(index, &gradient)?;
        if self.adam.masked() {
            return self.adam.gather_into(index, &gradient, &self.gradients[index]);
        }
        self.gradients[index] = self.adam.gather_one(index, &gradient)?;
        Ok(())
    }

    fn takes_rows(&self, entries: usize) -> bool {
        self.adam.masked() && entries > WHOLE_GRADIENT
    }

    fn put_rows(&mut self, index: usize, from: i64, rows: &Tensor) -> Result<(), TorchError> {
        self.measure(index, rows)?;
        self.adam.gather_rows(index, from, rows, &mut self.gradients[index])
    }

    fn put_listed(&mut self, index: usize, ids: &Tensor, rows: &Tensor) -> Result<(), TorchError> {
        self.measure(index, rows)?;
        let shape = self.model.weights.tensors[index].size();
        self.adam.gather_listed(index, &shape, ids, rows, &mut self.gradients[index])
    }
}

fn each(
    tensors: &[Tensor],
    of: impl Fn(&Tensor) -> Result<Tensor, TorchError>,
) -> Result<Vec<Tensor>, TorchError> {
    tensors.iter().map(of).collect()
}

fn shared(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
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
