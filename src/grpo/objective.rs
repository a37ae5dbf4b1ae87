//! The GRPO objective of one token, in `f64`, with its derivative: the reference for `torch::loss`.
//!
//! Sources: PPO clip, Schulman et al. 2017 (arXiv 1707.06347, equation 7); two-sided masking, prime-rl of late 2025
//! (`keep = low <= ratio <= high`, importance-weighted policy gradient); KL: the k3 estimator of Schulman's
//! "Approximating KL Divergence". Departures: the KL term is counted for tokens that masking drops, as it is
//! a property of the policy and not of the advantage.

use super::{Normaliser, RatioRule};

/// What one sampled token is worth to the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenTerm {
    /// The token's loss before normalisation.
    pub loss: f64,
    /// Its derivative with respect to the token's logprob under the policy.
    pub gradient: f64,
    /// Whether the ratio rule took the policy gradient away.
    pub clipped: bool,
}

/// One token's loss under `rule`, in nats.
///
/// `logprob` is the policy's, `behavior` the one recorded when the token was drawn, `reference` the base model's
/// (needed when `kl_coef` is not zero).
pub fn token_term(
    logprob: f64,
    behavior: f64,
    reference: Option<f64>,
    advantage: f64,
    rule: RatioRule,
    kl_coef: f64,
) -> TokenTerm {
    let ratio = (logprob - behavior).exp();
    let (loss, gradient, clipped) = match rule {
        RatioRule::Clip { low, high } => {
            let bounded = ratio.clamp(1.0 - low, 1.0 + high);
            if ratio * advantage <= bounded * advantage {
                (-ratio * advantage, -ratio * advantage, false)
            } else {
                (-bounded * advantage, 0.0, true)
            }
        }
        RatioRule::Mask { low, high } => {
            if (low..=high).contains(&ratio) {
                (-ratio * advantage, -ratio * advantage, false)
            } else {
                (0.0, 0.0, true)
            }
        }
    };
    let (kl, kl_gradient) = reference.map_or((0.0, 0.0), |reference| {
        let gap = reference - logprob;
        (gap.exp() - gap - 1.0, 1.0 - gap.exp())
    });
    TokenTerm { loss: loss + kl_coef * kl, gradient: gradient + kl_coef * kl_gradient, clipped }
}

/// The weight of every token of a rollout with `length` completion tokens, in a batch of `rollouts` rollouts with
/// `tokens` completion tokens in all. The batch loss is the weighted sum of token losses.
pub fn token_weight(normaliser: Normaliser, length: usize, rollouts: usize, tokens: usize) -> f64 {
    match normaliser {
        Normaliser::Token => 1.0 / tokens as f64,
        Normaliser::Sequence => 1.0 / (length as f64 * rollouts as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: RatioRule = RatioRule::Clip { low: 0.2, high: 0.3 };
    const MASK: RatioRule = RatioRule::Mask { low: 0.125, high: 8.0 };

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "got {got}, want {want}");
    }

    #[test]
    fn on_policy_tokens_have_the_plain_policy_gradient() {
        for rule in [CLIP, MASK] {
            let term = token_term(-1.5, -1.5, None, 0.7, rule, 0.0);
            close(term.loss, -0.7);
            close(term.gradient, -0.7);
            assert!(!term.clipped);
        }
    }

    #[test]
    fn clip_is_pessimistic() {
        // Ratio 1.5, above 1.3: a good token gains no more; a bad token is still pushed down in full.
        let above = 1.5_f64.ln();
        let good = token_term(above, 0.0, None, 2.0, CLIP, 0.0);
        close(good.loss, -2.6);
        close(good.gradient, 0.0);
        assert!(good.clipped);
        let bad = token_term(above, 0.0, None, -2.0, CLIP, 0.0);
        close(bad.loss, 3.0);
        close(bad.gradient, 3.0);
        // Ratio 0.5, below 0.8: the mirror image.
        let below = 0.5_f64.ln();
        close(token_term(below, 0.0, None, 2.0, CLIP, 0.0).gradient, -1.0);
        let bad = token_term(below, 0.0, None, -2.0, CLIP, 0.0);
        close(bad.loss, 1.6);
        assert!(bad.clipped);
    }

    #[test]
    fn masking_drops_both_tails_whatever_the_advantage() {
        for (logprob, advantage) in [(2.2, 1.0), (2.2, -1.0), (-2.2, 1.0), (-2.2, -1.0)] {
            let term = token_term(logprob, 0.0, None, advantage, MASK, 0.0);
            assert_eq!(term, TokenTerm { loss: 0.0, gradient: 0.0, clipped: true });
        }
        // exp(2) = 7.389 is inside: the term keeps its ratio, 0.5 * 7.389 = 3.6945.
        close(token_term(2.0, 0.0, None, 0.5, MASK, 0.0).loss, -0.5 * 2.0_f64.exp());
    }

    #[test]
    fn kl_is_k3_and_its_gradient_the_derivative() {
        // Gap ln 2: 2 - 0.6931 - 1 = 0.3069; derivative 1 - 2 = -1; times 0.1.
        let term = token_term(-2.0_f64.ln(), -2.0_f64.ln(), Some(0.0), 0.0, CLIP, 0.1);
        close(term.loss, 0.1 * (1.0 - 2.0_f64.ln()));
        close(term.gradient, -0.1);
    }

    #[test]
    fn gradient_equals_the_central_difference() {
        let h = 1e-6;
        for rule in [CLIP, MASK] {
            for logprob in [-3.0, -1.4, -1.0, -0.9, -0.6, 1.5] {
                for advantage in [-1.3, 0.4] {
                    let at = |x| token_term(x, -1.0, Some(-1.2), advantage, rule, 0.05);
                    let slope = (at(logprob + h).loss - at(logprob - h).loss) / (2.0 * h);
                    assert!((slope - at(logprob).gradient).abs() < 1e-7, "{rule:?} {logprob} {advantage}");
                }
            }
        }
    }

    #[test]
    fn weights_sum_to_one_over_a_batch() {
        let lengths = [3usize, 5, 1];
        for normaliser in [Normaliser::Token, Normaliser::Sequence] {
            let total: f64 = lengths.iter().map(|&n| n as f64 * token_weight(normaliser, n, 3, 9)).sum();
            close(total, 1.0);
        }
        close(token_weight(Normaliser::Sequence, 5, 3, 9), 1.0 / 15.0);
    }
}
