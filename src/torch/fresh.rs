//! Initial numbers of a tensor, from counters.
//!
//! Invariant: an entry is a function of the seed, the tensor's name and the entry's index, so neither threads nor blocks
//! change it.

use std::thread;

use tch::{Device, Kind, Tensor};

use crate::counter::Counter;
use crate::data::Parameter;

use super::TorchError;

/// Entries that a thread draws at a time.
const BLOCK: usize = 1 << 17;
/// Standard deviation of matrices: `initializer_range` of the supported families.
const DEVIATION: f64 = 0.02;

/// A fresh tensor: matrices normal, biases 0, norms 1.
///
/// # Errors
/// When memory runs out.
pub(super) fn tensor(parameter: &Parameter, seed: u64, kind: Kind) -> Result<Tensor, TorchError> {
    let shape: Vec<i64> = parameter.shape.iter().map(|&n| n as i64).collect();
    let options = (kind, Device::Cpu);
    if shape.len() == 1 {
        let bias = parameter.name.ends_with("_proj.bias");
        return Ok(if bias {
            Tensor::f_zeros(shape.as_slice(), options)?
        } else {
            Tensor::f_ones(shape.as_slice(), options)?
        });
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    normal(parameter, seed, kind, threads, BLOCK)
}

fn normal(
    parameter: &Parameter,
    seed: u64,
    kind: Kind,
    threads: usize,
    block: usize,
) -> Result<Tensor, TorchError> {
    let shape: Vec<i64> = parameter.shape.iter().map(|&n| n as i64).collect();
    let elements = parameter.elements();
    let made = Tensor::f_empty(shape.as_slice(), (kind, Device::Cpu))?;
    let flat = made.f_view([-1])?;
    let label = format!("init/{}", parameter.name);
    let draw = |start: usize, values: &mut [f32]| {
        let mut counter = Counter::new(seed, &label, &[]);
        // A normal takes two uniforms.
        counter.seek(2 * start as u64);
        values.fill_with(|| (counter.normal() * DEVIATION) as f32);
    };
    let mut values = vec![0f32; (threads * block).min(elements)];
    for start in (0..elements).step_by(values.len().max(1)) {
        let length = values.len().min(elements - start);
        let values = &mut values[..length];
        if length <= block {
            draw(start, values);
        } else {
            thread::scope(|scope| {
                for (i, part) in values.chunks_mut(block).enumerate() {
                    scope.spawn(move || draw(start + i * block, part));
                }
            });
        }
        flat.f_narrow(0, start as i64, length as i64)?.f_copy_(&Tensor::f_from_slice(values)?)?;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_blocks_change_nothing() {
        let parameter = Parameter { name: "model.x_proj.weight".into(), shape: vec![7, 43] };
        let mut counter = Counter::new(5, "init/model.x_proj.weight", &[]);
        let expected: Vec<f32> = (0..301).map(|_| (counter.normal() * 0.02) as f32).collect();
        let expected = Tensor::from_slice(&expected).view([7, 43]);
        for (threads, block) in [(1, 1000), (1, 10), (3, 10), (4, 301), (2, 150), (64, 1)] {
            let made = normal(&parameter, 5, Kind::Float, threads, block).unwrap();
            assert!(made.equal(&expected), "{threads} threads, blocks of {block}");
            let half = normal(&parameter, 5, Kind::BFloat16, threads, block).unwrap();
            assert!(half.equal(&expected.to_kind(Kind::BFloat16)), "{threads} threads, blocks of {block}");
        }
    }

    #[test]
    fn norms_are_one_and_biases_zero() {
        let value = |name: &str| {
            let parameter = Parameter { name: name.into(), shape: vec![3] };
            Vec::<f32>::try_from(&tensor(&parameter, 1, Kind::Float).unwrap()).unwrap()
        };
        for name in [
            "model.norm.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.input_layernorm.weight",
        ] {
            assert_eq!(value(name), [1.0; 3]);
        }
        for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.o_proj.bias"] {
            assert_eq!(value(name), [0.0; 3]);
        }
    }
}
