//! The logprob of every next token of a sequence: what two programs compare to see whether they hold the same model.

use tch::{Kind, Tensor};

use crate::data::ModelDir;
use crate::manifest::{DeviceChoice, Dtype};

use super::attention::Among;
use super::failure::RunError;
use super::layer::Turned;
use super::model::{Room, Scratch};
use super::packing::Sequences;
use super::{Model, TorchError, setup};

/// Positions whose logits exist at the same time.
const CHUNK: i64 = 64;

/// Logprobs in nats of `tokens[1..]`, each given all tokens before it, at temperature 1: one number fewer than there are
/// tokens. Logits are the model's; the softmax over them is in float64.
///
/// # Errors
/// When a token is not in the vocabulary, there are more of them than the model has positions, or memory runs out.
pub fn next_token_logprobs(model: &Model, tokens: &[u32]) -> Result<Vec<f64>, TorchError> {
    let _guard = tch::no_grad_guard();
    let shape = model.architecture();
    if tokens.len() > shape.max_positions {
        return Err(TorchError::ContextTooLong { tokens: tokens.len(), limit: shape.max_positions });
    }
    if let Some(&token) = tokens.iter().find(|&&token| token as usize >= shape.vocab_size) {
        return Err(TorchError::NoSuchToken { token, vocabulary: shape.vocab_size });
    }
    let Some(count) = tokens.len().checked_sub(1).filter(|&count| count > 0) else { return Ok(Vec::new()) };
    let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    let positions: Vec<i64> = (0..count as i64).collect();
    let hidden_th = last_outputs(model, &[(&ids[..count], &positions)])?;
    let target_t = Tensor::f_from_slice(&ids[1..])?.f_to_device(model.device())?;
    let count = count as i64;
    let mut logprobs = Vec::with_capacity(count as usize);
    for start in (0..count).step_by(CHUNK as usize) {
        let length = CHUNK.min(count - start);
        let logits_tv = model.logits(&hidden_th.f_narrow(0, start, length)?)?;
        let target = target_t.f_narrow(0, start, length)?.f_unsqueeze(1)?;
        let chosen = logits_tv.f_log_softmax(-1, Kind::Double)?.f_gather(1, &target, false)?;
        logprobs.extend(Vec::<f64>::try_from(&chosen.f_squeeze_dim(1)?)?);
    }
    match logprobs.iter().position(|logprob| !logprob.is_finite()) {
        Some(at) => Err(TorchError::Overflow { what: format!("the logprob of token {}", at + 2) }),
        None => Ok(logprobs),
    }
}

/// Next-token logits after every token of some sequences, float32 `[t, v]` each. A sequence is tokens and their positions; a token
/// attends to those that stand before it, whatever their positions.
///
/// # Errors
/// When a position is beyond the model's, or memory runs out.
pub fn sequence_logits(model: &Model, sequences: &[(&[i64], &[i64])]) -> Result<Vec<Tensor>, TorchError> {
    let _guard = tch::no_grad_guard();
    let logits = model.logits(&last_outputs(model, sequences)?)?;
    let lengths: Vec<i64> = sequences.iter().map(|(tokens, _)| tokens.len() as i64).collect();
    Ok(logits.f_split_with_sizes(&lengths, 0)?)
}

/// The last layer's output for the tokens of all sequences, one after the other: `[n, h]`.
fn last_outputs(model: &Model, sequences: &[(&[i64], &[i64])]) -> Result<Tensor, TorchError> {
    let (mut tokens, mut positions, mut list) = (Vec::new(), Vec::new(), Sequences::new());
    for (ids, places) in sequences {
        list.begin(tokens.len() as i32..(tokens.len() + ids.len()) as i32);
        list.push([]);
        tokens.extend_from_slice(ids);
        positions.extend_from_slice(places);
    }
    let n = tokens.len() as i64;
    let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(model.device());
    let longest = positions.iter().max().map_or(0, |last| last + 1);
    let (tokens, positions, tables) = (whole(&tokens)?, whole(&positions)?, model.rotary.tables(longest)?);
    let turned = Turned { positions: &positions, tables: (&tables.0, &tables.1) };
    model.run(&tokens, turned, &mut Among::new(model, &list, n)?, Room::Passing(&Scratch::new(model, n)?), 0)
}

/// [`next_token_logprobs`] of a model directory, which needs no tokenizer, computed in `dtype` on `device`.
///
/// # Errors
/// When the weights or the device cannot be had, and as [`next_token_logprobs`].
pub fn score_directory(
    dir: &ModelDir,
    tokens: &[u32],
    dtype: Dtype,
    device: DeviceChoice,
    threads: u32,
) -> Result<Vec<f64>, RunError> {
    let device = setup::prepare(device, threads)?;
    Ok(next_token_logprobs(&setup::load(dir, dtype, device)?, tokens)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Weights;
    use crate::torch::weights::tests::tiny;

    #[test]
    fn chunks_do_not_change_the_numbers() {
        let model = Model::new(
            Weights::fresh(&crate::data::Architecture { max_positions: 256, ..tiny(true) }, 3).unwrap(),
        )
        .unwrap();
        let tokens: Vec<u32> = (0..200).map(|i| i * 7 % 40).collect();
        let whole = next_token_logprobs(&model, &tokens).unwrap();
        assert_eq!(whole.len(), 199);
        // What comes later does not reach back, so a shorter sequence has the same numbers.
        let part = next_token_logprobs(&model, &tokens[..70]).unwrap();
        assert!(whole.iter().zip(&part).all(|(a, b)| (a - b).abs() < 1e-6));
        // All are of one distribution over 40 tokens that hardly knows anything.
        assert!(whole.iter().all(|logprob| (logprob + 40f64.ln()).abs() < 1.0));
    }

    #[test]
    fn what_cannot_be_scored_is_said() {
        let model = Model::new(Weights::fresh(&tiny(true), 3).unwrap()).unwrap();
        assert_eq!(next_token_logprobs(&model, &[]).unwrap(), Vec::<f64>::new());
        assert_eq!(next_token_logprobs(&model, &[5]).unwrap(), Vec::<f64>::new());
        let message = next_token_logprobs(&model, &[1, 40]).unwrap_err().to_string();
        assert!(message.contains("40") && message.contains("39"), "{message}");
        assert!(matches!(
            next_token_logprobs(&model, &[1; 65]).unwrap_err(),
            TorchError::ContextTooLong { tokens: 65, limit: 64 }
        ));
    }
}
