//! Sampling against brute force: every filter's distribution in float64, and which share of uniforms gives each token.

use tch::Tensor;

use tickets::counter::Counter;
use tickets::grpo::SamplingSpec;
use tickets::torch::draw;

use super::support::sampling;
use super::table::{larger, row};

const VOCABULARY: usize = 40;
/// Uniforms on a grid: an interval of the cumulative distribution holds its length times this, give or take one.
const GRID: usize = 20_000;
/// How far a share may be off.
const BOUND: f64 = 1.5 / GRID as f64;

fn logits(seed: u64) -> Vec<f32> {
    let mut counter = Counter::new(seed, "test/logits", &[]);
    (0..VOCABULARY).map(|_| (counter.normal() * 2.0) as f32).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let masses: Vec<f64> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let total: f64 = masses.iter().sum();
    masses.iter().map(|mass| mass / total).collect()
}

/// The distribution that transformers' logits processors leave, in their order, in float64.
fn reference(logits: &[f32], seen: &[bool], spec: &SamplingSpec) -> Vec<f64> {
    let mut logits: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    for (logit, _) in logits.iter_mut().zip(seen).filter(|(_, seen)| **seen) {
        *logit *= if *logit > 0.0 { 1.0 / spec.repetition_penalty } else { spec.repetition_penalty };
    }
    for logit in &mut logits {
        *logit /= spec.temperature;
    }
    let order = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        order
    };
    if spec.top_k > 0 {
        for &token in order(&logits).iter().skip(spec.top_k as usize) {
            logits[token] = f64::NEG_INFINITY;
        }
    }
    if spec.top_p < 1.0 {
        let mass = softmax(&logits);
        let mut before = 0.0;
        for token in order(&logits) {
            if before >= spec.top_p {
                logits[token] = f64::NEG_INFINITY;
            }
            before += mass[token];
        }
    }
    if spec.min_p > 0.0 {
        let mass = softmax(&logits);
        let top = mass.iter().copied().fold(0.0, f64::max);
        for (logit, mass) in logits.iter_mut().zip(mass) {
            if mass < spec.min_p * top {
                *logit = f64::NEG_INFINITY;
            }
        }
    }
    softmax(&logits)
}

fn cases() -> Vec<SamplingSpec> {
    let plain = sampling(1);
    vec![
        plain.clone(),
        SamplingSpec { temperature: 0.6, ..plain.clone() },
        SamplingSpec { temperature: 1.7, ..plain.clone() },
        SamplingSpec { top_k: 1, ..plain.clone() },
        SamplingSpec { top_k: 7, ..plain.clone() },
        SamplingSpec { top_k: 400, ..plain.clone() },
        SamplingSpec { top_p: 0.5, ..plain.clone() },
        SamplingSpec { top_p: 0.95, ..plain.clone() },
        SamplingSpec { min_p: 0.1, ..plain.clone() },
        SamplingSpec { repetition_penalty: 1.3, ..plain.clone() },
        SamplingSpec { repetition_penalty: 0.8, ..plain.clone() },
        SamplingSpec {
            temperature: 0.8,
            top_p: 0.9,
            top_k: 12,
            min_p: 0.02,
            repetition_penalty: 1.2,
            max_tokens: 1,
        },
    ]
}

#[test]
fn every_filter_gives_the_distribution_of_brute_force() {
    let uniforms: Vec<f64> = (0..GRID).map(|i| (i as f64 + 0.5) / GRID as f64).collect();
    let (mut compared, mut worst, mut recorded) = (0, 0.0f64, 0.0f64);
    for (case, spec) in cases().iter().enumerate() {
        for seed in 0..4 {
            let logits = logits(seed);
            let seen: Vec<bool> = (0..VOCABULARY).map(|token| token % 3 == 0).collect();
            let expected = reference(&logits, &seen, spec);
            let rows = |values: Tensor| values.unsqueeze(0).repeat([GRID as i64, 1]);
            let (tokens, logprobs) = draw(
                &rows(Tensor::from_slice(&logits)),
                &uniforms,
                Some(&rows(Tensor::from_slice(&seen))),
                spec,
            )
            .unwrap();
            let mut counts = [0usize; VOCABULARY];
            let policy =
                softmax(&logits.iter().map(|&l| f64::from(l) / spec.temperature).collect::<Vec<_>>());
            let tokens = Vec::<i64>::try_from(tokens).unwrap();
            for (token, logprob) in tokens.into_iter().zip(Vec::<f32>::try_from(logprobs).unwrap()) {
                counts[token as usize] += 1;
                // What is recorded is the policy's, whatever the filters did.
                recorded = larger(recorded, (f64::from(logprob) - policy[token as usize].ln()).abs());
            }
            for (token, (count, expected)) in counts.iter().zip(&expected).enumerate() {
                let off = (*count as f64 / GRID as f64 - expected).abs();
                assert!(off < BOUND, "case {case} seed {seed} token {token}: {expected}, off {off}");
                worst = larger(worst, off);
                compared += 1;
                assert!(*expected > 0.0 || *count == 0, "case {case}: a dropped token was drawn");
            }
        }
    }
    let against = "transformers' order of filters, brute force in float64";
    row("share of draws of a token, every filter", against, compared, worst, BOUND);
    let draws = cases().len() * 4 * GRID;
    row("logprobs recorded with draws", "log-softmax in float64", draws, recorded, 1e-5);
}

#[test]
fn greedy_takes_the_likeliest_after_the_penalty() {
    let logits = Tensor::from_slice(&[2.0f32, 1.9, -1.0]).unsqueeze(0);
    let seen = Tensor::from_slice(&[true, false, false]).unsqueeze(0);
    let plain = SamplingSpec { temperature: 0.0, ..sampling(1) };
    let penalised = SamplingSpec { repetition_penalty: 1.5, ..plain.clone() };
    let total: f64 = [2.0f64, 1.9, -1.0].iter().map(|logit| logit.exp()).sum();
    for (spec, token, logit) in [(plain, 0, 2.0f64), (penalised, 1, 1.9)] {
        let (tokens, logprobs) = draw(&logits, &[0.99], Some(&seen), &spec).unwrap();
        assert_eq!(tokens.int64_value(&[0]), token);
        assert!((logprobs.double_value(&[0]) - (logit - total.ln())).abs() < 1e-6);
    }
}

#[test]
fn the_ends_of_the_unit_interval_give_possible_tokens() {
    // The likeliest tokens stand in the middle: 0 and 1 must not fall on impossible ones at either end.
    let logits = Tensor::from_slice(&[f32::MIN, 1.0, 2.0, f32::MIN]).unsqueeze(0).repeat([3, 1]);
    for spec in [sampling(1), SamplingSpec { top_k: 3, ..sampling(1) }] {
        let (tokens, _) = draw(&logits, &[0.0, 1.0 - f64::EPSILON / 2.0, 1.0], None, &spec).unwrap();
        let tokens = Vec::<i64>::try_from(tokens).unwrap();
        assert!(tokens.iter().all(|token| [1, 2].contains(token)), "{tokens:?}");
    }
}
