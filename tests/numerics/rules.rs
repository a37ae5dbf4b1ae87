//! Settings of the loss and rollouts as the fixtures of tests/oracles/losses say them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use tickets::data::ModelDir;
use tickets::grpo::{GrpoSpec, Level, Normaliser, RatioRule};
use tickets::torch::{Model, Rollout, Weights};

use super::oracle::{integers, numbers, read};
use super::support::{grpo, share};
use super::table::larger;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/losses").join(name)
}

/// A JSON fixture.
pub fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

/// The fixtures' model, in float32.
pub fn model() -> Model {
    let folder = ModelDir::open(&path("model")).unwrap();
    let mut weights = Weights::load(&folder, Kind::Float, Device::Cpu).unwrap();
    weights.tensors = weights.tensors.into_iter().map(|tensor| tensor.set_requires_grad(true)).collect();
    Model::new(weights).unwrap()
}

/// A list of flat fixtures cut into parameters, in the order of the model's weights.
pub struct Flat {
    tensors: std::collections::BTreeMap<String, Tensor>,
    /// Name, first entry and shape of each parameter.
    places: Vec<(String, i64, Vec<i64>)>,
}

impl Flat {
    /// The file of a fixture, whose JSON says how parameters follow each other.
    pub fn open(name: &str, fixture: &Value) -> Self {
        let mut at = 0;
        let place = |parameter: &Value| {
            let shape = integers(&parameter[1]);
            let from = at;
            at += shape.iter().product::<i64>();
            (parameter[0].as_str().unwrap().to_owned(), from, shape)
        };
        let places = fixture["parameters"].as_array().unwrap().iter().map(place).collect();
        Self { tensors: read(&path(name)), places }
    }

    /// First entry and length of each of the model's weights.
    pub fn spans(&self, model: &Model) -> Vec<(i64, i64)> {
        let find = |name: &str| {
            let (_, from, shape) = self.places.iter().find(|(known, ..)| known == name).unwrap();
            (*from, shape.iter().product())
        };
        model.weights.parameters.iter().map(|parameter| find(&parameter.name)).collect()
    }

    /// The tensors of a case, in the order of the model's weights.
    pub fn case(&self, case: usize, model: &Model) -> Vec<Tensor> {
        let flat = &self.tensors[&case.to_string()];
        let find = |name: &str| {
            let (_, from, shape) = self.places.iter().find(|(known, ..)| known == name).unwrap();
            flat.narrow(0, *from, shape.iter().product()).view(shape.as_slice())
        };
        model.weights.parameters.iter().map(|parameter| find(&parameter.name)).collect()
    }
}

/// A rollout made by hand and the base model's logprobs of its drawn tokens.
pub fn rollout(value: &Value) -> (Rollout, Vec<f32>) {
    let drawn: Vec<bool> = value["drawn"].as_array().unwrap().iter().map(|d| d.as_bool().unwrap()).collect();
    let mut behavior = numbers(&value["behavior"]).into_iter();
    let logprobs = drawn.iter().map(|&d| if d { behavior.next().unwrap() as f32 } else { 0.0 }).collect();
    let tokens = integers(&value["tokens"]).into_iter().map(|id| id as u32).collect();
    let base = numbers(&value["base"]).into_iter().map(|logprob| logprob as f32).collect();
    (Rollout { tokens, drawn, logprobs, ..Rollout::default() }, base)
}

/// The rollouts of a list.
pub fn rollouts(value: &Value) -> (Vec<Rollout>, Vec<Vec<f32>>) {
    value.as_array().unwrap().iter().map(rollout).unzip()
}

/// Settings in our own words: `ratio` with its bounds, `level`, `normaliser`, `kl_coef`.
pub fn spec(case: &Value, micro_batch: u32) -> GrpoSpec {
    let number = |key: &str| case[key].as_f64().unwrap();
    let optional = |key: &str| case[key].as_f64();
    let ratio = match case["ratio"].as_str().unwrap() {
        "clip" => RatioRule::Clip {
            low: number("clip_low"),
            high: number("clip_high"),
            delta: optional("clip_delta"),
        },
        "mask" => RatioRule::Mask {
            low: number("mask_low"),
            high: number("mask_high"),
            sequence_low: optional("sequence_mask_low").unwrap_or(0.0),
        },
        _ => RatioRule::Cispo { high: number("cispo_high") },
    };
    let normaliser = match case["normaliser"].as_str().unwrap() {
        "token" => Normaliser::Token,
        "sequence" => Normaliser::Sequence,
        _ => Normaliser::Constant { tokens: case["longest"].as_u64().unwrap() as u32 },
    };
    GrpoSpec {
        kl_corrected: case["kl_corrected"].as_bool().unwrap_or(false),
        level: if case["level"] == "sequence" { Level::Sequence } else { Level::Token },
        ..grpo(ratio, normaliser, optional("kl_coef").unwrap_or(0.0), micro_batch)
    }
}

/// The largest difference of gradients, each relative to the largest entry of its tensor in the reference.
pub fn worst(got: &[Tensor], expected: &[Tensor], model: &Model) -> f64 {
    let mut worst = 0.0f64;
    for ((got, expected), parameter) in got.iter().zip(expected).zip(&model.weights.parameters) {
        let off = share(got, expected);
        assert!(off < 1e-3, "{}: off by {off}", parameter.name);
        worst = larger(worst, off);
    }
    worst
}
