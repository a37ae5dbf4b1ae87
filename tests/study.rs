//! The study's manifests against a second transcription of its record: settings, series, rows of grids, published scores.
//!
//! Golden plans say that nothing moved. These tests say that it was right to begin with: the numbers below were copied from
//! the record, not from the manifests.

mod manifest_support;

use manifest_support::plan_of;
use serde_json::{Value, json};
use tickets::manifest::ClaimTest;
use tickets::plan::{Plan, matches, settings};

type Settings = Vec<(String, Value)>;

fn plan(name: &str) -> Plan {
    plan_of(name, &[], &[]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn get(settings: &Settings, key: &str) -> Value {
    settings.iter().find(|(known, _)| known == key).map_or(Value::Null, |(_, value)| value.clone())
}

/// Type, sparsity, mask seed and learning rate of every run, in the order of the plan.
fn series(plan: &Plan) -> Vec<Value> {
    let row = |run: &tickets::plan::RunSpec| {
        let all = settings(&run.config);
        let cells = ["mask.type", "mask.sparsity", "mask.seed", "optimizer.lr"].map(|key| get(&all, key));
        Value::from(cells.to_vec())
    };
    plan.runs.iter().map(row).collect()
}

/// Every run of these manifests has these settings.
fn all_have(names: &[&str], wanted: &[(&str, Value)]) {
    for name in names {
        for run in &plan(name).runs {
            let found = settings(&run.config);
            for (key, value) in wanted {
                assert_eq!(get(&found, key), *value, "{name}: {}: {key}", run.label);
            }
        }
    }
}

const BLOG: [&str; 8] = [
    "base/alphabet_sort_blog",
    "blog/fig1",
    "blog/fig2",
    "blog/fig3",
    "blog/fig4",
    "blog/fig5",
    "blog/threshold",
    "lr_random",
];
const MATH: [&str; 4] = ["base/math", "paper/math", "paper/math_masks", "paper/math_layers"];

#[test]
fn the_optimizer_the_loss_and_training_draws_are_those_of_the_original_trainer() {
    let paper = ["base/alphabet_sort_paper", "paper/alphabet_sort", "base/gsm8k", "paper/gsm8k"];
    let names = [&BLOG[..], &paper, &MATH].concat();
    // The second run of a rate of the mathematics grid has another seed.
    let one_seed = [&BLOG[..], &paper, &["base/math", "paper/math_layers"]].concat();
    all_have(&one_seed, &[("seed", json!(42))]);
    all_have(
        &names,
        &[
            ("model.dtype", json!("bfloat16")),
            ("optimizer.betas.0", json!(0.9)),
            ("optimizer.betas.1", json!(0.999)),
            ("optimizer.eps", json!(1e-8)),
            ("optimizer.weight_decay", json!(0.01)),
            ("optimizer.clip_norm", json!(1.0)),
            ("grpo.advantage", json!("mean")),
            ("grpo.ratio", json!("mask")),
            ("grpo.mask_low", json!(0.125)),
            ("grpo.mask_high", json!(8.0)),
            ("grpo.normaliser", json!("token")),
            ("grpo.kl_coef", json!(0.0)),
            ("grpo.minibatches", json!(1)),
            ("grpo.updates_per_batch", json!(1)),
            ("sampling.temperature", json!(1.0)),
            ("sampling.top_p", json!(1.0)),
            ("sampling.top_k", json!(0)),
            ("sampling.min_p", json!(0.0)),
            ("sampling.repetition_penalty", json!(1.0)),
        ],
    );
}

/// Steps, rollouts of a step, rollouts of a prompt, tokens, domain of clipping, model.
fn training(numbers: [u32; 4], clip: &str, model: &str) -> Vec<(&'static str, Value)> {
    let [steps, batch, group, tokens] = numbers;
    vec![
        ("grpo.steps", steps.into()),
        ("grpo.rollouts_per_step", batch.into()),
        ("grpo.group_size", group.into()),
        ("sampling.max_tokens", tokens.into()),
        ("optimizer.clip_domain", clip.into()),
        ("model.id", model.into()),
    ]
}

#[test]
fn batches_lengths_and_models_are_those_of_each_task() {
    let instruct = "Qwen/Qwen2.5-0.5B-Instruct";
    all_have(&BLOG, &training([300, 256, 16, 512], "masked", instruct));
    let paper = ["base/alphabet_sort_paper", "paper/alphabet_sort"];
    all_have(&paper, &training([150, 512, 16, 128], "dense", instruct));
    all_have(&["base/gsm8k", "paper/gsm8k"], &training([100, 512, 16, 1024], "dense", "Qwen/Qwen2.5-0.5B"));
    all_have(&MATH, &training([100, 512, 8, 2048], "dense", "Qwen/Qwen2.5-1.5B"));
}

#[test]
fn evaluations_are_those_of_each_task() {
    // The instruct model's own sampling, where the original left it open: 0.8, 20, 1.1.
    let sorting = |examples: u32, tokens: u32| {
        vec![
            ("eval.every", json!(10)),
            ("eval.examples", examples.into()),
            ("eval.seed", json!(2001)),
            ("eval.sampling.max_tokens", tokens.into()),
            ("eval.sampling.temperature", json!(0.7)),
            ("eval.sampling.top_p", json!(0.8)),
            ("eval.sampling.top_k", json!(20)),
            ("eval.sampling.repetition_penalty", json!(1.1)),
            ("task.min_turns", json!(2)),
            ("task.max_turns", json!(2)),
            ("task.min_names_per_turn", json!(1)),
            ("task.max_names_per_turn", json!(5)),
            ("task.similarity_power", json!(4)),
            ("task.power_per_turn", json!(true)),
            ("task.seed", json!(1_337_420)),
        ]
    };
    all_have(&BLOG, &sorting(512, 512));
    all_have(&["base/alphabet_sort_paper", "paper/alphabet_sort"], &sorting(1024, 128));
    let gsm8k = [
        ("eval.gsm8k.every", json!(10)),
        ("eval.gsm8k.examples", json!(1319)),
        ("eval.gsm8k.sampling.max_tokens", json!(1024)),
        ("eval.gsm8k.sampling.temperature", json!(0.9)),
        ("eval.gsm8k.task.type", json!("gsm8k")),
        ("eval.gsm8k.task.split", json!("test")),
    ];
    all_have(&["base/gsm8k", "paper/gsm8k"], &gsm8k);
    all_have(&MATH, &gsm8k);
    let math = [
        ("eval.math500.every", json!(10)),
        ("eval.math500.examples", json!(500)),
        ("eval.math500.sampling.max_tokens", json!(1024)),
        ("eval.math500.sampling.temperature", json!(0.9)),
        ("eval.math500.task.type", json!("math")),
    ];
    all_have(&MATH, &math);
}

#[test]
fn figures_1_2_and_5_have_their_series() {
    let full = json!(["full", null, null, 1e-6]);
    let fisher = json!(["fisher", 0.99, null, 5e-6]);
    let [r2001, r42, r0] = [
        json!(["random", 0.99, 2001, 5e-5]),
        json!(["random", 0.99, 42, 5e-5]),
        json!(["random", 0.99, 0, 1e-4]),
    ];
    let sparser = json!(["fisher", 0.999, null, 1e-5]);
    assert_eq!(series(&plan("blog/fig1")), [full.clone(), fisher.clone(), sparser]);
    assert_eq!(series(&plan("blog/fig2")), [full, r2001.clone(), r42.clone(), r0.clone()]);
    assert_eq!(series(&plan("blog/fig5")), [fisher, r2001, r0, r42]);
    // The Fisher masks are of one estimate: one batch of 1,024 rollouts.
    all_have(&["blog/fig5"], &[("mask.sparsity", json!(0.99))]);
    let scores = |name: &str| {
        plan(name)
            .runs
            .into_iter()
            .filter_map(|run| run.stages.scores)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(scores("blog/fig1").len(), 1);
    assert_eq!(scores("blog/fig1"), scores("blog/fig5"));
    let first = plan("blog/fig1");
    let estimate = settings(&first.runs[1].config);
    assert_eq!(
        ["fisher.estimator", "fisher.episodes"].map(|key| get(&estimate, key)),
        [json!("batch"), json!(1024)]
    );
}

const UP: [f64; 9] = [1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1];

/// The rates of [`UP`] from one to another.
fn span(low: f64, high: f64) -> Vec<f64> {
    UP.into_iter().filter(|rate| (low..=high).contains(rate)).collect()
}

#[test]
fn the_mathematics_grid_is_that_of_the_record() {
    let mut wanted: Vec<(f64, u64, f64)> = Vec::new();
    let mut row = |sparsity: f64, seeds: &[u64], rates: Vec<f64>| {
        for &seed in seeds {
            wanted.extend(rates.iter().map(|&rate| (sparsity, seed, rate)));
        }
    };
    row(0.99, &[20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160], vec![1e-4]);
    row(0.99, &[0], span(1e-5, 1e-2));
    row(0.99, &[10], span(1e-5, 5e-3));
    row(0.99, &[42], span(1e-5, 1e-3));
    row(0.99, &[1002, 2001], span(5e-5, 5e-4));
    row(0.995, &[0], span(1e-5, 1e-3));
    row(0.995, &[10], span(5e-5, 1e-3));
    row(0.995, &[42, 1002, 2001], span(5e-5, 5e-4));
    row(0.999, &[0], span(1e-5, 1e-2));
    row(0.999, &[10], span(1e-5, 5e-3));
    row(0.999, &[42], span(1e-4, 1e-3));
    row(0.999, &[1002, 2001], span(5e-4, 1e-3));
    row(0.9995, &[0], vec![1e-5, 1e-4, 5e-4, 1e-3, 5e-3]);
    row(0.9995, &[10], span(1e-4, 5e-3));
    row(0.9995, &[42, 1002, 2001], span(5e-4, 5e-3));
    row(0.9999, &[0], span(1e-5, 1e-1));
    row(0.9999, &[10, 42, 1002, 2001], vec![1e-3, 3e-3, 4e-3, 5e-3]);
    row(0.99999, &[0], span(1e-5, 1e-2));
    row(0.99999, &[42, 1002, 2001], span(1e-3, 1e-2));
    let mut wanted = wanted.iter().map(|row| json!(["random", row.0, row.1, row.2])).collect::<Vec<_>>();
    wanted.extend([5e-7, 1e-6, 1e-6, 5e-6, 1e-5, 5e-5].map(|rate| json!(["full", null, null, rate])));
    // The first layer from 1e-6 to 5e-4, the last from 1e-7 to 5e-5.
    let first = [1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4];
    let last = [1e-7, 5e-7, 1e-6, 5e-6, 1e-5, 5e-5];
    wanted.extend([first, last].concat().into_iter().map(|rate| json!(["layers", null, null, rate])));
    let text = |rows: Vec<Value>| {
        let mut rows = rows.iter().map(Value::to_string).collect::<Vec<_>>();
        rows.sort();
        rows
    };
    let whole = plan("paper/math");
    assert_eq!(text(series(&whole)), text(wanted));
    // What asks a question of some of these runs has the same runs.
    let ids = whole.runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    for name in ["paper/math_masks", "paper/math_layers"] {
        for run in plan(name).runs {
            assert!(ids.contains(&run.id), "{name}: {}", run.label);
        }
    }
}

/// Claim, step, published score.
const SCORES: [(&str, u32, f64); 14] = [
    ("C1", 150, 0.4953),
    ("C1", 300, 0.4896),
    ("C2", 150, 0.4975),
    ("C2", 300, 0.4810),
    ("C3", 150, 0.4842),
    ("C3", 300, 0.4677),
    ("C4", 150, 0.4904),
    ("C4", 300, 0.4884),
    ("C5", 150, 0.484),
    ("C5", 300, 0.504),
    ("C6", 150, 0.446),
    ("C6", 300, 0.461),
    ("C10", 150, 0.446),
    ("C10", 300, 0.4645),
];

#[test]
fn published_scores_are_claimed_of_the_runs_that_had_them() {
    // Of each claim: the one run that it is about.
    let of = [
        ("C1", json!(["full", null, null, 1e-6])),
        ("C2", json!(["random", 0.99, 2001, 5e-5])),
        ("C3", json!(["random", 0.99, 42, 5e-5])),
        ("C4", json!(["random", 0.99, 0, 1e-4])),
        ("C5", json!(["fisher", 0.99, null, 5e-6])),
        ("C6", json!(["fisher", 0.999, null, 1e-5])),
        ("C10", json!(["random", 0.999, 42, 5e-4])),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for name in ["lr_random", "blog/fig1", "blog/fig2"] {
        let plan = plan(name);
        let runs = series(&plan);
        for claim in &plan.manifest.claims {
            let Some((_, run)) = of.iter().find(|(source, _)| *source == claim.source) else { continue };
            let ClaimTest::Value { of, measure, expect, margin } = &claim.test else { continue };
            let chosen = plan.runs.iter().zip(&runs).filter(|(run, _)| matches(of, &settings(&run.config)));
            assert_eq!(chosen.map(|(_, run)| run).collect::<Vec<_>>(), [run], "{name}: {}", claim.id);
            let step = measure.at_step.expect("a step");
            let score = SCORES.iter().find(|score| score.0 == claim.source && score.1 == step);
            assert_eq!((*expect, *margin), (score.expect("on record").2, 0.04), "{name}: {}", claim.id);
            seen.insert((claim.source.clone(), step));
        }
    }
    assert_eq!(seen.len(), SCORES.len());
}

/// The entries of the tensors of Qwen2.5: layers, hidden size, inner size, width of keys and values.
fn tensors(layers: usize, hidden: u64, inner: u64, kv: u64) -> Vec<u64> {
    let (square, narrow, wide) = (hidden * hidden, hidden * kv, hidden * inner);
    let layer = [square, hidden, narrow, kv, narrow, kv, square, wide, wide, wide, hidden, hidden];
    [vec![151_936 * hidden], layer.repeat(layers), vec![hidden]].concat()
}

#[test]
fn counts_of_random_masks_are_the_floors_of_the_tensors() {
    let mut counted = 0;
    for (names, sizes) in [
        (
            &["lr_random", "blog/threshold", "blog/fig5", "paper/alphabet_sort", "paper/gsm8k"][..],
            tensors(24, 896, 4864, 128),
        ),
        (&["paper/math"][..], tensors(28, 1536, 8960, 256)),
    ] {
        let layers = (sizes.len() as u64 - 2) / 12;
        let layer = sizes[1..sizes.len() - 1].iter().sum::<u64>() / layers;
        for plan in names.iter().map(|name| plan(name)) {
            for claim in &plan.manifest.claims {
                let ClaimTest::Count { of, expect } = &claim.test else { continue };
                for run in plan.runs.iter().filter(|run| matches(of, &settings(&run.config))) {
                    let sparsity = get(&settings(&run.config), "mask.sparsity").as_f64();
                    // In units of a hundred-thousandth the kept share is whole.
                    let kept = |sparsity: f64| 100_000 - (sparsity * 1e5).round() as u64;
                    let count = |sparsity| sizes.iter().map(|size| size * kept(sparsity) / 100_000).sum();
                    assert_eq!(
                        *expect,
                        sparsity.map_or(layer, count),
                        "{}: {}",
                        plan.manifest.name,
                        claim.id
                    );
                    counted += 1;
                }
            }
        }
    }
    assert!(counted > 200, "{counted}");
}
