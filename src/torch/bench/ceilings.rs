//! What this machine can do at most, measured: products of large matrices, and traffic to memory.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::super::TorchError;
use super::super::products::Products;
use super::wait;

/// Seconds that each ceiling is measured for, at least.
const LONG_ENOUGH: f64 = 0.4;

/// The ceilings of a device.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Products of square matrices in the type of the weights, floating-point operations per second.
    pub matmul: f64,
    /// Bytes read and written per second by a copy that no cache holds.
    pub bandwidth: f64,
}

/// Measures both; the fastest repetition counts, since a ceiling is what can be reached.
///
/// # Errors
/// When memory runs out.
pub fn measure(kind: Kind, device: Device) -> Result<Ceilings, TorchError> {
    let side: i64 = if device.is_cuda() { 8192 } else { 1024 };
    let operand = Tensor::f_ones([side, side], (kind, device))?;
    let product = Tensor::f_empty([side, side], (kind, device))?;
    // As the model's are taken, see `products.rs`.
    let products = Products::of(kind, device);
    let matmul = 2.0 * (side as f64).powi(3)
        / fastest(device, || products.forward(&operand, &operand, None, &product))?;
    let count: i64 = if device.is_cuda() { 1 << 30 } else { 1 << 26 };
    let source = Tensor::f_ones([count], (Kind::Float, device))?;
    let mut target = Tensor::f_zeros([count], (Kind::Float, device))?;
    let bandwidth = 8.0 * count as f64
        / fastest(device, || {
            target.f_copy_(&source)?;
            Ok(())
        })?;
    Ok(Ceilings { matmul, bandwidth })
}

fn fastest(device: Device, mut body: impl FnMut() -> Result<(), TorchError>) -> Result<f64, TorchError> {
    let _guard = tch::no_grad_guard();
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    // Not fewer than three, so that the first, which warms up, is never the only one.
    for round in 0.. {
        if round >= 3 && begun.elapsed().as_secs_f64() > LONG_ENOUGH {
            break;
        }
        let start = Instant::now();
        body()?;
        wait(device);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
