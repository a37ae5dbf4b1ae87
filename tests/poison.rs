//! libtorch's own random numbers are nobody's: whatever state they are in when a run goes on, it comes to the same.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::cell::Cell;
use std::path::Path;

use common::Bench;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tickets::execute::{Context, Event, Outcome, Trainer};
use tickets::manifest::{self, Overrides};
use tickets::plan::{self, RunSpec};
use tickets::store::{Store, reproducible_digest};
use tickets::torch::TorchTrainer;

const STEPS: u32 = 8;

/// Executes a run in this process until so many steps are complete.
fn execute(run: &RunSpec, results: &Path, until: u32) -> Outcome {
    let store = Store::open(results).expect("a store");
    let steps = Cell::new(0);
    let events = |event: Event| {
        if let Event::Progress { step, .. } = event {
            steps.set(step);
        }
    };
    let stop = || steps.get() >= until;
    TorchTrainer.run(run, &Context { store: &store, events: &events, stop: &stop }).expect("it runs")
}

/// What must not depend on anything: digests of weights, moments, rows.
fn outcome(run: &RunSpec, results: &Path) -> [Value; 4] {
    let rows = Store::open_read_only(results).expect("a store").run_rows(run.id.as_str()).expect("rows");
    let done = rows.done.expect("it is done");
    assert_eq!(rows.metrics.len(), STEPS as usize);
    [
        done["weights_digest"].clone(),
        done["moments_digest"].clone(),
        reproducible_digest(&rows.metrics).into(),
        reproducible_digest(&rows.evals).into(),
    ]
}

fn poison(seed: i64) {
    tch::manual_seed(seed);
    let _ = Tensor::rand([97], (Kind::Float, Device::Cpu));
}

#[test]
fn the_state_of_libtorchs_generator_changes_nothing() {
    let bench = Bench::new();
    let changes = "grpo.steps = 8\neval.every = 3\nexec.checkpoint_every = 2\ngrid = [{ mask.type = ['full', 'random', 'fisher'] }]";
    bench.manifest("poison.toml", changes);
    for results in ["straight", "poisoned"] {
        bench.give_base(results);
    }
    let overrides = Overrides { set: Vec::new(), env: false };
    let path = bench.path("poison.toml");
    let loaded = manifest::load(path.to_str().expect("UTF-8"), &overrides).expect("a manifest");
    let plan = plan::expand(loaded).expect("a plan");
    for run in &plan.runs {
        let (straight, poisoned) = (bench.path("straight"), bench.path("poisoned"));
        for results in [&straight, &poisoned] {
            let store = Store::open(results).expect("a store");
            let cx = Context { store: &store, events: &|_| {}, stop: &|| false };
            if run.stages.scores.is_some() {
                poison(if *results == straight { 1 } else { 2 });
                TorchTrainer.scores(run, &cx).expect("scores");
            }
        }
        assert_eq!(execute(run, &straight, u32::MAX), Outcome::Finished);
        for (until, seed) in [(3, 12_345), (5, -1)] {
            poison(seed);
            assert_eq!(execute(run, &poisoned, until), Outcome::Paused { step: until });
        }
        poison(i64::MAX);
        assert_eq!(execute(run, &poisoned, u32::MAX), Outcome::Finished);
        assert_eq!(outcome(run, &poisoned), outcome(run, &straight), "{}", run.label);
    }
}
