//! The built-in base: a tiny decoder and its tokenizer, warm-started on the task's own demonstrations.
//!
//! A share of the demonstrations lists the right lines in random order: they teach the format and the copying but not
//! the sorting, so that reinforcement learning has something to elicit. Everything is a function of the settings:
//! initial weights, episodes and shuffles come from counters.

use serde_json::{Value, json};
use tch::Device;

use crate::counter::Counter;
use crate::data::{
    Architecture, BUILT_IN_SPECIALS, BUILT_IN_TEMPLATE, Chat, ChatTemplate, Family, Tokenizer,
};
use crate::grpo::{ClipDomain, Decay, OptimizerSpec, SamplingSpec, Schedule};
use crate::manifest::PretrainSpec;
use crate::task::{Episode, Task, TaskError};

use super::loss::{Collected, clip_scale, likelihood_gradient, norm};
use super::rollout::{Draws, Rollout, demonstrate, play};
use super::sparse_adamw::SparseAdamW;
use super::{Model, TorchError, Weights};

/// Longest context of the built-in base, in tokens.
const MAX_POSITIONS: usize = 4096;

/// Episodes whose text trains the tokenizer.
const TOKENIZER_EPISODES: u64 = 2000;

/// Steps between looks at the sampled reward, and episodes of a look.
const LOOK_EVERY: u32 = 50;
const LOOK_EPISODES: u64 = 128;

/// A finished warm start.
#[derive(Debug)]
pub struct WarmStart {
    /// The trained weights, float32.
    pub weights: Weights,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Steps taken, the last loss (nats per token) and the sampled reward.
    pub meta: Value,
}

/// Trains the built-in base. Returns `None` when `stop` asked for an end before it was complete.
///
/// # Errors
/// When the vocabulary is too small, the loss is not finite, or memory runs out.
pub fn warm_start(
    spec: &PretrainSpec,
    task: &Task,
    device: Device,
    progress: &dyn Fn(u32, String),
    stop: &dyn Fn() -> bool,
) -> Result<Option<WarmStart>, TorchError> {
    let markers: Vec<String> = task.markers().into_iter().map(str::to_owned).collect();
    let tokenizer = Tokenizer::train(&corpus(task, spec.seed)?, spec.vocab_size as usize, &markers)?;
    let end = tokenizer.id(BUILT_IN_SPECIALS[1]).into_iter().collect();
    let template = ChatTemplate::built_in()?;
    let chat = Chat { tokenizer, template, end_tokens: end };

    let mut weights = Weights::fresh(&architecture(spec), spec.seed)?;
    for tensor in &mut weights.tensors {
        *tensor = tensor.f_to_device(device)?;
    }
    let model = Model::new(weights)?;
    let optimizer = OptimizerSpec {
        lr: spec.lr,
        schedule: Schedule::CONSTANT,
        betas: [0.9, 0.98],
        eps: 1e-8,
        weight_decay: 0.01,
        decay: Decay::Decoupled,
        clip_norm: 1.0,
        clip_domain: ClipDomain::Dense,
    };
    let mut adam = SparseAdamW::new(&model.weights, None, &optimizer)?;
    let (mut loss, mut reward, mut steps) = (f64::NAN, f64::NAN, 0);
    for step in 0..spec.steps {
        if stop() {
            return Ok(None);
        }
        let batch = u64::from(spec.batch);
        let demonstrations = (0..batch)
            .map(|i| {
                let index = u64::from(step) * batch + i;
                let episode = episode(task, spec.seed, "demonstration", index)?;
                let mut counter = Counter::new(spec.seed, "demonstration/order", &[index]);
                let shuffled = counter.uniform() < spec.shuffled;
                demonstrate(&chat, task, &episode, shuffled.then_some(&mut counter))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let drawn: usize = demonstrations.iter().map(Rollout::length).sum();
        let mut dense = Collected::new(&model);
        let weight = 1.0 / drawn as f64;
        loss = likelihood_gradient(&model, &demonstrations, weight, &mut dense)?;
        if !loss.is_finite() {
            return Err(TorchError::NonFinite { what: format!("the warm-start loss at step {step}") });
        }
        let gathered = adam.gather(&dense.0)?;
        let scale = clip_scale(norm(&gathered)?, optimizer.clip_norm);
        adam.step(&model.weights, &gathered, scale, rate(spec, step))?;
        steps = step + 1;
        if spec.target_reward < 1.0 && steps % LOOK_EVERY == 0 {
            reward = look(&model, &chat, task, spec.seed)?;
            progress(steps, format!("loss {loss:.3}  reward {reward:.3}"));
            if reward >= spec.target_reward {
                break;
            }
        } else if steps % 10 == 0 || steps == spec.steps {
            progress(steps, format!("loss {loss:.3}"));
        }
    }
    if !(spec.target_reward < 1.0 && steps % LOOK_EVERY == 0) {
        reward = look(&model, &chat, task, spec.seed)?;
    }
    let meta = json!({ "steps": steps, "loss": loss, "reward": reward });
    Ok(Some(WarmStart { weights: model.weights, tokenizer: chat.tokenizer, meta }))
}

/// Linear warm-up over the first twentieth, then a cosine down to a tenth of the peak.
fn rate(spec: &PretrainSpec, step: u32) -> f64 {
    let (step, steps) = (f64::from(step), f64::from(spec.steps));
    let warm = (steps / 20.0).ceil();
    if step < warm {
        return spec.lr * (step + 1.0) / warm;
    }
    let progress = (step - warm) / (steps - warm).max(1.0);
    spec.lr * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * progress).cos()))
}

fn architecture(spec: &PretrainSpec) -> Architecture {
    Architecture {
        family: Family::Qwen2,
        vocab_size: spec.vocab_size as usize,
        hidden_size: spec.hidden_size as usize,
        intermediate_size: spec.intermediate_size as usize,
        layers: spec.layers as usize,
        heads: spec.heads as usize,
        kv_heads: spec.kv_heads as usize,
        head_dim: (spec.hidden_size / spec.heads) as usize,
        attention_bias: true,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied: true,
        max_positions: MAX_POSITIONS,
    }
}

fn episode(task: &Task, seed: u64, stream: &str, index: u64) -> Result<Episode, TorchError> {
    Ok(task.episode(seed, stream, index)?)
}

fn demonstration(task: &Task, episode: &Episode, turn: usize) -> Result<String, TorchError> {
    Ok(task
        .demonstration(episode, turn)
        .ok_or_else(|| TaskError::NoAnswer { episode: episode.name.clone() })?)
}

pub(super) fn corpus(task: &Task, seed: u64) -> Result<Vec<String>, TorchError> {
    let mut texts = Vec::new();
    for index in 0..TOKENIZER_EPISODES {
        let episode = episode(task, seed, "tokenizer", index)?;
        for (turn, step) in episode.turns.iter().enumerate() {
            texts.push(step.prompt.clone());
            texts.push(demonstration(task, &episode, turn)?);
        }
    }
    Ok(texts)
}

/// The mean sampled reward over fresh episodes, at temperature 1.
fn look(model: &Model, chat: &Chat, task: &Task, seed: u64) -> Result<f64, TorchError> {
    let episodes = (0..LOOK_EPISODES)
        .map(|index| episode(task, seed, "warm-start/look", index))
        .collect::<Result<Vec<_>, _>>()?;
    let mut longest = 0;
    for episode in &episodes {
        for turn in 0..episode.turns.len() {
            longest = longest.max(chat.tokenizer.encode(&demonstration(task, episode, turn)?)?.len());
        }
    }
    let sampling = SamplingSpec::plain(longest as u32 + 8);
    let draws = Draws { seed, stream: "warm-start/look", step: 0 };
    let rollouts = play(model, chat, task, &episodes, 1, &sampling, draws)?;
    Ok(rollouts.iter().map(|rollout| rollout.reward).sum::<f64>() / rollouts.len() as f64)
}

/// The files of the base as a Hugging Face directory.
///
/// # Errors
/// When a tensor cannot be copied or the tokenizer cannot be serialised.
pub fn directory(warm: &WarmStart) -> Result<Vec<(&'static str, Vec<u8>)>, TorchError> {
    let id = |token: &str| warm.tokenizer.id(token).unwrap_or(0);
    let (pad, end) = (id(BUILT_IN_SPECIALS[0]), id(BUILT_IN_SPECIALS[1]));
    let pretty = |value: &Value| format!("{value:#}\n").into_bytes();
    let config = warm.weights.architecture.to_config_json(end, pad, "float32");
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": BUILT_IN_SPECIALS[0],
        "eos_token": BUILT_IN_SPECIALS[1],
        "model_max_length": MAX_POSITIONS,
        "clean_up_tokenization_spaces": false,
        "chat_template": BUILT_IN_TEMPLATE,
    });
    let generation = json!({ "eos_token_id": end, "pad_token_id": pad });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    Ok(vec![
        ("config.json", pretty(&config)),
        ("generation_config.json", pretty(&generation)),
        ("model.safetensors", crate::data::safetensors::to_bytes(&warm.weights.to_raw()?, &metadata)),
        ("tokenizer.json", warm.tokenizer.to_json()?.into_bytes()),
        ("tokenizer_config.json", pretty(&tokenizer_config)),
        ("chat_template.jinja", BUILT_IN_TEMPLATE.as_bytes().to_vec()),
    ])
}
