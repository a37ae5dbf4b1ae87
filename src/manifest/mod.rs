//! Manifests: TOML text and layers in, valid run configurations out.

mod spec;
mod standin;

pub use standin::{Manifest, ManifestError, Overrides, load};

pub use spec::{DeviceChoice, Dtype, EvalSpec, ExecSpec, ModelSource, ModelSpec, PretrainSpec, RunConfig};
