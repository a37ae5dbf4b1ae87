//! What a run will need before it is run: memory, disk and time, from a model of the computation, corrected by measured runs.
//!
//! ```text
//! RunConfig -> Architecture -> Estimate (bytes, flops, traffic, operations) -> predict(speed, correction) -> seconds
//! ```
//!
//! Pure but for small files of the machine that say what will be computed: a base's `config.json`, a list of names. No
//! weights, no network, no clock. The formulas stand with the functions; docs/estimates.md has them together.

mod active;
mod correction;
mod cost;
mod decoder;
mod disk;
mod fixed;
mod lengths;
mod memory;
mod predict;
mod shape;
mod speed;
mod stages;
mod work;

pub use active::active;
pub use correction::{Correction, Factors, Measured};
pub use cost::Cost;
pub use disk::{Disk, Footprint, footprint, footprint_of};
pub use fixed::{FixedWork, memory_of};
pub use lengths::{Lengths, Turn};
pub use memory::Memory;
pub use predict::{Prediction, Totals, predict};
pub use shape::{architecture, architecture_in};
pub use speed::Speed;
pub use stages::{of_pretrain, of_scores};
pub use work::Work;

use crate::data::Architecture;
use crate::manifest::{Dtype, RunConfig};

use decoder::Decoder;

/// What one run, or one stage, needs: a property of the computation, not of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Parameters of the model, a tied head once.
    pub parameters: u64,
    /// Entries that are trained.
    pub active: u64,
    /// Type of weights and products.
    pub dtype: Dtype,
    /// Memory at its fullest.
    pub memory: Memory,
    /// The work of the whole run.
    pub work: Work,
}

/// What a run needs; `None` where the shape of its base is not known, see [`architecture`].
pub fn estimate(config: &RunConfig) -> Option<Estimate> {
    architecture(config).map(|shape| of_run(config, &shape))
}

/// What a run on a base of this shape needs.
pub fn of_run(config: &RunConfig, shape: &Architecture) -> Estimate {
    let decoder = Decoder::new(shape, width(config));
    let active = active(shape, &config.mask);
    let asked = work::Asked::of(config);
    Estimate {
        parameters: decoder.parameters as u64,
        active,
        dtype: config.model.dtype,
        memory: memory::of_run(config, &decoder, active as f64, &asked),
        work: work::work(config, &decoder, active as f64, &asked),
    }
}

/// Bytes of a weight.
fn width(config: &RunConfig) -> f64 {
    match config.model.dtype {
        Dtype::Float32 => 4.0,
        Dtype::Bfloat16 => 2.0,
    }
}
