//! Scores of one GRPO gradient at the base, and of those of the first and the second half of its groups.

use tch::{Kind, Tensor};

use crate::grpo::advantages;

use super::super::TorchError;
use super::super::loss::{Batch, clip_scale, gradients, norm, score};
use super::super::rollout::{Draws, Rollout, play};
use super::{Halves, ScoreSource, Scored, check_finite, measured};

/// Scores by the batch estimator, see [`super::scores`].
pub fn scores<E: From<TorchError>>(
    source: &ScoreSource<'_>,
    stop: &dyn Fn() -> bool,
    keep: impl FnOnce(Vec<Tensor>) -> Result<(), E>,
) -> Result<Scored, E> {
    let played = Played::new(source)?;
    keep(played.scores(source)?)?;
    let group = source.config.grpo.group_size as usize;
    let cut = played.rollouts.len() / group / 2 * group;
    if cut == 0 {
        return Ok(Scored::Complete(None));
    }
    let mut parts = Vec::with_capacity(2);
    for range in [0..cut, cut..played.rollouts.len()] {
        if stop() {
            return Ok(Scored::Stopped);
        }
        parts.push(part(source, played.batch().part(range))?);
    }
    let pair = |tensor: usize, start, length| {
        let side = |part: &[Tensor]| {
            measured(&part[tensor].f_view([-1])?.f_narrow(0, start, length)?, source.measure)
        };
        Ok([side(&parts[0])?, side(&parts[1])?])
    };
    let episodes = [cut, played.rollouts.len() - cut].map(|count| count as u32);
    Ok(Scored::Complete(Some(Halves::of(source.model, episodes, &pair)?)))
}

/// The rollouts of the base with what the loss needs to know of them.
struct Played {
    rollouts: Vec<Rollout>,
    advantages: Vec<f64>,
    reference: Option<Vec<Vec<f32>>>,
    temperature: f64,
}

impl Played {
    fn new(source: &ScoreSource<'_>) -> Result<Self, TorchError> {
        let ScoreSource { model, chat, task, config, spec, measure: _ } = *source;
        let group = config.grpo.group_size as usize;
        let prompts = u64::from(spec.episodes / config.grpo.group_size);
        let episodes = (0..prompts)
            .map(|index| Ok(task.episode(spec.seed, "fisher", index)?))
            .collect::<Result<Vec<_>, TorchError>>()?;
        let draws = Draws { seed: spec.seed, stream: "fisher", step: 0 };
        let rollouts = play(model, chat, task, &episodes, group, &config.sampling, draws)?;
        let rewards: Vec<f64> = rollouts.iter().map(|rollout| rollout.reward).collect();
        let advantages: Vec<f64> =
            rewards.chunks(group).flat_map(|rewards| advantages(rewards, config.grpo.advantage)).collect();
        let temperature = config.sampling.policy_temperature();
        // At the base the reference is the policy itself; its KL has no gradient, but float rounding of the ratio does.
        let reference = if config.grpo.kl_coef == 0.0 {
            None
        } else {
            Some(score(model, &rollouts, temperature, config.grpo.micro_batch as usize)?)
        };
        Ok(Self { rollouts, advantages, reference, temperature })
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            rollouts: &self.rollouts,
            advantages: &self.advantages,
            reference: self.reference.as_deref(),
            temperature: self.temperature,
        }
    }

    /// Of all rollouts, clipped as in training.
    fn scores(&self, source: &ScoreSource<'_>) -> Result<Vec<Tensor>, TorchError> {
        let (mut dense, _) = gradients(source.model, self.batch(), &source.config.grpo)?;
        let scale = clip_scale(norm(&dense)?, source.config.optimizer.clip_norm);
        for gradient in &mut dense {
            let wide = gradient.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?;
            *gradient = measured(&wide, source.measure)?;
        }
        check_finite(source.model, &dense)?;
        Ok(dense)
    }
}

/// The gradient of some of the groups, normalised by itself. It is not clipped: a common factor moves no ranking.
fn part(source: &ScoreSource<'_>, batch: Batch<'_>) -> Result<Vec<Tensor>, TorchError> {
    let (mut dense, _) = gradients(source.model, batch, &source.config.grpo)?;
    for gradient in &mut dense {
        *gradient = gradient.f_contiguous()?;
    }
    Ok(dense)
}
