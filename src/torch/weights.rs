//! The numbers of a model: loading, initialising, serialising. Tensors stand in study order.
//!
//! Invariant: names, shapes and types of all tensors are checked before the first one is copied.

use safetensors::Dtype as FileType;
use tch::{Device, Kind, Tensor};

use crate::data::safetensors::RawTensor;
use crate::data::{Architecture, ModelDir, Parameter, places};
use crate::sparsity::TensorSize;

use super::products::blocks;
use super::{TorchError, fresh, load};

/// Entries that are copied at a time.
pub(super) const PIECE: i64 = 1 << 20;

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
    /// Loads a model directory, converting to `kind` on `device`. Beside the tensors it takes a few MiB of memory.
    ///
    /// # Errors
    /// When a file is damaged, or a tensor is missing, unknown, of the wrong shape or type, or not finite.
    pub fn load(dir: &ModelDir, kind: Kind, device: Device) -> Result<Self, TorchError> {
        let places = places(dir)?;
        let tensors = places
            .parameters
            .iter()
            .map(|place| load::tensor(place, kind, device))
            .collect::<Result<_, _>>()?;
        if let Some(head) = &places.second_head {
            load::same(&places.parameters[0], head)?;
        }
        Ok(Self {
            architecture: dir.architecture.clone(),
            parameters: dir.architecture.parameters(),
            tensors,
        })
    }

    /// Fresh float32 weights on the CPU: matrices normal with deviation 0.02, biases 0, norms 1. Counter-based, so equal
    /// on every machine up to the rounding of `ln` and `cos`.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn fresh(architecture: &Architecture, seed: u64) -> Result<Self, TorchError> {
        Self::fresh_in(architecture, seed, Kind::Float)
    }

    /// The weights of [`Weights::fresh`], rounded to `kind`; never held in two types at once.
    ///
    /// # Errors
    /// As [`Weights::fresh`].
    pub fn fresh_in(architecture: &Architecture, seed: u64, kind: Kind) -> Result<Self, TorchError> {
        let parameters = architecture.parameters();
        let tensors = parameters
            .iter()
            .map(|parameter| fresh::tensor(parameter, seed, kind))
            .collect::<Result<_, _>>()?;
        Ok(Self { architecture: architecture.clone(), parameters, tensors })
    }

    /// Names and shapes, as masks need them.
    pub fn sizes(&self) -> Vec<TensorSize> {
        self.architecture.sizes()
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
            each_piece(&parameter.name, tensor, &mut |bytes| {
                hasher.update(bytes);
                Ok::<_, TorchError>(())
            })?;
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

/// A tensor's bytes in order, as [`raw`] has them, a few MiB at a time.
///
/// # Errors
/// As [`raw`], and those of `take`.
pub fn each_piece<E: From<TorchError>>(
    name: &str,
    tensor: &Tensor,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let flat = tensor.f_detach().and_then(|tensor| tensor.f_contiguous()?.f_view([-1]));
    let flat = flat.map_err(TorchError::from)?;
    for (from, count) in blocks(flat.numel() as i64, PIECE) {
        let piece = flat.f_narrow(0, from, count).map_err(TorchError::from)?;
        take(&raw(name, &[count as usize], &piece)?.bytes)?;
    }
    Ok(())
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
    use crate::data::Family;

    pub(crate) fn tiny(tied: bool) -> Architecture {
        Architecture {
            family: Family::Qwen2,
            vocab_size: 40,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            attention_bias: true,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_eps: 1e-6,
            tied,
            max_positions: 64,
        }
    }

    #[test]
    fn the_digest_tells_seeds_and_shapes_apart() {
        let digest = |tied, seed| Weights::fresh(&tiny(tied), seed).unwrap().digest().unwrap();
        assert_eq!(digest(true, 1), digest(true, 1));
        assert_ne!(digest(true, 1), digest(true, 2));
        assert_ne!(digest(true, 1), digest(false, 1));
    }
}
