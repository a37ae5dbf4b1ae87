//! Reading the fixtures that tests/oracles/torch_cases.py wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use tickets::data::ModelDir;
use tickets::data::safetensors::parse;
use tickets::torch::{Model, Weights};

/// The model cases.
pub const MODELS: [&str; 4] = ["tied_gqa1", "untied_gqa2", "tied_gqa4", "untied_gqa4"];

/// A file or folder of the fixtures.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/torch").join(name)
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
