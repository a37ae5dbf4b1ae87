//! The GRPO objective on tensors, and its gradient in micro-batches.
//!
//! Shape legend: m rollouts of a micro-batch, t tokens, n loss tokens (all rollouts' drawn tokens in one list), v
//! vocabulary. The scalar reference with the sources is `grpo::objective`; logits are divided by the sampling
//! temperature, as prime-rl and TRL do, and projected for loss tokens only.

use tch::{Kind, Tensor};

use crate::grpo::{GrpoSpec, Normaliser, RatioRule, token_weight};

use super::rollout::Rollout;
use super::{Model, TorchError};

/// A rollout with its part in the loss.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The conversation.
    pub rollout: &'a Rollout,
    /// Its advantage.
    pub advantage: f64,
    /// Weight of each of its drawn tokens.
    pub weight: f64,
    /// Logprobs of its drawn tokens under the base model, when the KL is wanted: for all items or for none.
    pub reference: Option<&'a [f32]>,
}

/// Rollouts of a micro-batch as tensors.
#[derive(Debug)]
pub struct Packed {
    tokens_mt: Tensor,
    /// `[1, t]`.
    positions_t: Tensor,
    /// Flat index into `[m, t]` of the position that predicts each loss token.
    source_n: Tensor,
    target_n: Tensor,
    behavior_n: Tensor,
    advantage_n: Tensor,
    weight_n: Tensor,
    reference_n: Option<Tensor>,
}

/// Sums over the tokens of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossStats {
    /// The normalised loss.
    pub loss: f64,
    /// Loss tokens.
    pub tokens: usize,
    /// Tokens whose policy gradient the ratio rule took away.
    pub clipped: f64,
    /// Summed entropy of the next-token distributions, nats.
    pub entropy: f64,
    /// Summed k3 estimate of KL(policy, base), nats; zero when no reference was given.
    pub kl: f64,
}

/// Packs rollouts, padded on the right.
///
/// # Errors
/// When a conversation outgrows the model, begins with a drawn token, or memory runs out.
pub fn pack(model: &Model, items: &[Item<'_>]) -> Result<Packed, TorchError> {
    let longest = items.iter().map(|item| item.rollout.tokens.len()).max().unwrap_or(0);
    let limit = model.architecture().max_positions;
    if longest > limit {
        return Err(TorchError::ContextTooLong { tokens: longest, limit });
    }
    let mut tokens = vec![0i64; items.len() * longest];
    let (mut source, mut target, mut behavior) = (Vec::new(), Vec::new(), Vec::new());
    let (mut advantage, mut weight, mut reference) = (Vec::new(), Vec::new(), Vec::new());
    for (row, item) in items.iter().enumerate() {
        let rollout = item.rollout;
        if rollout.drawn.first() == Some(&true) {
            return Err(TorchError::NoContext);
        }
        for (t, &token) in rollout.tokens.iter().enumerate() {
            tokens[row * longest + t] = i64::from(token);
            if rollout.drawn[t] {
                source.push((row * longest + t - 1) as i64);
                target.push(i64::from(token));
                behavior.push(rollout.logprobs[t]);
                advantage.push(item.advantage as f32);
                weight.push(item.weight as f32);
            }
        }
        reference.extend(item.reference.unwrap_or_default());
    }
    let device = model.device();
    let floats = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
    let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
    let wanted = items.first().is_some_and(|item| item.reference.is_some());
    Ok(Packed {
        tokens_mt: whole(&tokens)?.f_view([items.len() as i64, longest as i64])?,
        positions_t: Tensor::f_arange(longest as i64, (Kind::Int64, device))?.f_unsqueeze(0)?,
        source_n: whole(&source)?,
        target_n: whole(&target)?,
        behavior_n: floats(&behavior)?,
        advantage_n: floats(&advantage)?,
        weight_n: floats(&weight)?,
        reference_n: wanted.then(|| floats(&reference)).transpose()?,
    })
}

/// Logprob of every loss token (differentiable) and entropy of its distribution (not), `[n]` each, in nats.
///
/// # Errors
/// When memory runs out.
pub fn logprobs(model: &Model, packed: &Packed, temperature: f64) -> Result<(Tensor, Tensor), TorchError> {
    let (_, t) = packed.tokens_mt.size2()?;
    let mask = model.causal_mask(t, t, None)?;
    let hidden = model.hidden_at(&packed.tokens_mt, &packed.positions_t, &mask, None, &packed.source_n)?;
    let mut logits = model.logits(&hidden)?;
    if temperature != 1.0 {
        logits = logits.f_div_scalar(temperature)?;
    }
    let all = logits.f_log_softmax(-1, Kind::Float)?;
    let picked = all.f_gather(1, &packed.target_n.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
    let entropy = {
        let _guard = tch::no_grad_guard();
        let all = all.f_detach()?;
        let dims: &[i64] = &[-1];
        all.f_exp()?.f_mul(&all)?.f_sum_dim_intlist(dims, false, Kind::Float)?.f_neg()?
    };
    Ok((picked, entropy))
}

/// The summed, weighted loss of a micro-batch: a differentiable scalar, and its statistics (entropy left at zero).
///
/// # Errors
/// When memory runs out.
pub fn objective(
    logprob_n: &Tensor,
    packed: &Packed,
    rule: RatioRule,
    kl_coef: f64,
) -> Result<(Tensor, LossStats), TorchError> {
    let ratio = logprob_n.f_sub(&packed.behavior_n)?.f_exp()?;
    let gain = ratio.f_mul(&packed.advantage_n)?;
    let (mut loss_n, clipped_n) = match rule {
        RatioRule::Clip { low, high } => {
            let bounded = ratio.f_clamp(1.0 - low, 1.0 + high)?.f_mul(&packed.advantage_n)?;
            let clipped = gain.f_gt_tensor(&bounded)?;
            (bounded.f_where_self(&clipped, &gain)?.f_neg()?, clipped)
        }
        RatioRule::Mask { low, high } => {
            let dropped = ratio.f_lt(low)?.f_logical_or(&ratio.f_gt(high)?)?;
            (gain.f_masked_fill(&dropped, 0.0)?.f_neg()?, dropped)
        }
    };
    let mut stats = LossStats {
        tokens: logprob_n.numel(),
        clipped: f64::try_from(clipped_n.f_sum(Kind::Double)?)?,
        ..LossStats::default()
    };
    if let Some(reference) = &packed.reference_n {
        let gap = reference.f_sub(logprob_n)?;
        let kl_n = gap.f_exp()?.f_sub(&gap)?.f_sub_scalar(1.0)?;
        stats.kl = f64::try_from(kl_n.f_detach()?.f_sum(Kind::Double)?)?;
        if kl_coef != 0.0 {
            loss_n = loss_n.f_add(&kl_n.f_mul_scalar(kl_coef)?)?;
        }
    }
    let loss = loss_n.f_mul(&packed.weight_n)?.f_sum(Kind::Float)?;
    stats.loss = f64::try_from(loss.f_detach()?.f_to_kind(Kind::Double)?)?;
    Ok((loss, stats))
}

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
            let (loss, part) = objective(&logprob_n, &packed, spec.ratio, spec.kl_coef)?;
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
