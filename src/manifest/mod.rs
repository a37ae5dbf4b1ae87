//! Manifests: TOML text and layers in, valid run configurations out.

mod spec;

pub use spec::{DeviceChoice, Dtype, EvalSpec, ExecSpec, ModelSource, ModelSpec, PretrainSpec, RunConfig};
