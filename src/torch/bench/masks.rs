//! Random masks at the size of a model: from its shape alone, so no weights are loaded.

use std::time::Instant;

use serde_json::json;
use tch::Device;

use crate::data::ModelDir;
use crate::sparsity::{MaskRng, TensorSize, random};

use super::super::TorchError;
use super::super::failure::RunError;
use super::super::meter::Meter;
use super::BenchSpec;
use super::report::{BenchReport, median};

/// Draws the mask as often as asked for.
pub fn bench(spec: &BenchSpec, dir: &ModelDir) -> Result<BenchReport, RunError> {
    let sizes = dir.architecture.sizes();
    let sparsity = spec.sparsity.unwrap_or(0.99);
    let meter = Meter::new(Device::Cpu)?;
    let (mut seconds, mut active, mut resident) = (Vec::new(), 0, None);
    for seed in 0..spec.steps as u64 {
        meter.reset();
        let begun = Instant::now();
        let mask = random(&sizes, sparsity, seed, MaskRng::Chacha)
            .map_err(|error| TorchError::Op { message: error.to_string() })?;
        seconds.push(begun.elapsed().as_secs_f64());
        (active, resident) = (mask.active(), resident.max(meter.peak().resident));
    }
    let total: usize = sizes.iter().map(TensorSize::elements).sum();
    let each = median(&seconds);
    Ok(BenchReport {
        value: json!({
            "part": "masks",
            "parameters": total,
            "active": active,
            "sparsity": sparsity,
            "seconds_per_mask": each,
            "parameters_per_second": total as f64 / each,
            "memory": { "masks": { "resident_peak_bytes": resident } },
        }),
        profile: None,
    })
}
