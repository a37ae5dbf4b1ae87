//! Whole runs on a GPU: `make test-gpu`, where the absence of one fails. `make test` runs the same tests and says loudly
//! that it skips them when there is none.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "tests may panic")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::fs;

use common::{Bench, newest_attempt, rows, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use tch::{Device, Kind};
use tickets::grpo::{Advantage, GrpoSpec, Level, Normaliser, RatioRule};
use tickets::manifest::DeviceChoice;
use tickets::torch::{Batch, Model, Rollout, Weights, device, gradients};

/// The GPU, or `None` after a loud line. With `TICKETS_REQUIRE_CUDA=1` its absence fails the test.
fn gpu(test: &str) -> Option<Device> {
    match device::choose(DeviceChoice::Cuda) {
        Ok(found) => Some(found),
        Err(error) if std::env::var("TICKETS_REQUIRE_CUDA").is_ok_and(|value| value == "1") => {
            panic!("{error}\nhint: {}", error.hint().unwrap_or_default())
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            None
        }
    }
}

fn architecture() -> tickets::data::Architecture {
    tickets::data::Architecture {
        family: tickets::data::Family::Qwen2,
        vocab_size: 96,
        hidden_size: 64,
        intermediate_size: 160,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        attention_bias: true,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied: true,
        max_positions: 128,
    }
}

/// Rollouts that a rule gives: 12 prompt tokens, 20 drawn ones.
fn rollouts() -> Vec<Rollout> {
    (0..8u32)
        .map(|row| Rollout {
            tokens: (0..32).map(|t| (row * 31 + t * 17) % 96).collect(),
            drawn: (0..32).map(|t| t >= 12).collect(),
            logprobs: (0..32).map(|t| if t >= 12 { -4.5 } else { 0.0 }).collect(),
            answers: vec![String::new()],
            ..Rollout::default()
        })
        .collect()
}

#[test]
fn gradients_on_the_gpu_agree_with_the_cpu() {
    let Some(cuda) = gpu("gradients") else { return };
    device::set_deterministic().unwrap();
    for level in [Level::Token, Level::Sequence] {
        gradients_agree(cuda, level);
    }
}

fn gradients_agree(cuda: Device, level: Level) {
    let spec = GrpoSpec {
        steps: 1,
        rollouts_per_step: 8,
        group_size: 4,
        advantage: Advantage::Mean,
        ratio: RatioRule::Mask { low: 0.125, high: 8.0, sequence_low: 0.0 },
        level,
        normaliser: Normaliser::Token,
        kl_coef: 0.0,
        kl_corrected: false,
        minibatches: 1,
        updates_per_batch: 1,
        micro_batch: 8,
        activations_mib: 2048,
    };
    let advantages = [0.5, -0.5, 0.25, -0.25, 1.0, -1.0, 0.0, 0.75];
    let rollouts = rollouts();
    let on = |device: Device| {
        let mut weights = Weights::fresh(&architecture(), 3).unwrap();
        for tensor in &mut weights.tensors {
            *tensor = tensor.to_device(device).set_requires_grad(true);
        }
        let model = Model::new(weights).unwrap();
        let batch = Batch { rollouts: &rollouts, advantages: &advantages, reference: None, temperature: 1.0 };
        gradients(&model, batch, &spec).unwrap()
    };
    let ((cpu, on_cpu), (gpu, on_gpu)) = (on(Device::Cpu), on(cuda));
    assert!((on_cpu.loss - on_gpu.loss).abs() < 1e-5, "{} and {}", on_cpu.loss, on_gpu.loss);
    for (i, (a, b)) in cpu.iter().zip(&gpu).enumerate() {
        let wide = |tensor: &tch::Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
        let (a, b) = (wide(a), wide(b));
        let off = ((&a - &b).norm() / (a.norm() + 1e-12)).double_value(&[]);
        // Two orders of float32 summation over at most 256 rows; TF32 would be off by about 1e-3.
        assert!(off < 1e-4, "tensor {i}: relative difference {off}");
    }
    let (again, _) = on(cuda);
    assert!(gpu.iter().zip(&again).all(|(a, b)| a.equal(b)), "the same gradients twice, to the bit");
}

const CUDA: &str = r#"
    grpo = { steps = 8, rollouts_per_step = 16, minibatches = 2, micro_batch = 4, kl_coef = 0.05 }
    exec = { device = "cuda", checkpoint_every = 3 }
    grid = [{ mask.type = "full" }, { mask.type = ["fisher", "random"] }]
"#;

/// Weights, moments, metrics and evaluations of every run.
fn outcome(bench: &Bench) -> Vec<Value> {
    let plan = bench.run(&["plan", "grid.toml", "--json"]).ends(0).json();
    let outcome = |run: &Value| {
        let folder = bench.results().join(".store/run").join(run["id"].as_str().unwrap());
        let done: Value = serde_json::from_slice(&fs::read(folder.join("DONE.json")).unwrap()).unwrap();
        assert_eq!(done["meta"]["invariant"]["holds"], true);
        assert!(done["meta"]["device"].as_str().unwrap().contains("cuda"), "{done}");
        let attempt = newest_attempt(&folder).unwrap();
        serde_json::json!([
            done["meta"]["weights_digest"],
            done["meta"]["moments_digest"],
            rows(&attempt.join("metrics.jsonl")),
            rows(&attempt.join("eval.jsonl")),
        ])
    };
    plan["runs"].as_array().unwrap().iter().map(outcome).collect()
}

#[test]
fn a_grid_on_the_gpu_is_repeatable_and_resumes_exactly() {
    if gpu("resume on the GPU").is_none() {
        return;
    }
    let whole = Bench::new();
    whole.manifest("grid.toml", CUDA);
    whole.run(&["sweep", "grid.toml"]).ends(0);
    let expected = outcome(&whole);

    let cut = Bench::new();
    cut.manifest("grid.toml", CUDA);
    for rows_before in [2, 11] {
        let mut sweep = cut.start(&["sweep", "grid.toml"]);
        wait_for("rows", || cut.rows_written("results") >= rows_before || sweep.ended());
        sweep.signal(Signal::KILL);
        sweep.finish();
    }
    cut.run(&["sweep", "grid.toml"]).ends(0);
    assert_eq!(outcome(&cut), expected);
}

#[test]
fn recorded_steps_are_the_steps() {
    let Some(_) = gpu("CUDA graphs") else { return };
    let answers = |graphs: &str| {
        let bench = Bench::new();
        let grid = format!(
            "exec = {{ device = \"cuda\", cuda_graphs = {graphs} }}\nsampling.max_tokens = 48\ngrid = [{{ mask.type = \"random\" }}]"
        );
        bench.manifest("grid.toml", &grid);
        bench.run(&["sweep", "grid.toml"]).ends(0);
        outcome(&bench)
    };
    // The same operations in the same order: the same bits.
    assert_eq!(answers("true"), answers("false"));
}
