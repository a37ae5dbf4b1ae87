//! Fisher scores of every parameter at the base model.
//!
//! `batch` (what the study did): the square of one GRPO batch gradient, `F_i = (clip(g))_i^2`, where g is the gradient
//! of the run's own loss over `episodes` rollouts drawn from the base, clipped to `clip_norm` by its dense norm.
//! `sample` (the empirical Fisher diagonal): `F_i = 1/N sum_n (d log p(y_n | x_n) / d theta_i)^2`, where y_n is the
//! task's own reference answer to prompt x_n and log p the sum over its tokens. Both in float32.

use tch::Tensor;

use crate::data::Chat;
use crate::grpo::advantages;
use crate::manifest::RunConfig;
use crate::sparsity::{FisherEstimator, FisherSpec};
use crate::task::Task;

use super::loss::{Batch, accumulate, clip_scale, gradients, likelihood, norm, score};
use super::rollout::{Draws, demonstrate, play};
use super::{Model, TorchError};

/// Scores of all tensors, in study order. Returns `None` when `stop` asked for an end before they were complete.
///
/// # Errors
/// When a gradient is not finite or memory runs out.
pub fn fisher(
    model: &Model,
    chat: &Chat,
    task: &Task,
    config: &RunConfig,
    spec: &FisherSpec,
    progress: &dyn Fn(u32, String),
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<Tensor>>, TorchError> {
    match spec.estimator {
        FisherEstimator::Batch => batch(model, chat, task, config, spec).map(Some),
        FisherEstimator::Sample => sample(model, chat, task, spec, progress, stop),
    }
}

fn batch(
    model: &Model,
    chat: &Chat,
    task: &Task,
    config: &RunConfig,
    spec: &FisherSpec,
) -> Result<Vec<Tensor>, TorchError> {
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
    let batch =
        Batch { rollouts: &rollouts, advantages: &advantages, reference: reference.as_deref(), temperature };
    let (mut dense, _) = gradients(model, batch, &config.grpo)?;
    let scale = clip_scale(norm(&dense)?, config.optimizer.clip_norm);
    for gradient in &mut dense {
        let wide = gradient.f_to_kind(tch::Kind::Float)?.f_mul_scalar(scale)?;
        *gradient = wide.f_mul(&wide)?;
    }
    Ok(dense)
}

fn sample(
    model: &Model,
    chat: &Chat,
    task: &Task,
    spec: &FisherSpec,
    progress: &dyn Fn(u32, String),
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<Tensor>>, TorchError> {
    let mut sums: Vec<Tensor> = model
        .weights
        .tensors
        .iter()
        .map(|tensor| Ok(Tensor::f_zeros(tensor.size(), (tch::Kind::Float, tensor.device()))?))
        .collect::<Result<_, TorchError>>()?;
    for index in 0..spec.episodes {
        if stop() {
            return Ok(None);
        }
        let episode = task.episode(spec.seed, "fisher", u64::from(index))?;
        let demonstration = demonstrate(chat, task, &episode, None)?;
        let mut gradient = None;
        accumulate(model, &likelihood(model, &[demonstration], false)?, &mut gradient)?;
        for (sum, gradient) in sums.iter_mut().zip(gradient.unwrap_or_default()) {
            let wide = gradient.f_to_kind(tch::Kind::Float)?;
            let _ = sum.f_add_(&wide.f_mul(&wide)?)?;
        }
        if (index + 1) % 16 == 0 {
            progress(index + 1, String::new());
        }
    }
    for sum in &mut sums {
        let _ = sum.f_div_scalar_(f64::from(spec.episodes))?;
    }
    norm(&sums)?;
    Ok(Some(sums))
}
