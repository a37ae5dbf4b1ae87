//! The GRPO objective on tensors.
//!
//! Shape legend: m rollouts of a micro-batch, n loss tokens (all rollouts' drawn tokens in one list). The scalar reference with
//! the sources is `grpo::objective`.

use tch::{Device, Kind, Tensor};

use crate::grpo::{GrpoSpec, Level, RatioRule};

use super::TorchError;
use super::rollout::Rollout;

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

/// What the loss knows of the drawn tokens of a micro-batch.
#[derive(Debug)]
pub struct Packed {
    /// The rollout of each loss token, and how many of them every rollout has (at least 1).
    row_n: Tensor,
    length_m: Tensor,
    pub(super) behavior_n: Tensor,
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
    /// Tokens whose policy gradient the ratio rule took away, or (CISPO) cut.
    pub clipped: f64,
    /// Summed entropy of the next-token distributions, nats.
    pub entropy: f64,
    /// Summed k3 estimate of KL(policy, base), nats; zero when no reference was given.
    pub kl: f64,
}

/// Packs what is known of the rollouts' drawn tokens.
///
/// # Errors
/// When memory runs out.
pub fn pack(items: &[Item<'_>], device: Device) -> Result<Packed, TorchError> {
    let (mut behavior, mut advantage, mut weight) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reference, mut rows, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for (row, item) in items.iter().enumerate() {
        let rollout = item.rollout;
        let drawn = rollout.logprobs.iter().zip(&rollout.drawn).filter(|(_, drawn)| **drawn);
        behavior.extend(drawn.map(|(logprob, _)| *logprob));
        let count = rollout.length();
        advantage.extend(std::iter::repeat_n(item.advantage as f32, count));
        weight.extend(std::iter::repeat_n(item.weight as f32, count));
        rows.extend(std::iter::repeat_n(row as i64, count));
        reference.extend(item.reference.unwrap_or_default());
        lengths.push(count.max(1) as f32);
    }
    let floats = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
    let wanted = items.first().is_some_and(|item| item.reference.is_some());
    Ok(Packed {
        row_n: Tensor::f_from_slice(&rows)?.f_to_device(device)?,
        length_m: floats(&lengths)?,
        behavior_n: floats(&behavior)?,
        advantage_n: floats(&advantage)?,
        weight_n: floats(&weight)?,
        reference_n: wanted.then(|| floats(&reference)).transpose()?,
    })
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

/// The summed, weighted loss of a micro-batch as its derivative by every logprob `[n]`, and its statistics (entropy left at
/// zero). Autograd has no more to do than this list of numbers.
///
/// # Errors
/// When memory runs out.
pub fn objective(
    logprob_n: &Tensor,
    packed: &Packed,
    spec: &GrpoSpec,
) -> Result<(Tensor, LossStats), TorchError> {
    if logprob_n.numel() == 0 {
        return Ok((logprob_n.shallow_clone(), LossStats::default()));
    }
    tch::with_grad(|| {
        let logprob_n = logprob_n.f_detach()?.set_requires_grad(true);
        let (loss, stats) = summed(&logprob_n, packed, spec)?;
        let slope = Tensor::f_run_backward(&[loss], &[&logprob_n], false, false)?;
        Ok((slope.into_iter().next().unwrap_or_else(Tensor::new), stats))
    })
}

fn summed(logprob_n: &Tensor, packed: &Packed, spec: &GrpoSpec) -> Result<(Tensor, LossStats), TorchError> {
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
