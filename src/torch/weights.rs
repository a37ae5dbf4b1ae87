//! The numbers of a model: loading, initialising, serialising. Tensors stand in study order.
//!
//! Invariant: names, shapes and types of all tensors are checked before the first one is copied.

use std::path::{Path, PathBuf};

use safetensors::Dtype as FileType;
use tch::{Device, Kind, Tensor};

use crate::counter::Counter;
use crate::data::safetensors::{RawTensor, parse};
use crate::data::{Architecture, ModelDir, Parameter};
use crate::sparsity::TensorSize;

use super::TorchError;

/// All parameters of a model.
#[derive(Debug)]
pub struct Weights {
    /// The shape of the decoder.
    pub architecture: Architecture,
    /// Names and shapes, in study order.
    pub parameters: Vec<Parameter>,
    /// One tensor per parameter, contiguous.
    pub tensors: Vec<Tensor>,
}

impl Weights {
    /// Loads a model directory, converting to `kind` on `device`.
    ///
    /// # Errors
    /// When a file is damaged, or a tensor is missing, unknown, or of the wrong shape or type.
    pub fn load(dir: &ModelDir, kind: Kind, device: Device) -> Result<Self, TorchError> {
        let mut contents = Vec::new();
        for path in &dir.weights {
            let bytes = std::fs::read(path)
                .map_err(|source| crate::data::DataError::Read { path: path.clone(), source })?;
            contents.push((path.clone(), bytes));
        }
        Self::parse(&dir.architecture, &contents, kind, device)
    }

    /// Reads weights from the bytes of one or several safetensors files.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn parse(
        architecture: &Architecture,
        files: &[(PathBuf, Vec<u8>)],
        kind: Kind,
        device: Device,
    ) -> Result<Self, TorchError> {
        let parsed = files.iter().map(|(path, bytes)| parse(bytes, path)).collect::<Result<Vec<_>, _>>()?;
        let first = files.first().map_or_else(|| PathBuf::from("(no file)"), |(path, _)| path.clone());
        let parameters = architecture.parameters();
        let bad = |file: &Path, tensor: &str, what: String| TorchError::Tensor {
            file: file.into(),
            tensor: tensor.into(),
            what,
        };
        let mut views = Vec::with_capacity(parameters.len());
        for parameter in &parameters {
            let mut found = None;
            for (file, (path, _)) in parsed.iter().zip(files) {
                if let Ok(view) = file.tensor(&parameter.name) {
                    found = Some((view, path));
                    break;
                }
            }
            let (view, path) =
                found.ok_or_else(|| bad(&first, &parameter.name, "it is missing from the file".into()))?;
            if view.shape() != parameter.shape {
                let what =
                    format!("its shape is {:?}, config.json asks for {:?}", view.shape(), parameter.shape);
                return Err(bad(path, &parameter.name, what));
            }
            let file_kind = match view.dtype() {
                FileType::F32 => Kind::Float,
                FileType::BF16 => Kind::BFloat16,
                FileType::F16 => Kind::Half,
                other => {
                    let what = format!("type {other:?} is not supported, only F32, BF16 and F16");
                    return Err(bad(path, &parameter.name, what));
                }
            };
            views.push((view, file_kind, path));
        }
        for (file, (path, _)) in parsed.iter().zip(files) {
            let mut names: Vec<&str> = file.names().into_iter().collect();
            names.sort_unstable();
            for name in names {
                let known = parameters.iter().any(|parameter| parameter.name == name)
                    || (architecture.tied && name == "lm_head.weight")
                    || name.ends_with(".rotary_emb.inv_freq");
                if !known {
                    return Err(bad(path, name, "the architecture has no such tensor".into()));
                }
            }
        }
        let mut tensors = Vec::with_capacity(views.len());
        for ((view, file_kind, path), parameter) in views.iter().zip(&parameters) {
            let shape: Vec<i64> = parameter.shape.iter().map(|&n| n as i64).collect();
            let raw = Tensor::f_from_data_size(view.data(), &shape, *file_kind)?;
            let tensor = raw.f_to_kind(kind)?.f_to_device(device)?.f_contiguous()?;
            if !f64::try_from(tensor.f_abs()?.f_max()?.f_to_kind(Kind::Double)?)?.is_finite() {
                return Err(bad(path, &parameter.name, "it holds NaN or infinite values".into()));
            }
            tensors.push(tensor);
        }
        Ok(Self { architecture: architecture.clone(), parameters, tensors })
    }

    /// Fresh float32 weights: matrices normal with deviation 0.02, biases 0, norms 1. Counter-based, so equal on
    /// every machine up to the rounding of `ln` and `cos`.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn fresh(architecture: &Architecture, seed: u64) -> Result<Self, TorchError> {
        let parameters = architecture.parameters();
        let mut tensors = Vec::with_capacity(parameters.len());
        for parameter in &parameters {
            let mut counter = Counter::new(seed, &format!("init/{}", parameter.name), &[]);
            let value = |counter: &mut Counter| match parameter.shape.len() {
                1 if parameter.name.contains("_proj.bias") => 0.0,
                1 => 1.0,
                _ => (counter.normal() * 0.02) as f32,
            };
            let values: Vec<f32> = (0..parameter.elements()).map(|_| value(&mut counter)).collect();
            let shape: Vec<i64> = parameter.shape.iter().map(|&n| n as i64).collect();
            tensors.push(Tensor::f_from_slice(&values)?.f_view(shape.as_slice())?);
        }
        Ok(Self { architecture: architecture.clone(), parameters, tensors })
    }

    /// Names and element counts, as masks need them.
    pub fn sizes(&self) -> Vec<TensorSize> {
        self.parameters
            .iter()
            .map(|parameter| TensorSize { name: parameter.name.clone(), elements: parameter.elements() })
            .collect()
    }

    /// All tensors as little-endian bytes, in study order.
    ///
    /// # Errors
    /// When a tensor cannot be copied to the host.
    pub fn to_raw(&self) -> Result<Vec<RawTensor>, TorchError> {
        self.parameters
            .iter()
            .zip(&self.tensors)
            .map(|(parameter, tensor)| raw(&parameter.name, &parameter.shape, tensor))
            .collect()
    }

    /// blake3 over every tensor's bytes in study order, in hex.
    ///
    /// # Errors
    /// As [`Weights::to_raw`].
    pub fn digest(&self) -> Result<String, TorchError> {
        let mut hasher = blake3::Hasher::new();
        for (parameter, tensor) in self.parameters.iter().zip(&self.tensors) {
            hasher.update(&raw(&parameter.name, &parameter.shape, tensor)?.bytes);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// A tensor as little-endian bytes.
///
/// # Errors
/// When it cannot be copied to the host or has a type that the store does not know.
pub fn raw(name: &str, shape: &[usize], tensor: &Tensor) -> Result<RawTensor, TorchError> {
    let (dtype, width) = match tensor.kind() {
        Kind::Float => ("F32", 4),
        Kind::BFloat16 => ("BF16", 2),
        Kind::Half => ("F16", 2),
        Kind::Int => ("I32", 4),
        other => {
            return Err(TorchError::Op {
                message: format!("{name} has type {other:?}, which is not stored"),
            });
        }
    };
    let host = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let elements = host.numel();
    let mut bytes = vec![0u8; elements * width];
    host.f_copy_data_u8(&mut bytes, elements)?;
    Ok(RawTensor { name: name.into(), dtype, shape: shape.to_vec(), bytes })
}

/// A stored float32 tensor, one-dimensional, on `device`.
///
/// # Errors
/// When the view has another type.
pub fn float_vector(
    view: &safetensors::tensor::TensorView<'_>,
    device: Device,
) -> Result<Tensor, TorchError> {
    if view.dtype() != FileType::F32 {
        return Err(TorchError::Restore {
            what: format!("a vector of type {:?}, F32 expected", view.dtype()),
        });
    }
    let elements: usize = view.shape().iter().product();
    Ok(Tensor::f_from_data_size(view.data(), &[elements as i64], Kind::Float)?.f_to_device(device)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::data::safetensors::to_bytes;
    use std::collections::BTreeMap;

    pub(crate) fn tiny(tied: bool) -> Architecture {
        Architecture {
            vocab_size: 40,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            rope_theta: 10_000.0,
            rms_eps: 1e-6,
            tied,
            max_positions: 64,
        }
    }

    fn files(weights: &Weights) -> Vec<(PathBuf, Vec<u8>)> {
        vec![("m.safetensors".into(), to_bytes(&weights.to_raw().unwrap(), &BTreeMap::new()))]
    }

    #[test]
    fn weights_round_trip_through_bytes() {
        for tied in [true, false] {
            let weights = Weights::fresh(&tiny(tied), 1).unwrap();
            let again = Weights::parse(&tiny(tied), &files(&weights), Kind::Float, Device::Cpu).unwrap();
            assert_eq!(weights.digest().unwrap(), again.digest().unwrap());
            assert_ne!(weights.digest().unwrap(), Weights::fresh(&tiny(tied), 2).unwrap().digest().unwrap());
        }
    }

    #[test]
    fn missing_extra_and_misshapen_tensors_are_named() {
        let weights = Weights::fresh(&tiny(false), 1).unwrap();
        let mut raw = weights.to_raw().unwrap();
        let error = |raw: &[RawTensor]| {
            let files = vec![(PathBuf::from("dir/m.safetensors"), to_bytes(raw, &BTreeMap::new()))];
            Weights::parse(&tiny(false), &files, Kind::Float, Device::Cpu).unwrap_err().to_string()
        };
        let head = raw.pop().unwrap();
        let message = error(&raw);
        assert!(message.contains("lm_head.weight") && message.contains("missing"), "{message}");
        raw.push(RawTensor { shape: vec![16, 40], ..head.clone() });
        let message = error(&raw);
        assert!(message.contains("[16, 40]") && message.contains("[40, 16]"), "{message}");
        *raw.last_mut().unwrap() = head.clone();
        raw.push(RawTensor { name: "adapter.weight".into(), ..head.clone() });
        assert!(error(&raw).contains("adapter.weight"));
        raw.pop();
        raw.last_mut().unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let message = error(&raw);
        assert!(message.contains("lm_head.weight") && message.contains("NaN"), "{message}");
    }
}
