//! Logits to tokens: one uniform per token, inverse of the cumulative distribution.
//!
//! Shape legend: b batch, v vocabulary. Order of the filters is transformers': repetition penalty, temperature,
//! top-k, top-p, min-p. Ties in the order of tokens go to the smaller id.
//!
//! The recorded logprob is the policy's at the sampling temperature **before** top-k, top-p, min-p and the
//! repetition penalty: the quantity whose gradient training takes, so that on-policy ratios are one. (vLLM records
//! the truncated distribution instead.) Greedy tokens are recorded at temperature 1.

use tch::{Kind, Tensor};

use crate::grpo::SamplingSpec;

use super::ops::Ops;
use super::{TorchError, kernels};

/// The largest uniform used, so that rounding in the product with the total never runs past the last token.
pub(super) const LARGEST_UNIFORM: f64 = 1.0 - 1e-9;

/// Draws one token per row.
///
/// # Shapes
/// `logits_bv` float32 `[b, v]`; `seen_bv` bool `[b, v]`, tokens already in the context (needed with a repetition
/// penalty); `uniforms` one per row. Result: tokens int64 `[b]` and logprobs float32 `[b]`.
///
/// # Errors
/// When a logit is not finite, or memory runs out.
pub fn draw(
    logits_bv: &Tensor,
    uniforms: &[f64],
    seen_bv: Option<&Tensor>,
    sampling: &SamplingSpec,
) -> Result<(Tensor, Tensor), TorchError> {
    let uniform_b = Tensor::f_from_slice(uniforms)?.f_to_device(logits_bv.device())?;
    draw_at(Ops::plain(), logits_bv, &uniform_b, seen_bv, sampling)
}

/// Whether nothing but the temperature changes the distribution.
pub(super) fn is_plain(sampling: &SamplingSpec) -> bool {
    !is_truncated(sampling) && sampling.temperature > 0.0 && sampling.repetition_penalty == 1.0
}

fn is_truncated(sampling: &SamplingSpec) -> bool {
    sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0
}

/// [`draw`] with the uniforms, float64 `[b]`, where the logits are. Where nothing but the temperature changes the distribution,
/// `kernels` draws in one pass, if it is to be used.
///
/// # Errors
/// As [`draw`].
pub(super) fn draw_at(
    ops: Ops,
    logits_bv: &Tensor,
    uniform_b: &Tensor,
    seen_bv: Option<&Tensor>,
    sampling: &SamplingSpec,
) -> Result<(Tensor, Tensor), TorchError> {
    let uniform_b = uniform_b.f_clamp_max(LARGEST_UNIFORM)?;
    if ops.cpu && is_plain(sampling) {
        let (rows, device) = (logits_bv.size()[0], logits_bv.device());
        let tokens_b = Tensor::f_empty([rows], (Kind::Int64, device))?;
        let logprobs_b = Tensor::f_empty([rows], (Kind::Float, device))?;
        kernels::draw(logits_bv, sampling.temperature, &uniform_b, &tokens_b, &logprobs_b)?;
        return Ok((tokens_b, logprobs_b));
    }
    let greedy = sampling.temperature == 0.0;
    let divisor = sampling.policy_temperature();
    let logprobs_bv = scaled(logits_bv, divisor)?.f_log_softmax(-1, Kind::Float)?;
    let mut choice = match seen_bv.filter(|_| sampling.repetition_penalty != 1.0) {
        Some(seen) => scaled(&penalised(logits_bv, seen, sampling.repetition_penalty)?, divisor)?
            .f_log_softmax(-1, Kind::Float)?,
        None => logprobs_bv.shallow_clone(),
    };
    if greedy {
        let tokens = choice.f_argmax(-1, false)?;
        let logprobs = logprobs_bv.f_gather(1, &tokens.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
        return Ok((tokens, logprobs));
    }
    let mut order = None;
    if is_truncated(sampling) {
        let (sorted, ids) = choice.f_sort_stable(true, -1, true)?;
        choice = truncate(&sorted, sampling)?;
        order = Some(ids);
    }
    let cumulative = choice.f_exp()?.f_cumsum(-1, Kind::Double)?;
    let vocabulary = logits_bv.size()[1];
    let total = cumulative.f_narrow(1, vocabulary - 1, 1)?;
    let target = total.f_mul(&uniform_b.f_unsqueeze(1)?)?;
    let no_sorter: Option<&Tensor> = None;
    let mut slot =
        target.f_searchsorted(&cumulative, false, true, "right", no_sorter)?.f_clamp_max(vocabulary - 1)?;
    if let Some(ids) = order {
        slot = ids.f_gather(1, &slot, false)?;
    }
    let logprobs = logprobs_bv.f_gather(1, &slot, false)?.f_squeeze_dim(1)?;
    Ok((slot.f_squeeze_dim(1)?, logprobs))
}

fn scaled(logits: &Tensor, divisor: f64) -> Result<Tensor, TorchError> {
    // Division by one is skipped: it is most runs' case, and costs a pass over the logits.
    Ok(if divisor == 1.0 { logits.shallow_clone() } else { logits.f_div_scalar(divisor)? })
}

fn penalised(logits: &Tensor, seen: &Tensor, penalty: f64) -> Result<Tensor, TorchError> {
    let lowered =
        logits.f_div_scalar(penalty)?.f_where_self(&logits.f_gt(0.0)?, &logits.f_mul_scalar(penalty)?)?;
    Ok(lowered.f_where_self(seen, logits)?)
}

/// Sets the logprob of every token that a filter drops to minus infinity; `sorted` descends.
fn truncate(sorted_bv: &Tensor, sampling: &SamplingSpec) -> Result<Tensor, TorchError> {
    let mut kept = sorted_bv.shallow_clone();
    if sampling.top_k > 0 && i64::from(sampling.top_k) < kept.size()[1] {
        let start = i64::from(sampling.top_k);
        kept = kept.f_detach_copy()?;
        let _ = kept.f_narrow(1, start, kept.size()[1] - start)?.f_fill_(f64::NEG_INFINITY)?;
        kept = kept.f_log_softmax(-1, Kind::Float)?;
    }
    if sampling.top_p < 1.0 {
        let mass = kept.f_exp()?;
        // A token is dropped when the tokens before it already reach the mass; the first always stays.
        let before = mass.f_cumsum(-1, Kind::Double)?.f_sub(&mass)?;
        kept = kept.f_masked_fill(&before.f_ge(sampling.top_p)?, f64::NEG_INFINITY)?;
    }
    if sampling.min_p > 0.0 {
        let floor = kept.f_narrow(1, 0, 1)?.f_add_scalar(sampling.min_p.ln())?;
        kept = kept.f_masked_fill(&kept.f_lt_tensor(&floor)?, f64::NEG_INFINITY)?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Counter;

    fn plain() -> SamplingSpec {
        SamplingSpec {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_tokens: 8,
        }
    }

    /// Probabilities 0.1, 0.4, 0.3, 0.2.
    fn logits(rows: usize) -> Tensor {
        Tensor::from_slice(&[0.1f32, 0.4, 0.3, 0.2]).log().unsqueeze(0).repeat([rows as i64, 1])
    }

    fn tokens(uniforms: &[f64], sampling: &SamplingSpec) -> Vec<i64> {
        let (tokens, _) = draw(&logits(uniforms.len()), uniforms, None, sampling).unwrap();
        Vec::<i64>::try_from(tokens).unwrap()
    }

    #[test]
    fn the_inverse_cdf_is_walked_in_token_order() {
        // Cumulative: 0.1, 0.5, 0.8, 1.0.
        assert_eq!(tokens(&[0.0, 0.05, 0.2, 0.49, 0.6, 0.9, 1.0], &plain()), vec![0, 0, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn filters_keep_the_most_probable() {
        // Sorted: token 1 (0.4), 2 (0.3), 3 (0.2), 0 (0.1).
        let top_k = SamplingSpec { top_k: 2, ..plain() };
        assert_eq!(tokens(&[0.0, 0.56, 0.58, 0.99], &top_k), vec![1, 1, 2, 2]);
        let top_p = SamplingSpec { top_p: 0.6, ..plain() };
        assert_eq!(tokens(&[0.0, 0.56, 0.58, 0.99], &top_p), vec![1, 1, 2, 2]);
        let min_p = SamplingSpec { min_p: 0.6, ..plain() };
        assert_eq!(tokens(&[0.99], &min_p), vec![2]);
        let tiny_p = SamplingSpec { top_p: 0.01, ..plain() };
        assert_eq!(tokens(&[0.99], &tiny_p), vec![1]);
        let greedy = SamplingSpec { temperature: 0.0, ..plain() };
        assert_eq!(tokens(&[0.99], &greedy), vec![1]);
    }

    #[test]
    fn the_recorded_logprob_is_the_policys() {
        let top_k = SamplingSpec { top_k: 1, ..plain() };
        let (_, logprob) = draw(&logits(1), &[0.5], None, &top_k).unwrap();
        assert!((f64::try_from(logprob).unwrap() - 0.4f64.ln()).abs() < 1e-6);
        // Temperature 2 takes square roots: 0.316, 0.632, 0.548, 0.447, sum 1.943.
        let warm = SamplingSpec { temperature: 2.0, ..plain() };
        let (_, logprob) = draw(&logits(1), &[0.3], None, &warm).unwrap();
        let total: f64 = [0.1f64, 0.4, 0.3, 0.2].iter().map(|p| p.sqrt()).sum();
        assert!((f64::try_from(logprob).unwrap() - (0.4f64.sqrt() / total).ln()).abs() < 1e-6);
    }

    #[test]
    fn repetition_is_penalised_on_both_sides_of_zero() {
        let logits = Tensor::from_slice(&[2.0f32, -1.0, 0.5]).unsqueeze(0);
        let seen = Tensor::from_slice(&[true, true, false]).unsqueeze(0);
        let got = penalised(&logits, &seen, 2.0).unwrap();
        assert_eq!(Vec::<f32>::try_from(got.squeeze()).unwrap(), vec![1.0, -2.0, 0.5]);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let mut counter = Counter::new(1, "t", &[]);
        let uniforms: Vec<f64> = (0..20_000).map(|_| counter.uniform()).collect();
        let mut counts = [0u32; 4];
        for token in tokens(&uniforms, &plain()) {
            counts[token as usize] += 1;
        }
        // Deviation at most 70 for 20,000 draws.
        for (count, expected) in counts.into_iter().zip([2000, 8000, 6000, 4000]) {
            assert!(count.abs_diff(expected) < 420, "{counts:?}");
        }
    }
}
