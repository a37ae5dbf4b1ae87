//! The GRPO loss on tensors against its scalar reference, and its gradient cut into micro-batches.

use tch::{Kind, Tensor};

use tickets::counter::Counter;
use tickets::grpo::{GrpoSpec, Level, Normaliser, RatioRule, TokenLogprobs, rollout_terms, token_weight};
use tickets::torch::{Batch, Item, Model, Rollout, gradients, objective, pack, score};

use super::support::{distance, grpo, model, relative, rollout};
use super::table::{larger, row};

const RULES: [RatioRule; 5] = [
    RatioRule::Clip { low: 0.2, high: 0.28, delta: None },
    RatioRule::Mask { low: 0.5, high: 2.0, sequence_low: 0.0 },
    RatioRule::Clip { low: 0.2, high: 0.28, delta: Some(1.4) },
    RatioRule::Mask { low: 0.5, high: 2.0, sequence_low: 0.3 },
    RatioRule::Cispo { high: 1.2 },
];
const LEVELS: [Level; 2] = [Level::Token, Level::Sequence];
const NORMALISERS: [Normaliser; 3] =
    [Normaliser::Token, Normaliser::Sequence, Normaliser::Constant { tokens: 12 }];

/// One and two turns, of lengths from one token up.
fn rollouts() -> Vec<Rollout> {
    let mut counter = Counter::new(1, "test/rollouts", &[]);
    let spans: [&[(bool, usize)]; 7] = [
        &[(false, 3), (true, 5)],
        &[(false, 7), (true, 1)],
        &[(false, 2), (true, 4), (false, 3), (true, 6)],
        &[(false, 1), (true, 9)],
        &[(false, 4), (true, 2), (false, 1), (true, 1), (false, 2), (true, 3)],
        &[(false, 12), (true, 2)],
        &[(false, 5), (true, 5)],
    ];
    spans.iter().map(|spans| rollout(spans, &mut counter, -5.0)).collect()
}

const ADVANTAGES: [f64; 7] = [0.5, -0.25, 1.5, -1.0, 0.0, 0.75, -0.5];

/// Rollouts whose behavior logprobs are the model's own, off by about a tenth: ratios on both sides of the bounds.
fn near_policy(model: &Model) -> Vec<Rollout> {
    let mut counter = Counter::new(2, "test/behavior", &[]);
    let mut rollouts = rollouts();
    let scored = score(model, &rollouts, 1.0, 7).unwrap();
    for (rollout, scored) in rollouts.iter_mut().zip(scored) {
        let mut scored = scored.into_iter();
        for t in 0..rollout.tokens.len() {
            if rollout.drawn[t] {
                rollout.logprobs[t] = scored.next().unwrap() + (counter.normal() * 0.3) as f32;
            }
        }
    }
    rollouts
}

#[test]
fn terms_and_derivatives_are_those_of_the_scalar_reference() {
    let model = model(true, 0.3);
    let rollouts = rollouts();
    let (mut cases, mut off) = (0, [0.0f64; 2]);
    let tokens: usize = rollouts.iter().map(Rollout::length).sum();
    for normaliser in NORMALISERS {
        let weights: Vec<f64> = rollouts
            .iter()
            .map(|rollout| token_weight(normaliser, rollout.length(), rollouts.len(), tokens))
            .collect();
        let settings = RULES.into_iter().flat_map(|rule| LEVELS.map(|level| (rule, level)));
        let kls = [(0.0, false), (0.2, false), (0.2, true)];
        for ((rule, level), (kl_coef, kl_corrected)) in
            settings.flat_map(|setting| kls.map(|kl| (setting, kl)))
        {
            let mut counter = Counter::new(3, "test/logprobs", &[]);
            let (mut policy, mut bases, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            let (mut loss, mut clipped, mut kl) = (0.0, 0, 0.0);
            for (rollout, (advantage, weight)) in rollouts.iter().zip(ADVANTAGES.iter().zip(&weights)) {
                let (mut drawn, mut base) = (Vec::new(), Vec::new());
                for t in (0..rollout.tokens.len()).filter(|&t| rollout.drawn[t]) {
                    let behavior = rollout.logprobs[t];
                    // Log-ratios of deviation 0.5 lie on both sides of every bound.
                    let logprob = behavior + (counter.normal() * 0.5) as f32;
                    let reference = logprob + (counter.normal() * 0.5) as f32;
                    let [p, b, r] = [logprob, behavior, reference].map(f64::from);
                    drawn.push(TokenLogprobs { policy: p, behavior: b, reference: Some(r) });
                    kl += (r - p).exp() - (r - p) - 1.0;
                    policy.push(logprob);
                    base.push(reference);
                }
                for term in rollout_terms(&drawn, *advantage, rule, level, kl_coef, kl_corrected) {
                    loss += weight * term.loss;
                    clipped += usize::from(term.clipped);
                    expected.push((weight * term.gradient) as f32);
                }
                bases.push(base);
            }
            let policy = Tensor::from_slice(&policy);
            let items: Vec<Item<'_>> = (0..rollouts.len())
                .map(|i| {
                    let (advantage, weight) = (ADVANTAGES[i], weights[i]);
                    Item { rollout: &rollouts[i], advantage, weight, reference: Some(&bases[i]) }
                })
                .collect();
            let packed = pack(&items, model.device()).unwrap();
            let spec = GrpoSpec { level, kl_corrected, ..grpo(rule, normaliser, kl_coef, 7) };
            let (slope, stats) = objective(&policy, &packed, &spec).unwrap();
            let what = format!("{rule:?} {level:?} {normaliser:?}");
            cases += 1;
            off[0] = larger(off[0], (stats.loss - loss).abs() / loss.abs().max(1.0));
            assert!((stats.clipped - clipped as f64).abs() < 0.5, "{what}: {} and {clipped}", stats.clipped);
            // A rollout's ratio is nearer to one than its tokens'.
            let both = clipped > 3 && clipped < tokens - 3;
            assert!(both || level == Level::Sequence, "{what}: {clipped} of {tokens}");
            assert!((stats.kl - kl).abs() < 1e-4, "{} and {kl}", stats.kl);
            off[1] = larger(off[1], distance(&slope, &Tensor::from_slice(&expected)));
        }
    }
    let against = "the formulas of single tokens, float64";
    row("loss, every rule, level, normaliser and KL", against, cases, off[0], 1e-6);
    row("derivatives by logprobs, every rule, level, normaliser and KL", against, cases, off[1], 1e-6);
}

#[test]
fn micro_batches_change_nothing_but_rounding() {
    let model = model(false, 0.3);
    let rollouts = near_policy(&model);
    let base: Vec<Vec<f32>> = score(&model, &rollouts, 0.9, 7).unwrap();
    for normaliser in NORMALISERS {
        for (rule, level) in RULES.into_iter().flat_map(|rule| LEVELS.map(|level| (rule, level))) {
            let run = |micro_batch| {
                let batch = Batch {
                    rollouts: &rollouts,
                    advantages: &ADVANTAGES,
                    reference: Some(&base),
                    temperature: 1.1,
                };
                let spec = GrpoSpec { level, kl_corrected: true, ..grpo(rule, normaliser, 0.1, micro_batch) };
                gradients(&model, batch, &spec).unwrap()
            };
            let (whole, whole_stats) = run(7);
            assert!(whole.iter().all(|gradient| gradient.abs().max().double_value(&[]) > 0.0));
            for micro_batch in [1, 3, 128] {
                let (cut, stats) = run(micro_batch);
                let off = relative(&cut, &whole);
                assert!(off < 2e-5, "micro-batch {micro_batch}: off by {off}");
                assert_eq!(stats.tokens, whole_stats.tokens);
                for (a, b) in [
                    (stats.loss, whole_stats.loss),
                    (stats.kl, whole_stats.kl),
                    (stats.entropy, whole_stats.entropy),
                    (stats.clipped, whole_stats.clipped),
                ] {
                    assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{a} and {b}");
                }
            }
        }
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let model = model(true, 0.3);
    let rollouts = near_policy(&model);
    let spec = grpo(RULES[1], Normaliser::Sequence, 0.0, 7);
    let run = || {
        let batch = Batch { rollouts: &rollouts, advantages: &ADVANTAGES, reference: None, temperature: 1.0 };
        gradients(&model, batch, &spec).unwrap()
    };
    let (gradients, _) = run();
    // Along the gradient itself the slope is its norm: the direction in which rounding matters least.
    let norm = tickets::torch::norm(&gradients).unwrap();
    let shift = |by: f64| {
        tch::no_grad(|| {
            for (weight, gradient) in model.weights.tensors.iter().zip(&gradients) {
                let _ = weight.shallow_clone().g_add_(&(gradient * (by / norm)));
            }
        });
    };
    let h = 2e-3;
    shift(h);
    let above = run().1.loss;
    shift(-2.0 * h);
    let below = run().1.loss;
    let slope = (above - below) / (2.0 * h);
    assert!((slope - norm).abs() < 2e-3 * norm, "slope {slope}, norm {norm}");
}

#[test]
fn batches_that_teach_nothing_have_zero_gradients() {
    let model = model(true, 0.3);
    let rollouts = near_policy(&model);
    for rule in RULES {
        for normaliser in NORMALISERS {
            let batch =
                Batch { rollouts: &rollouts, advantages: &[0.0; 7], reference: None, temperature: 1.0 };
            let (gradients, stats) = gradients(&model, batch, &grpo(rule, normaliser, 0.0, 3)).unwrap();
            assert_eq!(tickets::torch::norm(&gradients).unwrap(), 0.0);
            assert_eq!(stats.loss, 0.0);
        }
    }
}

#[test]
fn a_rollout_without_drawn_tokens_takes_no_part() {
    let model = model(true, 0.3);
    let mut rollouts = near_policy(&model);
    let mut counter = Counter::new(9, "test/mute", &[]);
    rollouts.insert(0, rollout(&[(false, 6)], &mut counter, -5.0));
    let mut advantages = ADVANTAGES.to_vec();
    advantages.insert(0, 0.5);
    for micro_batch in [1, 8] {
        let spec = grpo(RULES[0], Normaliser::Token, 0.0, micro_batch);
        let batch = Batch { rollouts: &rollouts, advantages: &advantages, reference: None, temperature: 1.0 };
        let rest = Batch { rollouts: &rollouts[1..], advantages: &ADVANTAGES, ..batch };
        let ((with, _), (without, _)) =
            (gradients(&model, batch, &spec).unwrap(), gradients(&model, rest, &spec).unwrap());
        assert!(relative(&with, &without) < 2e-5);
    }
}

#[test]
fn half_precision_gradients_are_summed_in_float32() {
    let wide = super::oracle::model("untied_gqa2", Kind::BFloat16);
    let half = super::oracle::model("untied_gqa2", Kind::BFloat16);
    // The same numbers in float32: only the arithmetic differs.
    let mut weights = wide.weights;
    for tensor in &mut weights.tensors {
        *tensor = tensor.detach().to_kind(Kind::Float).set_requires_grad(true);
    }
    let wide = Model::new(weights).unwrap();
    let rollouts: Vec<Rollout> = near_policy(&model(true, 0.3))
        .into_iter()
        .map(|rollout| Rollout { tokens: rollout.tokens.iter().map(|id| id % 48).collect(), ..rollout })
        .collect();
    let run = |model: &Model, micro_batch| {
        let batch = Batch { rollouts: &rollouts, advantages: &ADVANTAGES, reference: None, temperature: 1.0 };
        let spec = grpo(
            RatioRule::Mask { low: 0.0, high: 1e9, sequence_low: 0.0 },
            Normaliser::Token,
            0.0,
            micro_batch,
        );
        gradients(model, batch, &spec).unwrap().0
    };
    let flat = |gradients: Vec<Tensor>| {
        assert!(gradients.iter().all(|gradient| gradient.kind() == Kind::Float));
        Tensor::cat(&gradients.iter().map(|gradient| gradient.view([-1])).collect::<Vec<_>>(), 0)
    };
    let exact = flat(run(&wide, 7));
    for micro_batch in [1, 7] {
        let rough = flat(run(&half, micro_batch));
        let off = (&rough - &exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
        println!("micro-batch {micro_batch}: {off:.1e}");
        // Eight bits of mantissa in every product of two layers.
        assert!(off > 1e-4 && off < 0.05, "micro-batch {micro_batch}: off by {off}");
    }
}

#[test]
fn a_conversation_that_begins_with_a_drawn_token_is_refused() {
    let model = model(true, 0.3);
    let mut counter = Counter::new(9, "test/promptless", &[]);
    let rollouts = [rollout(&[(true, 3)], &mut counter, -5.0)];
    let message = score(&model, &rollouts, 1.0, 1).unwrap_err().to_string();
    assert!(message.contains("the prompt is empty"), "{message}");
}
