//! Gradients of the GRPO objective in micro-batches, and their norms.
//!
//! In: a batch of rollouts. Out: dense gradients in float32 and statistics. Sums are taken in an order that the batch and the size
//! of micro-batches decide.

use tch::{Kind, Tensor};

use crate::grpo::{GrpoSpec, Normaliser, token_weight};

use super::objective::{Item, LossStats, logprobs, objective, pack};
use super::rollout::Rollout;
use super::{Model, TorchError};

/// A batch of rollouts with what the loss needs to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The rollouts of one optimizer step.
    pub rollouts: &'a [Rollout],
    /// One advantage per rollout.
    pub advantages: &'a [f64],
    /// Logprobs of the base model, one list per rollout's drawn tokens, when the KL is wanted.
    pub reference: Option<&'a [Vec<f32>]>,
    /// Sampling temperature; greedy rollouts count as temperature 1.
    pub temperature: f64,
}

impl Batch<'_> {
    /// Some of the rollouts.
    #[must_use]
    pub fn part(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            rollouts: &self.rollouts[range.clone()],
            advantages: &self.advantages[range.clone()],
            reference: self.reference.map(|lists| &lists[range]),
            temperature: self.temperature,
        }
    }
}

/// Dense gradients of the GRPO loss of a batch, accumulated over micro-batches, in float32.
///
/// Rollouts of similar length go together, so that little of a micro-batch is padding. Those that cannot move the
/// weights (advantage 0 and no KL term) are counted in the statistics but not differentiated.
///
/// # Errors
/// When the loss or a gradient is not finite, or memory runs out.
pub fn gradients(
    model: &Model,
    batch: Batch<'_>,
    spec: &GrpoSpec,
) -> Result<(Vec<Tensor>, LossStats), TorchError> {
    let (rollouts, advantages) = (batch.rollouts, batch.advantages);
    let tokens: usize = rollouts.iter().map(Rollout::length).sum();
    let item = |i: usize| Item {
        rollout: &rollouts[i],
        advantage: advantages[i],
        weight: token_weight(spec.normaliser, rollouts[i].length(), rollouts.len(), tokens),
        reference: batch.reference.map(|lists| lists[i].as_slice()),
    };
    let idle = |i: &usize| advantages[*i] == 0.0 && spec.kl_coef == 0.0;
    let (still, moving): (Vec<usize>, Vec<usize>) = by_length(rollouts).into_iter().partition(idle);
    let mut total = None;
    let mut stats = LossStats::default();
    for (list, moves) in [(moving, true), (still, false)] {
        let _guard = (!moves).then(tch::no_grad_guard);
        for part in list.chunks(spec.micro_batch as usize) {
            let packed = pack(model, &part.iter().map(|&i| item(i)).collect::<Vec<_>>())?;
            let (logprob_n, entropy_n) = logprobs(model, &packed, batch.temperature)?;
            let (loss, part) = objective(&logprob_n, &packed, spec)?;
            if !part.loss.is_finite() {
                return Err(TorchError::NonFinite { what: "the loss".into() });
            }
            stats.loss += part.loss;
            stats.tokens += part.tokens;
            stats.clipped += part.clipped;
            stats.kl += part.kl;
            stats.entropy += f64::try_from(entropy_n.f_sum(Kind::Double)?)?;
            if moves {
                accumulate(model, &loss, &mut total)?;
            }
        }
    }
    let zeros = |tensor: &Tensor| Tensor::f_zeros(tensor.size(), (Kind::Float, tensor.device()));
    let total = match total {
        Some(total) => total,
        None => model.weights.tensors.iter().map(zeros).collect::<Result<_, _>>()?,
    };
    Ok((total, stats))
}

/// Indices of rollouts, shortest first; equals in their order.
fn by_length(rollouts: &[Rollout]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rollouts.len()).collect();
    order.sort_by_key(|&i| rollouts[i].tokens.len());
    order
}

/// Adds the gradient of `loss` with respect to every weight to `total`, in float32.
///
/// # Errors
/// When memory runs out.
pub fn accumulate(model: &Model, loss: &Tensor, total: &mut Option<Vec<Tensor>>) -> Result<(), TorchError> {
    let gradients = Tensor::f_run_backward(&[loss], &model.weights.tensors, false, false)?;
    match total {
        None => {
            let wide = gradients.iter().map(|gradient| gradient.f_to_kind(Kind::Float));
            *total = Some(wide.collect::<Result<_, _>>()?);
        }
        Some(total) => {
            for (sum, gradient) in total.iter_mut().zip(gradients) {
                let _ = sum.f_add_(&gradient)?;
            }
        }
    }
    Ok(())
}

/// Logprobs of every rollout's drawn tokens under the model as it stands, one list per rollout, without gradients.
///
/// # Errors
/// When memory runs out.
pub fn score(
    model: &Model,
    rollouts: &[Rollout],
    temperature: f64,
    micro_batch: usize,
) -> Result<Vec<Vec<f32>>, TorchError> {
    let _guard = tch::no_grad_guard();
    let mut lists = vec![Vec::new(); rollouts.len()];
    for part in by_length(rollouts).chunks(micro_batch) {
        let packed = pack(model, &part.iter().map(|&i| plain(&rollouts[i], 0.0)).collect::<Vec<_>>())?;
        let (logprob_n, _) = logprobs(model, &packed, temperature)?;
        let mut flat = Vec::<f32>::try_from(&logprob_n)?.into_iter();
        for &i in part {
            lists[i] = flat.by_ref().take(rollouts[i].length()).collect();
        }
    }
    Ok(lists)
}

/// A rollout whose likelihood alone is wanted.
fn plain(rollout: &Rollout, weight: f64) -> Item<'_> {
    Item { rollout, advantage: 0.0, weight, reference: None }
}

/// Euclidean norm of a list of gradients, in float64.
///
/// # Errors
/// When the norm is not finite.
pub fn norm(gradients: &[Tensor]) -> Result<f64, TorchError> {
    let mut squares = Vec::with_capacity(gradients.len());
    for gradient in gradients.iter().filter(|gradient| gradient.numel() > 0) {
        let wide = gradient.f_to_kind(Kind::Float)?;
        squares.push(wide.f_mul(&wide)?.f_sum(Kind::Double)?);
    }
    let norm = total_of(&squares)?.sqrt();
    if norm.is_finite() { Ok(norm) } else { Err(TorchError::NonFinite { what: "the gradient norm".into() }) }
}

/// Sum of scalars that live on a device, with one transfer.
fn total_of(scalars: &[Tensor]) -> Result<f64, TorchError> {
    if scalars.is_empty() {
        return Ok(0.0);
    }
    Ok(f64::try_from(Tensor::f_stack(scalars, 0)?.f_sum(Kind::Double)?)?)
}

/// Sum of absolute values of a list of gradients, in float64.
///
/// # Errors
/// When memory runs out.
pub fn absolute_sum(gradients: &[Tensor]) -> Result<f64, TorchError> {
    let mut sums = Vec::with_capacity(gradients.len());
    for gradient in gradients.iter().filter(|gradient| gradient.numel() > 0) {
        sums.push(gradient.f_abs()?.f_sum(Kind::Double)?);
    }
    total_of(&sums)
}

/// torch's clip coefficient: `min(1, limit / (norm + 1e-6))`; a limit of zero clips nothing.
pub fn clip_scale(norm: f64, limit: f64) -> f64 {
    if limit == 0.0 { 1.0 } else { (limit / (norm + 1e-6)).min(1.0) }
}

/// The plain negative log-likelihood of demonstrations, mean over their drawn tokens, as a differentiable scalar.
///
/// # Errors
/// When memory runs out.
pub fn likelihood(model: &Model, rollouts: &[Rollout], mean: bool) -> Result<Tensor, TorchError> {
    let tokens: usize = rollouts.iter().map(Rollout::length).sum();
    let weight = if mean { token_weight(Normaliser::Token, 1, 1, tokens) } else { 1.0 };
    let packed = pack(model, &rollouts.iter().map(|rollout| plain(rollout, weight)).collect::<Vec<_>>())?;
    let (logprob_n, _) = logprobs(model, &packed, 1.0)?;
    Ok(logprob_n.f_mul(&packed.weight_n)?.f_sum(Kind::Float)?.f_neg()?)
}
