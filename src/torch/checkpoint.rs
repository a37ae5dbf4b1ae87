//! Saved state: values, first and second moments of the active entries, and nothing else.
//!
//! The weights of a run are the base with the active values put in, so a checkpoint of a 1 % mask is 1 % of the model
//! three times over. The file is canonical: equal state gives equal bytes.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::data::safetensors::{header, parse};
use crate::data::{ModelDir, places};
use crate::sparsity::Mask;

use super::failure::RunError;
use super::trained::bits;
use super::weights::{float_vector, raw};
use super::{SparseAdamW, TorchError, Weights, load};

/// The file of a checkpoint and of a finished run.
pub const STATE_FILE: &str = "state.safetensors";

/// What the three vectors of a tensor are called, as `<part>/<parameter>`.
const PARTS: [&str; 3] = ["value", "first_moment", "second_moment"];

/// The bytes of the state file.
///
/// # Errors
/// When a tensor cannot be copied to the host.
pub fn state(weights: &Weights, adam: &SparseAdamW) -> Result<Vec<u8>, TorchError> {
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("optimizer_steps".to_owned(), adam.steps.to_string()),
    ]);
    let described: Vec<_> = vectors(weights, adam, &PARTS)
        .map(|one| one.map(|(name, tensor)| (name, [tensor.numel()], 4 * tensor.numel())))
        .collect::<Result<_, _>>()?;
    let rows =
        described.iter().map(|(name, shape, length)| (name.as_str(), "F32", shape.as_slice(), *length));
    let mut bytes = header(rows, &metadata);
    bytes.reserve_exact(described.iter().map(|(_, _, length)| length).sum());
    // One tensor at a time: of a full run this is three times the model.
    for one in vectors(weights, adam, &PARTS) {
        let (name, tensor) = one?;
        bytes.extend_from_slice(&raw(&name, &[], &tensor)?.bytes);
    }
    Ok(bytes)
}

/// blake3 over both moments of every tensor, in hex.
///
/// # Errors
/// As [`state`].
pub fn moments_digest(weights: &Weights, adam: &SparseAdamW) -> Result<String, TorchError> {
    let mut hasher = blake3::Hasher::new();
    for one in vectors(weights, adam, &PARTS[1..]) {
        let (name, tensor) = one?;
        hasher.update(&raw(&name, &[], &tensor)?.bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Names and float32 vectors of these parts, tensor by tensor.
fn vectors<'a>(
    weights: &'a Weights,
    adam: &'a SparseAdamW,
    parts: &'a [&'static str],
) -> impl Iterator<Item = Result<(String, Tensor), TorchError>> + 'a {
    let places = (0..weights.parameters.len()).flat_map(|i| (0..PARTS.len()).map(move |part| (i, part)));
    places.filter(|&(_, part)| parts.contains(&PARTS[part])).map(|(i, part)| {
        let [value, first, second] = adam.state(i)?;
        let tensor = [value, first, second].into_iter().nth(part).unwrap_or_default();
        Ok((format!("{}/{}", PARTS[part], weights.parameters[i].name), tensor))
    })
}

/// Puts the values and moments of a state file into the weights and the optimizer.
///
/// # Errors
/// When the file is damaged or belongs to another mask.
pub fn restore(bytes: &[u8], weights: &Weights, adam: &mut SparseAdamW) -> Result<(), TorchError> {
    let file = parse(bytes, Path::new(STATE_FILE))?;
    let device = weights.tensors[0].device();
    for (i, parameter) in weights.parameters.iter().enumerate() {
        let read = |part: &str| -> Result<Tensor, TorchError> {
            let name = format!("{part}/{}", parameter.name);
            let view = file
                .tensor(&name)
                .map_err(|error| TorchError::Restore { what: format!("{name}: {error}") })?;
            float_vector(&view, device)
        };
        adam.restore(weights, i, &[read(PARTS[0])?, read(PARTS[1])?, read(PARTS[2])?])?;
    }
    Ok(())
}

/// Compares every entry outside the mask with the base model as it lies on disk, bit by bit. Returns how many were
/// compared.
///
/// # Errors
/// [`TorchError::Invariant`] when one differs.
pub fn check_invariant(weights: &Weights, mask: Option<&Mask>, folder: &Path) -> Result<u64, RunError> {
    let Some(mask) = mask else { return Ok(0) };
    let places = places(&ModelDir::open(folder)?)?.parameters;
    let base = |i: usize, take: Take<'_>| load::each_block(&places[i], weights.tensors[i].kind(), take);
    Ok(compare(weights, &base, mask)?)
}

/// What is done with blocks of a tensor and where each begins.
type Take<'a> = &'a mut dyn FnMut(i64, &Tensor) -> Result<(), TorchError>;

/// `base` hands on the blocks of a tensor of the base model.
fn compare(
    weights: &Weights,
    base: &dyn Fn(usize, Take<'_>) -> Result<(), TorchError>,
    mask: &Mask,
) -> Result<u64, TorchError> {
    let _guard = tch::no_grad_guard();
    let (mut checked, mut changed) = (0, 0);
    let mut first = None;
    for (i, (tensor, active)) in weights.tensors.iter().zip(mask.indices()).enumerate() {
        let flat = tensor.f_detach()?.f_view([-1])?;
        base(i, &mut |at, before| {
            let count = before.numel() as i64;
            let now = flat.f_narrow(0, at, count)?.f_to_device(Device::Cpu)?;
            let mut differs = bits(&now)?.f_ne_tensor(&bits(before)?)?;
            let within = active.partition_point(|&index| i64::from(index) < at)
                ..active.partition_point(|&index| i64::from(index) < at + count);
            checked += (count as usize - within.len()) as u64;
            let inside: Vec<i64> = active[within].iter().map(|&index| i64::from(index) - at).collect();
            let _ = differs.f_index_fill_(0, &Tensor::f_from_slice(&inside)?, 0)?;
            let wrong = i64::try_from(differs.f_sum(Kind::Int64)?)?;
            if wrong > 0 {
                changed += wrong as u64;
                let index = at + i64::try_from(differs.f_to_kind(Kind::Int)?.f_argmax(0, false)?)?;
                first.get_or_insert((weights.parameters[i].name.clone(), index as usize));
            }
            Ok(())
        })?;
    }
    match first {
        None => Ok(checked),
        Some((tensor, index)) => Err(TorchError::Invariant { count: changed, tensor, index }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsity::{MaskRng, random};
    use crate::torch::weights::tests::tiny;

    #[test]
    fn a_single_changed_bit_outside_the_mask_is_found_and_named() {
        let (trained, base) =
            (Weights::fresh(&tiny(true), 1).unwrap(), Weights::fresh(&tiny(true), 1).unwrap());
        let mask = random(&base.sizes(), 0.9, 1, MaskRng::Chacha).unwrap();
        let outside = (mask.total() - mask.active()) as u64;
        // In blocks that do not divide a tensor.
        let blocks = |i: usize, take: Take<'_>| {
            let flat = base.tensors[i].view([-1]);
            (0..flat.numel() as i64)
                .step_by(7)
                .try_for_each(|at| take(at, &flat.narrow(0, at, 7.min(flat.numel() as i64 - at))))
        };
        let compare = |trained: &Weights| super::compare(trained, &blocks, &mask);
        assert_eq!(compare(&trained).unwrap(), outside);
        let flat = trained.tensors[1].view([-1]);
        let inside = i64::from(mask.indices()[1][0]);
        let _ = flat.get(inside).fill_(3.0);
        assert_eq!(compare(&trained).unwrap(), outside);
        let free = (0..mask.tensors()[1].elements() as u32)
            .find(|i| mask.indices()[1].binary_search(i).is_err())
            .unwrap();
        let value = f64::try_from(flat.get(i64::from(free))).unwrap() as f32;
        let _ = flat.get(i64::from(free)).fill_(f64::from(f32::from_bits(value.to_bits() ^ 1)));
        let message = compare(&trained).unwrap_err().to_string();
        assert!(message.contains(&format!("{}[{free}]", trained.parameters[1].name)), "{message}");
    }
}
