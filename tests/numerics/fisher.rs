//! Fisher scores against separate backward passes.

use tch::{Kind, Tensor};

use tickets::grpo::{Normaliser, RatioRule, advantages};
use tickets::sparsity::{FisherEstimator, FisherSpec};
use tickets::torch::{Draws, Model, Rollout, demonstrate, fisher, norm, play};

use super::support::{chat, config, eager_model, grpo, model, relative, sampling, task};
use super::table::{larger, row};

/// The gradient of the summed logprob of a conversation's drawn tokens, computed the plain way: all logits of one row.
fn slope(model: &Model, rollout: &Rollout) -> Vec<Tensor> {
    let length = rollout.tokens.len() as i64;
    let ids: Vec<i64> = rollout.tokens.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0);
    let positions = Tensor::arange(length, (Kind::Int64, model.device())).unsqueeze(0);
    let mask = model.causal_mask(length, length, None).unwrap();
    let hidden = model.hidden(&ids, &positions, &mask, None).unwrap();
    let logprobs = model.logits(&hidden).unwrap().log_softmax(-1, Kind::Float).squeeze_dim(0);
    let mut total = Tensor::zeros([], (Kind::Float, model.device()));
    for t in (0..rollout.tokens.len()).filter(|&t| rollout.drawn[t]) {
        total += logprobs.get(t as i64 - 1).get(i64::from(rollout.tokens[t]));
    }
    Tensor::run_backward(&[total], &model.weights.tensors, false, false)
}

/// The clip of these tests.
const CLIP: RatioRule = RatioRule::Clip { low: 0.2, high: 0.2, delta: None };

#[test]
fn batch_is_the_square_of_the_clipped_policy_gradient() {
    let task = task();
    let chat = chat(&task, 40);
    let model = eager_model(&task, &chat);
    let mut config = config(grpo(CLIP, Normaliser::Token, 0.0, 5));
    let spec = FisherSpec { estimator: FisherEstimator::Batch, episodes: 32, seed: 4 };
    config.sampling = sampling(24);
    // On policy every ratio is 1, so the gradient is the plain policy gradient: sum of -advantage / tokens * slope.
    let episodes: Vec<_> = (0..8).map(|index| task.episode(4, "fisher", index).unwrap()).collect();
    let draws = Draws { seed: 4, stream: "fisher", step: 0 };
    let rollouts = play(&model, &chat, &task, &episodes, 4, &config.sampling, draws).unwrap();
    let tokens: usize = rollouts.iter().map(Rollout::length).sum();
    let rewards: Vec<f64> = rollouts.iter().map(|rollout| rollout.reward).collect();
    let mut sum: Vec<Tensor> = model.weights.tensors.iter().map(Tensor::zeros_like).collect();
    let advantages = rewards.chunks(4).flat_map(|group| advantages(group, config.grpo.advantage));
    for (rollout, advantage) in rollouts.iter().zip(advantages) {
        for (sum, slope) in sum.iter_mut().zip(slope(&model, rollout)) {
            *sum += slope * (-advantage / tokens as f64);
        }
    }
    let length = norm(&sum).unwrap();
    assert!(length > 0.0, "the rewards of a group differ: {rewards:?}");
    let (mut tensors, mut worst) = (0, 0.0f64);
    for clip_norm in [length / 3.0, length * 3.0, 0.0] {
        config.optimizer.clip_norm = clip_norm;
        let scale = if clip_norm == 0.0 { 1.0 } else { (clip_norm / (length + 1e-6)).min(1.0) };
        let expected: Vec<Tensor> = sum.iter().map(|g| (g * scale).square()).collect();
        let got = fisher(&model, &chat, &task, &config, &spec, &|_, _| {}, &|| false).unwrap().unwrap();
        tensors += got.len();
        worst = larger(worst, relative(&got, &expected));
    }
    row("Fisher scores of a batch, per tensor", "backward passes of single rollouts", tensors, worst, 1e-4);
}

#[test]
fn sample_is_the_mean_of_per_demonstration_squares() {
    let (task, model) = (task(), model(false, 0.3));
    let chat = chat(&task, 40);
    let config = config(grpo(CLIP, Normaliser::Token, 0.0, 5));
    let spec = FisherSpec { estimator: FisherEstimator::Sample, episodes: 6, seed: 4 };
    let mut mean: Vec<Tensor> = model.weights.tensors.iter().map(Tensor::zeros_like).collect();
    for index in 0..6 {
        let episode = task.episode(4, "fisher", index).unwrap();
        let demonstration = demonstrate(&chat, &task, &episode, None).unwrap();
        for (mean, slope) in mean.iter_mut().zip(slope(&model, &demonstration)) {
            *mean += slope.square() / 6.0;
        }
    }
    let got = fisher(&model, &chat, &task, &config, &spec, &|_, _| {}, &|| false).unwrap().unwrap();
    let worst = relative(&got, &mean);
    row("Fisher scores of samples, per tensor", "backward passes of single rollouts", got.len(), worst, 1e-4);
    assert!(fisher(&model, &chat, &task, &config, &spec, &|_, _| {}, &|| true).unwrap().is_none());
}

#[test]
fn greedy_rollouts_are_scored_at_temperature_one() {
    // With one greedy rollout per prompt, or equal ones, nothing is learnt: the scores are zero, and numbers.
    let (task, model) = (task(), model(true, 0.4));
    let chat = chat(&task, 40);
    let mut config = config(grpo(CLIP, Normaliser::Token, 0.0, 5));
    config.sampling.temperature = 0.0;
    let spec = FisherSpec { estimator: FisherEstimator::Batch, episodes: 8, seed: 4 };
    let got = fisher(&model, &chat, &task, &config, &spec, &|_, _| {}, &|| false).unwrap().unwrap();
    assert!(got.iter().all(|scores| scores.abs().max().double_value(&[]) == 0.0));
}
