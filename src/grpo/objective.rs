//! The GRPO objective of a rollout's tokens, in `f64`, with its derivatives: the reference for `torch::loss`.
//!
//! Sources: PPO clip, Schulman et al. 2017 (arXiv 1707.06347, equation 7), with the two-sided bound of INTELLECT-2 (arXiv
//! 2505.07291), as TRL's `delta`; two-sided masking, prime-rl of late 2025 (`keep = low <= ratio <= high`, importance-weighted policy
//! gradient, whole rollouts dropped for one ratio below a bound); CISPO, MiniMax-M1 (arXiv 2506.13585), with the one-sided absolute
//! bound of TRL; the ratio of a sequence, GSPO (arXiv 2507.18071, equation 7); KL: the k3 estimator of Schulman's "Approximating KL
//! Divergence", times the ratio if wanted (DeepSeek-V3.2, arXiv 2512.02556). Departures from prime-rl: the KL term is k3 and not the log-ratio, and counted for tokens that masking drops, as
//! it is a property of the policy and not of the advantage; the ratio of a sequence is the geometric mean and not the product.

use super::{Level, Normaliser, RatioRule};

/// Logprobs of one drawn token, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The policy's.
    pub policy: f64,
    /// The one recorded when the token was drawn.
    pub behavior: f64,
    /// The base model's, for the KL term.
    pub reference: Option<f64>,
}

/// What one drawn token is worth to the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenTerm {
    /// The token's loss before normalisation.
    pub loss: f64,
    /// The derivative of the loss of all the rollout's tokens with respect to this one's logprob under the policy.
    pub gradient: f64,
    /// Whether the ratio rule took the policy gradient away, or (CISPO) cut it.
    pub clipped: bool,
}

/// The terms of a rollout's drawn tokens, of all its turns, in order.
pub fn rollout_terms(
    tokens: &[TokenLogprobs],
    advantage: f64,
    rule: RatioRule,
    level: Level,
    kl_coef: f64,
    kl_corrected: bool,
) -> Vec<TokenTerm> {
    let log_ratio = |token: &TokenLogprobs| token.policy - token.behavior;
    let mean = tokens.iter().map(log_ratio).sum::<f64>() / tokens.len() as f64;
    let lowest = tokens.iter().map(log_ratio).fold(f64::INFINITY, f64::min).exp();
    let whole = matches!(rule, RatioRule::Mask { sequence_low, .. } if lowest < sequence_low);
    let k3 = |token: &TokenLogprobs| {
        let gap = token.reference.map_or(0.0, |reference| reference - token.policy);
        (gap.exp() - gap - 1.0, 1.0 - gap.exp())
    };
    let mean_k3 = tokens.iter().map(|token| k3(token).0).sum::<f64>() / tokens.len() as f64;
    let term = |token: &TokenLogprobs| {
        // A sequence's ratio is that of all its tokens: each of their losses moves every logprob by a share of 1 / length, and
        // there are as many as that, so the derivative has the form of a single token's.
        let ratio = match level {
            Level::Token => log_ratio(token),
            Level::Sequence => mean,
        }
        .exp();
        let (loss, gradient, clipped) = policy_term(ratio, token.policy, advantage, rule, whole);
        let (mut kl, mut kl_gradient) = k3(token);
        if kl_corrected {
            // The ratio's own part: of a token's term, or a share of every token's.
            let through = match level {
                Level::Token => kl,
                Level::Sequence => mean_k3,
            };
            kl_gradient = ratio * (kl_gradient + through);
            kl *= ratio;
        }
        TokenTerm { loss: loss + kl_coef * kl, gradient: gradient + kl_coef * kl_gradient, clipped }
    };
    tokens.iter().map(term).collect()
}

/// Loss, derivative and whether the rule took or cut the gradient. `whole`: the rollout is dropped.
fn policy_term(ratio: f64, logprob: f64, advantage: f64, rule: RatioRule, whole: bool) -> (f64, f64, bool) {
    let plain = -ratio * advantage;
    match rule {
        RatioRule::Clip { low, high, delta } => {
            let bounded = ratio.clamp(1.0 - low, 1.0 + high) * advantage;
            let largest = delta.unwrap_or(f64::INFINITY);
            if ratio.min(largest) * advantage > bounded {
                (-bounded, 0.0, true)
            } else if ratio > largest && advantage < 0.0 {
                (-largest * advantage, 0.0, true)
            } else {
                (plain, plain, false)
            }
        }
        RatioRule::Mask { low, high, .. } => {
            if whole || !(low..=high).contains(&ratio) {
                (0.0, 0.0, true)
            } else {
                (plain, plain, false)
            }
        }
        RatioRule::Cispo { high } => {
            // The weight is a constant to the derivative, which is that of the logprob alone.
            let weight = -ratio.min(high) * advantage;
            (weight * logprob, weight, ratio > high)
        }
    }
}

/// The weight of every token of a rollout with `length` completion tokens, in a batch of `rollouts` rollouts with
/// `tokens` completion tokens in all. The batch loss is the weighted sum of token losses.
pub fn token_weight(normaliser: Normaliser, length: usize, rollouts: usize, tokens: usize) -> f64 {
    match normaliser {
        Normaliser::Token => 1.0 / tokens as f64,
        Normaliser::Sequence => 1.0 / (length as f64 * rollouts as f64),
        Normaliser::Constant { tokens } => 1.0 / (f64::from(tokens) * rollouts as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: RatioRule = RatioRule::Clip { low: 0.2, high: 0.3, delta: None };
    const BOUND: RatioRule = RatioRule::Clip { low: 0.2, high: 0.3, delta: Some(2.0) };
    const MASK: RatioRule = RatioRule::Mask { low: 0.125, high: 8.0, sequence_low: 0.0 };
    const STRICT: RatioRule = RatioRule::Mask { low: 0.125, high: 8.0, sequence_low: 0.25 };
    const CISPO: RatioRule = RatioRule::Cispo { high: 2.0 };
    const RULES: [RatioRule; 5] = [CLIP, BOUND, MASK, STRICT, CISPO];

    const LEVELS: [Level; 2] = [Level::Token, Level::Sequence];

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "got {got}, want {want}");
    }

    fn token(policy: f64, behavior: f64) -> TokenLogprobs {
        TokenLogprobs { policy, behavior, reference: None }
    }

    /// A rollout of one token.
    fn token_term(
        policy: f64,
        behavior: f64,
        reference: Option<f64>,
        advantage: f64,
        rule: RatioRule,
        kl_coef: f64,
    ) -> TokenTerm {
        rollout_terms(
            &[TokenLogprobs { policy, behavior, reference }],
            advantage,
            rule,
            Level::Token,
            kl_coef,
            false,
        )[0]
    }

    #[test]
    fn on_policy_tokens_have_the_plain_policy_gradient() {
        for rule in RULES {
            let term = token_term(-1.5, -1.5, None, 0.7, rule, 0.0);
            // CISPO's loss is the weighted logprob, 0.7 * 1.5; its gradient is the same.
            close(term.loss, if rule == CISPO { 1.05 } else { -0.7 });
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
    fn the_two_sided_bound_ends_the_push_on_bad_tokens() {
        let far = 4.0_f64.ln();
        // Ratio 4, bound 2: a bad token's loss stops at 2 * 1.5, and it is pushed no more; a good one was clipped before.
        let bad = token_term(far, 0.0, None, -1.5, BOUND, 0.0);
        assert_eq!((bad.gradient, bad.clipped), (0.0, true));
        close(bad.loss, 3.0);
        close(token_term(far, 0.0, None, -1.5, CLIP, 0.0).loss, 6.0);
        assert_eq!(token_term(far, 0.0, None, 1.5, BOUND, 0.0), token_term(far, 0.0, None, 1.5, CLIP, 0.0));
        assert!(!token_term(far, 0.0, None, 0.0, BOUND, 0.0).clipped, "there was no gradient to take");
        // Inside the bound nothing changes.
        let inside = 1.9_f64.ln();
        assert_eq!(
            token_term(inside, 0.0, None, -1.5, BOUND, 0.0),
            token_term(inside, 0.0, None, -1.5, CLIP, 0.0)
        );
    }

    #[test]
    fn cispo_cuts_the_weight_and_keeps_the_gradient() {
        // Ratio 4 is cut to 2: gradient -2 * 1.5; the loss is that times the logprob ln 4.
        let far = 4.0_f64.ln();
        let term = token_term(far, 0.0, None, 1.5, CISPO, 0.0);
        close(term.gradient, -3.0);
        close(term.loss, -3.0 * far);
        assert!(term.clipped);
        // Small ratios are not bounded: a quarter stays a quarter.
        let term = token_term(-far, 0.0, None, 1.5, CISPO, 0.0);
        close(term.gradient, -0.375);
        assert!(!term.clipped);
    }

    #[test]
    fn one_small_ratio_drops_a_whole_rollout() {
        // Ratios 1/5 and 1: inside [1/8, 8], but one is below 1/4.
        let tokens = [token(-(5.0_f64.ln()), 0.0), token(-1.0, -1.0)];
        let dropped = TokenTerm { loss: 0.0, gradient: 0.0, clipped: true };
        assert_eq!(rollout_terms(&tokens, 1.0, STRICT, Level::Token, 0.0, false), [dropped; 2]);
        let kept = rollout_terms(&tokens, 1.0, MASK, Level::Token, 0.0, false);
        close(kept[0].loss, -0.2);
        close(kept[1].loss, -1.0);
    }

    #[test]
    fn a_sequence_has_the_geometric_mean_of_its_ratios() {
        // Ratios 2 and 1/8: the product is 1/4, its root 1/2, below 0.8.
        let tokens = [token(2.0_f64.ln(), 0.0), token(-3.0 * 2.0_f64.ln(), 0.0)];
        for term in rollout_terms(&tokens, 2.0, CLIP, Level::Sequence, 0.0, false) {
            close(term.loss, -1.0);
            close(term.gradient, -1.0);
            assert!(!term.clipped);
        }
        for term in rollout_terms(&tokens, -2.0, CLIP, Level::Sequence, 0.0, false) {
            close(term.loss, 1.6);
            assert_eq!((term.gradient, term.clipped), (0.0, true));
        }
        let masked = rollout_terms(&tokens, 2.0, MASK, Level::Sequence, 0.0, false);
        assert!(masked.iter().all(|term| !term.clipped));
        // CISPO: weight 1/2 times advantage 2, each token's own logprob.
        let cispo = rollout_terms(&tokens, 2.0, CISPO, Level::Sequence, 0.0, false);
        close(cispo[1].loss, 3.0 * 2.0_f64.ln());
        close(cispo[1].gradient, -1.0);
    }

    #[test]
    fn gradient_equals_the_central_difference() {
        let h = 1e-6;
        for rule in RULES {
            for (level, corrected) in LEVELS.into_iter().flat_map(|level| [(level, false), (level, true)]) {
                for logprob in [-3.0, -1.4, -1.0, -0.9, -0.6, 1.5] {
                    for advantage in [-1.3, 0.4] {
                        let tokens = |x| {
                            let mut tokens = [token(x, -1.0), token(-0.8, -1.0), token(-2.1, -2.0)];
                            tokens[0].reference = Some(-1.2);
                            tokens
                        };
                        let term =
                            rollout_terms(&tokens(logprob), advantage, rule, level, 0.05, corrected)[0];
                        let sum = |x| match rule {
                            // CISPO's weight is held while the logprob moves.
                            RatioRule::Cispo { .. } => {
                                let fixed =
                                    rollout_terms(&tokens(logprob), advantage, rule, level, 0.0, false)[0];
                                let only_kl = rollout_terms(&tokens(x), 0.0, rule, level, 0.05, corrected);
                                fixed.loss / logprob * x + only_kl.iter().map(|term| term.loss).sum::<f64>()
                            }
                            _ => rollout_terms(&tokens(x), advantage, rule, level, 0.05, corrected)
                                .iter()
                                .map(|term| term.loss)
                                .sum(),
                        };
                        let slope = (sum(logprob + h) - sum(logprob - h)) / (2.0 * h);
                        assert!(
                            (slope - term.gradient).abs() < 1e-7,
                            "{rule:?} {level:?} {logprob} {advantage}: {slope} {}",
                            term.gradient
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn weights_sum_to_one_over_a_batch_but_for_a_constant() {
        let lengths = [3usize, 5, 1];
        let total =
            |normaliser| lengths.iter().map(|&n| n as f64 * token_weight(normaliser, n, 3, 9)).sum::<f64>();
        close(total(Normaliser::Token), 1.0);
        close(total(Normaliser::Sequence), 1.0);
        close(token_weight(Normaliser::Sequence, 5, 3, 9), 1.0 / 15.0);
        // Three rollouts of at most six tokens: 18 at most, 9 are there.
        close(total(Normaliser::Constant { tokens: 6 }), 0.5);
    }
}
