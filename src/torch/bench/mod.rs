//! What a step costs on a given model: fixed work, timed phase by phase, beside what the machine can do at most.
//!
//! Prompts are random tokens and no token ends an answer, so that the work is the same for every model and program.
//! Rewards are random too: nothing is learned, everything is computed.

mod ceilings;
mod masks;
mod report;
mod work;

use std::path::PathBuf;
use std::time::Instant;

use tch::Device;

use crate::data::ModelDir;
use crate::manifest::{DeviceChoice, Dtype};

use super::failure::RunError;
use super::meter::{Meter, Operator, operators};
use super::{TorchError, setup};

pub use report::BenchReport;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchPart {
    /// Rollouts and an update.
    Step,
    /// Rollouts alone.
    Rollout,
    /// Updates of one batch of rollouts.
    Train,
    /// Random masks of the model.
    Masks,
}

/// The work of a benchmark.
#[derive(Clone, Debug)]
pub struct BenchSpec {
    /// What is timed.
    pub part: BenchPart,
    /// The model directory; no tokenizer is needed.
    pub model: PathBuf,
    /// Prompts of a step.
    pub prompts: usize,
    /// Rollouts of a prompt.
    pub group: usize,
    /// Tokens of a prompt, and of what the user says in every further turn.
    pub prompt_tokens: usize,
    /// Tokens that are drawn in a turn.
    pub new_tokens: usize,
    /// Turns of a conversation.
    pub turns: usize,
    /// Share of the parameters that a random mask freezes; `None` trains all.
    pub sparsity: Option<f64>,
    /// Optimizer steps on one batch of rollouts.
    pub updates: u32,
    /// Rollouts per backward pass; 0 takes all at once.
    pub micro_batch: usize,
    /// MiB of activations that are kept.
    pub activations_mib: u32,
    /// Repetitions; the median counts.
    pub steps: usize,
    /// libtorch threads.
    pub threads: u32,
    /// Type of the weights.
    pub dtype: Dtype,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Whether a GPU's decoding steps are recorded once and replayed.
    pub cuda_graphs: bool,
    /// Whether operators are timed one by one, in a repetition of its own.
    pub profile: bool,
}

/// Runs the benchmark.
///
/// # Errors
/// When the model cannot be loaded, the device is not there, or memory runs out.
pub fn bench(spec: &BenchSpec) -> Result<BenchReport, RunError> {
    let dir = ModelDir::open(&spec.model)?;
    if spec.part == BenchPart::Masks {
        return masks::bench(spec, &dir);
    }
    let device = setup::prepare(spec.device, spec.threads)?;
    let meter = Meter::new(device)?;
    let mut model = setup::load(&dir, spec.dtype, device)?;
    if spec.cuda_graphs {
        setup::record_steps(&mut model)?;
    }
    let mut work = work::Work::new(spec, model)?;
    let mut times = report::Times::default();
    // The first repetition warms caches and allocators up and is not counted, as the peer's is not.
    for round in 0..=spec.steps {
        let counted = round > 0;
        if spec.part != BenchPart::Train || round == 0 {
            meter.reset();
            let begun = Instant::now();
            let spent = work.roll_out(round)?;
            wait(device);
            let seconds = begun.elapsed().as_secs_f64();
            times.rolled(seconds, &spent, meter.peak(), counted);
        }
        if spec.part != BenchPart::Rollout {
            meter.reset();
            let begun = Instant::now();
            work.train()?;
            wait(device);
            times.trained(begun.elapsed().as_secs_f64(), meter.peak(), counted);
        }
    }
    let profile = if spec.profile { Some(profiled(spec, &mut work, device)?) } else { None };
    let ceilings = ceilings::measure(work.model.kind(), device)?;
    Ok(report::report(spec, &work, &times, ceilings, profile))
}

/// Operators of one more repetition.
fn profiled(
    spec: &BenchSpec,
    work: &mut work::Work<'_>,
    device: Device,
) -> Result<Vec<Operator>, TorchError> {
    let ((), rows) = operators(|| {
        if spec.part != BenchPart::Train {
            work.roll_out(spec.steps + 1)?;
        }
        if spec.part != BenchPart::Rollout {
            work.train()?;
        }
        wait(device);
        Ok(())
    })?;
    Ok(rows)
}

/// Waits until the device has done what it was told.
fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}
