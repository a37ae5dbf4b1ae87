//! The GRPO objective on tensors.
//!
//! Shape legend: m rollouts of a micro-batch, t tokens, n loss tokens (all rollouts' drawn tokens in one list), v
//! vocabulary. The scalar reference with the sources is `grpo::objective`; logits are divided by the sampling
//! temperature, as prime-rl and TRL do, and projected for loss tokens only.

use tch::{Kind, Tensor};

use crate::grpo::{GrpoSpec, Level, RatioRule};

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
    /// The rollout of each loss token, and how many of them every rollout has (at least 1).
    row_n: Tensor,
    length_m: Tensor,
    target_n: Tensor,
    behavior_n: Tensor,
    advantage_n: Tensor,
    pub(super) weight_n: Tensor,
    reference_n: Option<Tensor>,
}

/// Sums over the tokens of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossStats {
    /// The normalised loss.
    pub loss: f64,
    /// Loss tokens.
    pub tokens: usize,
    /// Tokens whose policy gradient the ratio rule took away, or (CISPO) cut.
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
    let (mut rows, mut lengths) = (Vec::new(), Vec::new());
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
                rows.push(row as i64);
            }
        }
        reference.extend(item.reference.unwrap_or_default());
        lengths.push(rollout.length().max(1) as f32);
    }
    let device = model.device();
    let floats = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
    let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
    let wanted = items.first().is_some_and(|item| item.reference.is_some());
    Ok(Packed {
        tokens_mt: whole(&tokens)?.f_view([items.len() as i64, longest as i64])?,
        positions_t: Tensor::f_arange(longest as i64, (Kind::Int64, device))?.f_unsqueeze(0)?,
        source_n: whole(&source)?,
        row_n: whole(&rows)?,
        length_m: floats(&lengths)?,
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

impl Packed {
    /// The sum over each rollout's tokens, `[m]`.
    fn sum(&self, values_n: &Tensor) -> Result<Tensor, TorchError> {
        let zeros = self.length_m.f_zeros_like()?;
        Ok(zeros.f_index_add(0, &self.row_n, values_n)?)
    }

    /// A value per rollout to each of its tokens, `[n]`.
    fn spread(&self, values_m: &Tensor) -> Result<Tensor, TorchError> {
        Ok(values_m.f_index_select(0, &self.row_n)?)
    }

    /// The importance ratio that counts for each token.
    fn ratio(&self, logprob_n: &Tensor, level: Level) -> Result<Tensor, TorchError> {
        let log_ratio = logprob_n.f_sub(&self.behavior_n)?;
        let log_ratio = match level {
            Level::Token => log_ratio,
            Level::Sequence => self.spread(&self.sum(&log_ratio)?.f_div(&self.length_m)?)?,
        };
        Ok(log_ratio.f_exp()?)
    }

    /// The policy's part of each token's loss, and whose gradient the rule took away or cut.
    fn policy(
        &self,
        logprob_n: &Tensor,
        ratio: &Tensor,
        rule: RatioRule,
    ) -> Result<(Tensor, Tensor), TorchError> {
        Ok(match rule {
            RatioRule::Clip { low, high, delta } => {
                let bounded = ratio.f_clamp(1.0 - low, 1.0 + high)?.f_mul(&self.advantage_n)?;
                let capped = delta.map(|delta| ratio.f_clamp_max(delta)).transpose()?;
                let gain = capped.as_ref().unwrap_or(ratio).f_mul(&self.advantage_n)?;
                let mut clipped = gain.f_gt_tensor(&bounded)?;
                let loss = bounded.f_where_self(&clipped, &gain)?.f_neg()?;
                if let Some(delta) = delta {
                    let cut = ratio.f_gt(delta)?.f_logical_and(&self.advantage_n.f_lt(0.0)?)?;
                    clipped = clipped.f_logical_or(&cut)?;
                }
                (loss, clipped)
            }
            RatioRule::Mask { low, high, sequence_low } => {
                let gain = ratio.f_mul(&self.advantage_n)?;
                let mut dropped = ratio.f_lt(low)?.f_logical_or(&ratio.f_gt(high)?)?;
                if sequence_low > 0.0 {
                    let below = ratio.f_lt(sequence_low)?.f_to_kind(Kind::Float)?;
                    dropped = dropped.f_logical_or(&self.spread(&self.sum(&below)?)?.f_gt(0.0)?)?;
                }
                (gain.f_masked_fill(&dropped, 0.0)?.f_neg()?, dropped)
            }
            RatioRule::Cispo { high } => {
                let ratio = ratio.f_detach()?;
                let weight = ratio.f_clamp_max(high)?.f_mul(&self.advantage_n)?;
                (weight.f_mul(logprob_n)?.f_neg()?, ratio.f_gt(high)?)
            }
        })
    }
}

/// The summed, weighted loss of a micro-batch: a differentiable scalar, and its statistics (entropy left at zero).
///
/// # Errors
/// When memory runs out.
pub fn objective(
    logprob_n: &Tensor,
    packed: &Packed,
    spec: &GrpoSpec,
) -> Result<(Tensor, LossStats), TorchError> {
    let ratio_n = packed.ratio(logprob_n, spec.level)?;
    let (mut loss_n, clipped_n) = packed.policy(logprob_n, &ratio_n, spec.ratio)?;
    let mut stats = LossStats {
        tokens: logprob_n.numel(),
        clipped: f64::try_from(clipped_n.f_sum(Kind::Double)?)?,
        ..LossStats::default()
    };
    if let Some(reference) = &packed.reference_n {
        let gap = reference.f_sub(logprob_n)?;
        let kl_n = gap.f_exp()?.f_sub(&gap)?.f_sub_scalar(1.0)?;
        stats.kl = f64::try_from(kl_n.f_detach()?.f_sum(Kind::Double)?)?;
        if spec.kl_coef != 0.0 {
            let kl_n = if spec.kl_corrected { kl_n.f_mul(&ratio_n)? } else { kl_n };
            loss_n = loss_n.f_add(&kl_n.f_mul_scalar(spec.kl_coef)?)?;
        }
    }
    let loss = loss_n.f_mul(&packed.weight_n)?.f_sum(Kind::Float)?;
    stats.loss = f64::try_from(loss.f_detach()?.f_to_kind(Kind::Double)?)?;
    Ok((loss, stats))
}
