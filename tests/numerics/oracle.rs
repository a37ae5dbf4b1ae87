//! Reading the fixtures that tests/oracles/torch_cases.py and family_cases.py wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use tickets::data::ModelDir;
use tickets::data::safetensors::parse;
use tickets::grpo::{Normaliser, RatioRule};
use tickets::torch::{Batch, Model, Rollout, Weights, gradients, sequence_logits};

use super::support::{distance, grpo, share};
use super::table::{larger, row};

/// What the models are compared with.
pub const TRANSFORMERS: &str = "transformers 5.23.0";

/// The model cases.
pub const MODELS: [&str; 4] = ["tied_gqa1", "untied_gqa2", "tied_gqa4", "untied_gqa4"];

/// The cases of every family: query heads per key head, types of the file, shards, dialects, biases, rotary scaling.
pub const FAMILIES: [&str; 9] = [
    "families/qwen2_gqa3",
    "families/qwen2_gqa7",
    "families/qwen3_gqa1",
    "families/qwen3_gqa3",
    "families/qwen3_gqa4",
    "families/llama_gqa1",
    "families/llama_gqa2",
    "families/llama_gqa3",
    "families/llama_gqa4",
];

/// A file or folder of the fixtures; those of the families have `families/` in their name.
pub fn path(name: &str) -> PathBuf {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    if name.starts_with("families/") { oracles.join(name) } else { oracles.join("torch").join(name) }
}

/// A JSON fixture.
pub fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

/// The tensors of a safetensors fixture, by name, as float32.
pub fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    read(&path(name))
}

/// The tensors of a safetensors file, by name, as float32.
pub fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = parse(&bytes, path).unwrap();
    let read = |name: &str| {
        let view = file.tensor(name).unwrap();
        let kind = match view.dtype() {
            safetensors::Dtype::BF16 => Kind::BFloat16,
            _ => Kind::Float,
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind).to_kind(Kind::Float)
    };
    file.names().into_iter().map(|name| (name.to_owned(), read(name))).collect()
}

/// The model of a case.
pub fn model(name: &str, kind: Kind) -> Model {
    let mut weights = Weights::load(&ModelDir::open(&path(name)).unwrap(), kind, Device::Cpu).unwrap();
    weights.tensors = weights.tensors.into_iter().map(|tensor| tensor.set_requires_grad(true)).collect();
    Model::new(weights).unwrap()
}

/// A JSON list of integers.
pub fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|item| item.as_i64().unwrap()).collect()
}

/// A JSON list of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|item| item.as_f64().unwrap()).collect()
}

/// Our logits of a case's input, its last `keep` positions.
pub fn logits(model: &Model, input: &Value) -> Tensor {
    let (tokens, positions) = (integers(&input["tokens"]), integers(&input["positions"]));
    let keep = input["keep"].as_i64().unwrap();
    let logits = sequence_logits(model, &[(&tokens, &positions)]).unwrap().remove(0);
    logits.narrow(0, tokens.len() as i64 - keep, keep)
}

/// How far our logits of a case's inputs are from the fixture's, at most.
#[derive(Clone, Copy, Default)]
pub struct Off {
    /// In float32.
    pub wide: f64,
    /// In bfloat16, as a share of how far the fixture's own logits in bfloat16 are from those in float32. Every product is
    /// rounded to 8 bits there: two programs differ by no more than each of them differs from float32, so at most 2.
    pub half: f64,
    /// Inputs.
    pub cases: usize,
}

impl Off {
    /// Compares the inputs of a case.
    pub fn measure(name: &str, inputs: &Value) -> Self {
        let (model, half) = (model(name, Kind::Float), model(name, Kind::BFloat16));
        let expected = tensors(&format!("{name}/expected.safetensors"));
        let (mut worst, mut off_half, mut rounding) = (0.0f64, 0.0f64, 0.0f64);
        let inputs = inputs.as_array().unwrap();
        for (i, input) in inputs.iter().enumerate() {
            let (wide, narrow) = (&expected[&format!("{i}/float32")], &expected[&format!("{i}/bfloat16")]);
            worst = larger(worst, distance(&logits(&model, input), wide));
            off_half = larger(off_half, distance(&logits(&half, input), narrow));
            rounding = larger(rounding, distance(narrow, wide));
        }
        println!("{name}: float32 {worst:.1e}, bfloat16 {off_half:.1e} (rounding {rounding:.1e})");
        assert!(rounding > 1e-3, "{name}: bfloat16 is in use");
        Self { wide: worst, half: off_half / rounding, cases: inputs.len() }
    }

    /// The worst of two, on all cases of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            wide: larger(self.wide, other.wide),
            half: larger(self.half, other.half),
            cases: self.cases + other.cases,
        }
    }

    /// The rows of the parity table.
    pub fn rows(self, what: &str) {
        row(&format!("logits of {what}, float32"), TRANSFORMERS, self.cases, self.wide, 1e-4);
        let what = format!("logits of {what}, bfloat16, as a share of its rounding");
        row(&what, TRANSFORMERS, self.cases, self.half, 2.0);
    }
}

/// A rollout whose tokens from the second on count as drawn.
pub fn conversation(input: &Value) -> Rollout {
    let tokens: Vec<u32> = integers(&input["tokens"]).into_iter().map(|id| id as u32).collect();
    let length = tokens.len();
    Rollout {
        tokens,
        drawn: (0..length).map(|t| t > 0).collect(),
        logprobs: vec![0.0; length],
        ..Rollout::default()
    }
}

/// A rollout of the loss cases and the base model's logprobs of its drawn tokens.
fn fixed_rollout(value: &Value) -> (Rollout, Vec<f32>) {
    let drawn: Vec<bool> = value["drawn"].as_array().unwrap().iter().map(|d| d.as_bool().unwrap()).collect();
    let mut behavior = numbers(&value["behavior"]).into_iter();
    let logprobs = drawn.iter().map(|&d| if d { behavior.next().unwrap() as f32 } else { 0.0 }).collect();
    let tokens = integers(&value["tokens"]).into_iter().map(|id| id as u32).collect();
    let base = numbers(&value["base"]).into_iter().map(|logprob| logprob as f32).collect();
    (Rollout { tokens, drawn, logprobs, ..Rollout::default() }, base)
}

/// Gradients of loss cases against autograd's in `FOLDERgradients_INDEX.safetensors`: of each case how many tensors were
/// compared, and the worst difference of one, relative to its largest entry.
pub fn gradients_differ(cases: &Value, folder: &str) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    for (i, case) in cases.as_array().unwrap().iter().enumerate() {
        let (mut compared, mut worst) = (0, 0.0f64);
        let model = model(case["model"].as_str().unwrap(), Kind::Float);
        let (rollouts, base): (Vec<Rollout>, Vec<Vec<f32>>) =
            case["rollouts"].as_array().unwrap().iter().map(fixed_rollout).unzip();
        let number = |key: &str| case[key].as_f64().unwrap();
        let (low, high) = (number("low"), number("high"));
        let rule = match case["rule"].as_str().unwrap() {
            "clip" => RatioRule::Clip { low, high, delta: None },
            _ => RatioRule::Mask { low, high, sequence_low: 0.0 },
        };
        let normaliser = if case["normaliser"] == "token" { Normaliser::Token } else { Normaliser::Sequence };
        let expected = tensors(&format!("{folder}gradients_{i}.safetensors"));
        assert_eq!(expected.len(), model.weights.parameters.len());
        for micro_batch in [2, 6] {
            let spec = grpo(rule, normaliser, number("kl_coef"), micro_batch);
            let advantages = numbers(&case["advantages"]);
            let batch = Batch {
                rollouts: &rollouts,
                advantages: &advantages,
                reference: Some(&base),
                temperature: number("temperature"),
            };
            let (got, stats) = gradients(&model, batch, &spec).unwrap();
            assert!((stats.loss - number("loss")).abs() < 1e-6, "case {i}: loss {}", stats.loss);
            assert!((stats.kl - number("kl")).abs() < 1e-4, "case {i}: KL {}", stats.kl);
            assert!((stats.clipped - number("outside")).abs() < 0.5, "case {i}: {} clipped", stats.clipped);
            for (parameter, gradient) in model.weights.parameters.iter().zip(&got) {
                let expected = &expected[&parameter.name];
                // The key bias moves all scores of a query alike but for the rotation, so its gradient is a small
                // difference of large terms.
                worst = larger(worst, share(gradient, expected));
                compared += 1;
            }
        }
        found.push((compared, worst));
    }
    found
}
