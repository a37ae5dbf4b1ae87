//! More of anything never takes less; and what corrections do.

use tickets::estimate::{
    Correction, Measured, Speed, architecture_in, estimate, of_pretrain, of_run, of_scores, predict,
};
use tickets::manifest::{ModelSource, PretrainSpec, RunConfig};
use tickets::task::{AlphabetSortSpec, TaskSpec};

use crate::{run, run_of};

fn pretrain(config: &mut RunConfig) -> &mut PretrainSpec {
    match &mut config.model.source {
        ModelSource::Pretrain(spec) => spec,
        other => panic!("{other:?}"),
    }
}

fn sort(config: &mut RunConfig) -> &mut AlphabetSortSpec {
    match &mut config.task {
        TaskSpec::AlphabetSort(spec) => spec,
        other => panic!("{other:?}"),
    }
}

/// A setting and ascending values of it.
type Ladder = (&'static str, fn(&mut RunConfig, u32), [u32; 4]);

const MORE: &[Ladder] = &[
    ("layers", |config, n| pretrain(config).layers = n, [1, 2, 5, 48]),
    ("hidden_size", |config, n| pretrain(config).hidden_size = n, [64, 128, 512, 4096]),
    ("intermediate_size", |config, n| pretrain(config).intermediate_size = n, [10, 100, 1000, 30_000]),
    ("kv_heads", |config, n| pretrain(config).kv_heads = n, [1, 2, 4, 4]),
    ("vocab_size", |config, n| pretrain(config).vocab_size = n, [300, 1000, 32_000, 152_000]),
    ("max_turns", |config, n| sort(config).max_turns = n, [1, 2, 3, 6]),
    ("max_names_per_turn", |config, n| sort(config).max_names_per_turn = n, [1, 4, 10, 25]),
    ("max_tokens", |config, n| config.sampling.max_tokens = n, [1, 16, 100, 2000]),
    ("rollouts_per_step", |config, n| config.grpo.rollouts_per_step = 16 * n, [1, 3, 8, 64]),
    ("grpo.steps", |config, n| config.grpo.steps = n, [1, 19, 80, 1000]),
    ("updates_per_batch", |config, n| config.grpo.updates_per_batch = n, [1, 2, 3, 10]),
    ("examples", |config, n| config.eval.examples = n, [1, 64, 512, 5000]),
    ("eval max_tokens", |config, n| config.eval.sampling.max_tokens = n, [1, 16, 100, 2000]),
    ("kl_coef", |config, n| config.grpo.kl_coef = f64::from(n), [0, 1, 1, 1]),
    ("top_k", |config, n| config.sampling.top_k = n, [0, 1, 1, 1]),
    ("density", |config, n| set_sparsity(config, 1.0 - f64::from(n) / 100.0), [1, 10, 50, 90]),
];

fn set_sparsity(config: &mut RunConfig, share: f64) {
    config.mask.choice_mut().expect("a Fisher mask").sparsity = share;
}

/// A Fisher run: it has all stages.
fn fisher() -> RunConfig {
    run("[mask]\ntype = \"fisher\"\nsparsity = 0.99\n[grpo]\nrollouts_per_step = 64\ngroup_size = 16\n")
}

#[test]
fn more_never_takes_less() {
    for (name, set, values) in MORE {
        for speed in [Speed::nominal(false, 2), Speed::nominal(true, 1)] {
            let predicted = values.map(|value| {
                let mut config = fisher();
                set(&mut config, value);
                let made = [estimate(&config), of_scores(&config), of_pretrain(&config)];
                made.map(|estimate| predict(&estimate.expect("known"), &speed, &Correction::default()))
            });
            for (before, after) in predicted.iter().zip(&predicted[1..]) {
                for (less, more) in before.iter().zip(after) {
                    assert!(more.rollout_seconds >= less.rollout_seconds, "{name}: {less:?} {more:?}");
                    assert!(more.train_seconds >= less.train_seconds, "{name}: {less:?} {more:?}");
                    assert!(more.eval_seconds >= less.eval_seconds, "{name}: {less:?} {more:?}");
                    assert!(more.other_seconds >= less.other_seconds, "{name}: {less:?} {more:?}");
                    // What is too much to be kept is computed again, which takes less memory.
                    let kept = if less.memory_bytes > 1 << 30 { 2 << 30 } else { 0 };
                    assert!(more.memory_bytes + kept >= less.memory_bytes, "{name}: {less:?} {more:?}");
                }
            }
            // And the setting does count in the run; a GPU may hide it behind the beginning of operations.
            let counts = predicted[3][0].seconds() > predicted[0][0].seconds();
            assert!(counts || speed.cuda, "{name}");
        }
    }
}

#[test]
fn a_larger_micro_batch_trades_memory_for_operations() {
    let of = |micro_batch| {
        let text =
            "[model]\nid = \"Qwen/Qwen2.5-0.5B\"\ndtype = \"bfloat16\"\n[task]\ntype = \"alphabet_sort\"\n";
        let mut config = run_of(text);
        config.grpo.micro_batch = micro_batch;
        // No cache of downloads: the shape is that of the table.
        let shape = architecture_in(&config, None).expect("in the table");
        of_run(&config, &shape)
    };
    let (small, large) = (of(4), of(32));
    // More than is kept at once: the inputs of all layers, and one layer of a micro-batch.
    assert!(large.memory.tape == 0 && large.memory.activations > small.memory.activations);
    assert!(large.work.train.calls < small.work.train.calls);
}

/// A run measured at so many times the predicted time and memory.
fn measured(times: f64, memory: f64) -> Measured {
    let (estimate, speed) = (estimate(&fisher()).expect("built in"), Speed::nominal(false, 1));
    let predicted = predict(&estimate, &speed, &Correction::default());
    Measured {
        estimate,
        speed,
        rollout_seconds: times * predicted.rollout_seconds,
        train_seconds: times * predicted.train_seconds,
        eval_seconds: times * predicted.eval_seconds,
        peak_memory_bytes: Some((memory * predicted.memory_bytes as f64) as u64),
    }
}

fn close(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-6
}

#[test]
fn two_runs_at_half_speed_double_the_prediction() {
    let correction = Correction::from_measured(&[measured(2.0, 1.5), measured(2.0, 1.5)]);
    assert_eq!(correction.cpu.runs, 2);
    let mut other = fisher();
    other.grpo.steps *= 3;
    other.sampling.max_tokens = 64;
    let (estimate, speed) = (estimate(&other).expect("built in"), Speed::nominal(false, 4));
    let plain = predict(&estimate, &speed, &Correction::default());
    let corrected = predict(&estimate, &speed, &correction);
    assert!(close(corrected.rollout_seconds, 2.0 * plain.rollout_seconds));
    assert!(close(corrected.train_seconds, 2.0 * plain.train_seconds));
    assert!(close(corrected.eval_seconds, 2.0 * plain.eval_seconds));
    assert_eq!(corrected.other_seconds, plain.other_seconds);
    assert!(close(corrected.memory_bytes as f64, 1.5 * plain.memory_bytes as f64));
    // A CPU says nothing of a GPU.
    let cuda = Speed::nominal(true, 1);
    assert_eq!(predict(&estimate, &cuda, &correction), predict(&estimate, &cuda, &Correction::default()));
}

#[test]
fn one_disturbed_run_moves_little() {
    let runs = [2.0, 2.1, 1.9, 500.0, 2.0].map(|times| measured(times, 1.0));
    assert!(close(Correction::from_measured(&runs).cpu.train, 2.0));
    let stopped = [2.0, 2.1, 1.9, 0.0, f64::NAN].map(|times| measured(times, 1.0));
    assert!(close(Correction::from_measured(&stopped).cpu.rollout, 2.0));
}

#[test]
fn phases_are_corrected_by_themselves_and_missing_ones_by_the_others() {
    let mut run = measured(1.0, 1.0);
    run.rollout_seconds *= 4.0;
    run.eval_seconds = 0.0;
    run.peak_memory_bytes = None;
    let factors = Correction::from_measured(&[run]).cpu;
    assert!(close(factors.rollout, 4.0) && close(factors.train, 1.0));
    // The middle of 4 and 1.
    assert!(close(factors.eval, 2.0));
    assert_eq!(factors.memory, 1.0);
    assert_eq!(Correction::from_measured(&[]), Correction::default());
}
