//! A grid, its plan, and runs of it that are finished by hand.

use serde_json::{Value, json};
use tickets::manifest::load_with;
use tickets::plan::{Plan, RunSpec, expand, record};
use tickets::store::Store;

use crate::common::Bench;

/// Two rates of two masks; 8 steps, evaluated after every fourth.
pub const GRID: &str = r#"
    grpo = { steps = 8 }
    eval.every = 4
    grid = [{ mask.type = "random", mask.seed = [0, 1], optimizer.lr = [1e-3, 1e-2] }, { mask.type = "full" }]
"#;

pub fn bench() -> Bench {
    let bench = Bench::new();
    bench.manifest("manifests/grid.toml", GRID);
    bench
}

pub fn plan(bench: &Bench, name: &str) -> Plan {
    let path = bench.path("manifests").join(name);
    expand(load_with(path.to_str().expect("UTF-8"), &[], &[]).expect("loaded")).expect("planned")
}

/// Finishes a run as a trainer would, with scores that tell runs apart.
pub fn finish(bench: &Bench, manifest: &str, run: &RunSpec, score: f64) {
    let store = Store::open(&bench.results()).expect("a store");
    let mut attempt = store.begin(run.id.as_str()).expect("an attempt");
    let row = |value: Value| value.as_object().expect("an object").clone();
    let steps = run.config.grpo.steps;
    for step in 1..=steps {
        let kl = if step % run.config.eval.every == 0 || step == steps { json!(0.5) } else { Value::Null };
        attempt
            .metrics(&row(
                json!({ "step": step, "reward/mean": score, "kl/base": kl, "train_seconds": score }),
            ))
            .expect("written");
    }
    for step in (0..=steps).filter(|step| step % run.config.eval.every == 0 || *step == steps) {
        attempt.eval(&row(json!({ "step": step, "eval/score": score }))).expect("written");
    }
    attempt
        .finish(
            &[("state.safetensors", b"state")],
            json!({ "optimizer_steps": 8, "threads": 1, "build": build() }),
        )
        .expect("finished");
    store.describe_run(run.id.as_str(), record(run, manifest)).expect("written");
}

/// The digest of the program under test, by which it tells builds apart.
fn build() -> String {
    tickets::store::digest(&std::fs::read(env!("CARGO_BIN_EXE_tickets")).expect("the program"))
}

pub fn runs(object: &Value) -> &Vec<Value> {
    object["runs"].as_array().expect("a list")
}

/// What a run of `plan --json` says under a key, by label.
pub fn of<'j>(object: &'j Value, label: &str, key: &str) -> &'j Value {
    &runs(object).iter().find(|run| run["label"] == label).unwrap_or_else(|| panic!("no {label}"))[key]
}
