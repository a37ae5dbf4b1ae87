//! Token generation for one turn: contexts in, completions with logprobs out.
//!
//! Contexts are padded on the left, so that every row writes the same slot of the key-value cache. Rows that share a
//! context share its prefill. Finished rows leave the batch once a quarter of it has finished; that schedule is a
//! function of the draws alone, and a row's draws come from its own counter, so neither depends on the batch.

use tch::{Kind, Tensor};

use crate::counter::Counter;
use crate::grpo::SamplingSpec;

use super::sampler::draw;
use super::{Model, TorchError};

/// One row to complete.
#[derive(Debug)]
pub struct Row<'a> {
    /// Index into the contexts.
    pub context: usize,
    /// Uniforms of this rollout.
    pub counter: &'a mut Counter,
    /// Position of this turn's first uniform in the counter's stream.
    pub first_draw: u64,
}

/// A completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// New tokens, the end token included.
    pub tokens: Vec<u32>,
    /// Logprob of each token under the policy at the sampling temperature, in nats.
    pub logprobs: Vec<f32>,
    /// Whether an end token was drawn; otherwise the turn was cut at the token limit.
    pub ended: bool,
}

/// Completes every row.
///
/// # Errors
/// When a context is empty or longer than the model's positions, or memory runs out.
pub fn generate(
    model: &Model,
    contexts: &[Vec<u32>],
    rows: &mut [Row<'_>],
    sampling: &SamplingSpec,
    end_tokens: &[u32],
) -> Result<Vec<Completion>, TorchError> {
    let _guard = tch::no_grad_guard();
    let empty = Completion { tokens: Vec::new(), logprobs: Vec::new(), ended: false };
    let mut completions = vec![empty; rows.len()];
    if rows.is_empty() {
        return Ok(completions);
    }
    if contexts.iter().any(Vec::is_empty) {
        return Err(TorchError::NoContext);
    }
    let device = model.device();
    let limit = i64::from(sampling.max_tokens);
    let longest = contexts.iter().map(Vec::len).max().unwrap_or(0) as i64;
    let positions = model.architecture().max_positions;
    if (longest + limit) as usize > positions {
        return Err(TorchError::ContextTooLong { tokens: (longest + limit) as usize, limit: positions });
    }

    // Prefill: one row per distinct context.
    let pads: Vec<i64> = contexts.iter().map(|context| longest - context.len() as i64).collect();
    let mut flat = Vec::with_capacity(contexts.len() * longest as usize);
    for (context, &pad) in contexts.iter().zip(&pads) {
        flat.extend(std::iter::repeat_n(0i64, pad as usize));
        flat.extend(context.iter().map(|&id| i64::from(id)));
    }
    let tokens_bt =
        Tensor::f_from_slice(&flat)?.f_view([contexts.len() as i64, longest])?.f_to_device(device)?;
    let pad_contexts = Tensor::f_from_slice(&pads)?.f_to_device(device)?;
    let positions_bt = Tensor::f_arange(longest, (Kind::Int64, device))?
        .f_unsqueeze(0)?
        .f_sub(&pad_contexts.f_unsqueeze(1)?)?
        .f_clamp_min(0)?;
    let mask = model.causal_mask(longest, longest, Some(&pad_contexts))?;
    let mut prefill = model.cache(contexts.len() as i64, longest)?;
    let ends: Vec<i64> = (1..=contexts.len() as i64).map(|row| row * longest - 1).collect();
    let ends_n = Tensor::f_from_slice(&ends)?.f_to_device(device)?;
    let last =
        model.logits(&model.hidden_at(&tokens_bt, &positions_bt, &mask, Some(&mut prefill), &ends_n)?)?;

    // Decode: one row per rollout.
    let owners: Vec<i64> = rows.iter().map(|row| row.context as i64).collect();
    let owner_b = Tensor::f_from_slice(&owners)?.f_to_device(device)?;
    let mut cache = prefill.select(&owner_b, longest + limit)?;
    drop(prefill);
    let mut pad_b = pad_contexts.f_index_select(0, &owner_b)?;
    let mut logits = last.f_index_select(0, &owner_b)?;
    let mut seen = if sampling.repetition_penalty == 1.0 {
        None
    } else {
        Some(seen_tokens(&tokens_bt, &pads, &logits)?.f_index_select(0, &owner_b)?)
    };
    let mut live: Vec<usize> = (0..rows.len()).collect();
    for step in 0..limit {
        let uniforms: Vec<f64> = live
            .iter()
            .map(|&row| {
                let row = &mut rows[row];
                row.counter.seek(row.first_draw + step as u64);
                row.counter.uniform()
            })
            .collect();
        let (tokens_b, logprobs_b) = draw(&logits, &uniforms, seen.as_ref(), sampling)?;
        let drawn = Vec::<i64>::try_from(&tokens_b)?;
        let logprobs = Vec::<f32>::try_from(&logprobs_b)?;
        for ((&row, &token), &logprob) in live.iter().zip(&drawn).zip(&logprobs) {
            let completion = &mut completions[row];
            if completion.ended {
                continue;
            }
            if !logprob.is_finite() {
                return Err(TorchError::NonFinite { what: "the logprob of a sampled token".into() });
            }
            completion.tokens.push(token as u32);
            completion.logprobs.push(logprob);
            completion.ended = end_tokens.contains(&(token as u32));
        }
        let going: Vec<usize> = (0..live.len()).filter(|&slot| !completions[live[slot]].ended).collect();
        if going.is_empty() || step + 1 == limit {
            break;
        }
        if let Some(seen) = &mut seen {
            let _ = seen.f_scatter_value_(1, &tokens_b.f_unsqueeze(1)?, 1)?;
        }
        let mut next = tokens_b;
        if going.len() * 4 <= live.len() * 3 {
            let kept: Vec<i64> = going.iter().map(|&slot| slot as i64).collect();
            let kept_b = Tensor::f_from_slice(&kept)?.f_to_device(device)?;
            cache = cache.select(&kept_b, longest + limit)?;
            pad_b = pad_b.f_index_select(0, &kept_b)?;
            next = next.f_index_select(0, &kept_b)?;
            seen = seen.map(|seen| seen.f_index_select(0, &kept_b)).transpose()?;
            live = going.iter().map(|&slot| live[slot]).collect();
        }
        let position_b = pad_b.f_neg()?.f_add_scalar(longest + step)?;
        let mask = model.causal_mask(1, longest + step + 1, Some(&pad_b))?;
        let hidden =
            model.hidden(&next.f_unsqueeze(1)?, &position_b.f_unsqueeze(1)?, &mask, Some(&mut cache))?;
        logits = model.logits(&hidden.f_squeeze_dim(1)?)?;
    }
    Ok(completions)
}

/// Which tokens each context holds, padding left out: bool `[contexts, v]`.
fn seen_tokens(tokens_bt: &Tensor, pads: &[i64], logits: &Tensor) -> Result<Tensor, TorchError> {
    let size = [tokens_bt.size()[0], logits.size()[1]];
    let seen = Tensor::f_zeros(size, (Kind::Bool, tokens_bt.device()))?;
    for (row, &pad) in pads.iter().enumerate() {
        let context = tokens_bt.f_get(row as i64)?;
        let ids = context.f_narrow(0, pad, context.size()[0] - pad)?;
        let _ = seen.f_get(row as i64)?.f_index_fill_(0, &ids, 1)?;
    }
    Ok(seen)
}
