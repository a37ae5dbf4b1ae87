//! Learning rates that change with the steps, with the real program: interrupted equals uninterrupted, rows say the rate that was
//! used, and a run of another length takes steps over where their rate does not depend on the length, and only there.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::f64::consts::PI;

use common::Bench;

/// The options of the loss that came later, with several updates a step and micro-batches that do not divide.
const FALLING: &str = r#"
    grpo = { steps = 5, rollouts_per_step = 8, micro_batch = 3, minibatches = 2, ratio = "cispo", cispo_high = 1.05, normaliser = "constant", kl_coef = 0.05, kl_corrected = true }
    optimizer = { lr = 3e-3, schedule = "cosine", warmup_steps = 2, final_share = 0.1, decay = "study" }
    eval.every = 3
    grid = [{ mask.type = "random" }]
"#;

/// The ratio of a sequence, and a rate that stays after its warm-up.
const STAYING: &str = r#"
    grpo = { steps = 4, rollouts_per_step = 8, micro_batch = 3, minibatches = 2, level = "sequence", clip_low = 0.001, clip_high = 0.002, normaliser = "sequence" }
    optimizer = { lr = 3e-3, warmup_steps = 2 }
    grid = [{ mask.type = "full" }]
"#;

fn bench(grid: &str) -> Bench {
    let bench = Bench::new();
    bench.manifest("manifests/grid.toml", grid);
    bench.give_base("results");
    bench
}

/// The rates in a run's rows, and the shares of tokens whose gradient was taken or cut.
fn rates(bench: &Bench, set: &[&str]) -> (Vec<f64>, Vec<f64>) {
    bench.run(&[&["sweep", "grid"], set].concat()).ends(0);
    let (_, outcome) = bench.outcomes(&[&["grid"], set].concat()).pop_first().expect("a run");
    let column =
        |name: &str| outcome.metrics.iter().map(|row| row[name].as_f64().expect("a number")).collect();
    (column("lr"), column("clip_share"))
}

/// The steps that the plan takes over for its only run.
fn taken_over(bench: &Bench, set: &[&str]) -> u64 {
    let plan = bench.run(&[&["plan", "grid", "--json"], set].concat()).ends(0).json();
    plan["runs"][0]["reuse"]["taken_over"].as_u64().unwrap_or(0)
}

#[test]
fn an_interrupted_run_goes_on_at_the_rate_of_its_step() {
    // Stopped in the warm-up, and while the rate falls.
    let said = bench(FALLING).run(&["verify", "resume", "grid", "--run", "random", "--at", "1,4", "--json"]);
    assert_eq!(said.ends(0).json()["equal"], true);
}

#[test]
fn a_longer_run_with_a_falling_rate_starts_anew() {
    let bench = bench(FALLING);
    let expected = |steps: u32| {
        let fall =
            |step: u32| 0.9 * 0.5 * (1.0 + (PI * f64::from(step - 2) / f64::from(steps - 2)).cos()) + 0.1;
        (0..steps)
            .map(|step| 3e-3 * if step < 2 { f64::from(step) / 2.0 } else { fall(step) })
            .collect::<Vec<_>>()
    };
    let equal = |(got, cut): (Vec<f64>, Vec<f64>), steps: u32| {
        assert_eq!(got.len(), steps as usize);
        // Each by itself: the largest of all would leave out what is no number.
        assert!(got.iter().zip(expected(steps)).all(|(a, b)| (a - b).abs() < 1e-17), "{got:?}");
        assert!(cut.iter().any(|share| *share > 0.0) && cut.iter().all(|share| *share < 1.0), "{cut:?}");
    };
    equal(rates(&bench, &[]), 5);
    let longer = ["--set", "grpo.steps=6"];
    assert_eq!(taken_over(&bench, &longer), 0);
    let said = bench.run(&[&["sweep", "grid"][..], &longer].concat()).ends(0);
    assert!(!said.all().contains("steps over"), "{}", said.all());
    equal(rates(&bench, &longer), 6);
}

#[test]
fn a_longer_run_after_a_warm_up_goes_on() {
    let bench = bench(STAYING);
    let (rate, clipped) = rates(&bench, &[]);
    assert_eq!(rate, [0.0, 1.5e-3, 3e-3, 3e-3]);
    // The first updates of a step are on policy, the others are not.
    assert!(clipped.iter().any(|share| *share > 0.0), "{clipped:?}");
    let longer = ["--set", "grpo.steps=5"];
    assert_eq!(taken_over(&bench, &longer), 4);
    assert_eq!(rates(&bench, &longer).0, [0.0, 1.5e-3, 3e-3, 3e-3, 3e-3]);
}
