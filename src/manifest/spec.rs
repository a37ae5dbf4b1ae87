//! The configuration of one run: typed, complete, valid. A `RunConfig` that exists can be run.

use std::path::PathBuf;

use crate::grpo::{GrpoSpec, OptimizerSpec, SamplingSpec};
use crate::sparsity::MaskSpec;
use crate::task::{EvalRows, Serving, TaskSpec};

/// Everything that one run needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Seed of the training data order and of the rollouts.
    pub seed: u64,
    /// The base model.
    pub model: ModelSpec,
    /// The task.
    pub task: TaskSpec,
    /// The GRPO loop.
    pub grpo: GrpoSpec,
    /// The optimizer.
    pub optimizer: OptimizerSpec,
    /// How training rollouts are sampled.
    pub sampling: SamplingSpec,
    /// Which parameters are trained.
    pub mask: MaskSpec,
    /// The held-out evaluation. When there are named ones, it is only what they have in common, and is not made.
    pub eval: EvalSpec,
    /// The named evaluations, sorted by name.
    pub evals: Vec<NamedEval>,
    /// Operational settings: never identity.
    pub exec: ExecSpec,
}

impl RunConfig {
    /// The run whose weights the base is.
    pub fn begins_with(&self) -> Option<&str> {
        match &self.model.source {
            ModelSource::Run { run } => Some(run),
            ModelSource::Directory { .. } | ModelSource::Hub { .. } | ModelSource::Pretrain(_) => None,
        }
    }

    /// The runs that have to be finished before this one can be: whose weights the base is, whose changes choose the mask.
    pub fn stands_on(&self) -> impl Iterator<Item = &str> {
        self.begins_with().into_iter().chain(self.mask.moved_by())
    }
}

/// The base model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Where the weights come from.
    pub source: ModelSource,
    /// Storage and compute type of the weights. Masters and moments are always float32.
    pub dtype: Dtype,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelSource {
    /// A Hugging Face directory.
    Directory {
        /// The path as resolved against the manifest that wrote it. Not identity.
        path: PathBuf,
        /// blake3 over the directory's model files, in hex. Identity.
        digest: String,
    },
    /// A model of a hub: identified by repository and commit, so that planning needs no network.
    Hub {
        /// The repository, `owner/name`.
        id: String,
        /// The commit, 40 hexadecimal digits; without it ids are provisional.
        revision: Option<String>,
    },
    /// The weights that another run ended with.
    Run {
        /// The run's whole id. Identity.
        run: String,
    },
    /// The built-in tiny base, warm-started on the task's own demonstrations, or on those of several tasks.
    Pretrain(PretrainSpec),
}

/// Storage and compute type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    Float32,
    /// bfloat16.
    Bfloat16,
}

/// The built-in base: architecture and warm start.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainSpec {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width of the SwiGLU layer.
    pub intermediate_size: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Query heads; divides `hidden_size` into an even head width.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Size of the vocabulary that the tokenizer is trained to, special tokens included.
    pub vocab_size: u32,
    /// Most optimizer steps of the warm start.
    pub steps: u32,
    /// Demonstrations per step.
    pub batch: u32,
    /// Peak learning rate of the warm start (linear warm-up over 5 % of the steps, cosine decay to 10 %).
    pub lr: f64,
    /// Share of demonstrations whose answer lists the right names in random order: they teach the format and the
    /// copying but not the sorting, and leave reinforcement learning something to gain.
    pub shuffled: f64,
    /// The warm start ends early once the sampled reward reaches this; 1 turns the check off.
    pub target_reward: f64,
    /// Seed of initial weights and demonstrations.
    pub seed: u64,
    /// The tasks whose demonstrations it sees in turn; empty for the run's own.
    pub mix: Vec<TaskSpec>,
}

/// The held-out evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalSpec {
    /// Episodes, one rollout each.
    pub examples: u32,
    /// Which episodes of a fixed list are asked.
    pub rows: EvalRows,
    /// Seed of the episodes and draws; must differ from the training seed.
    pub seed: u64,
    /// Steps between evaluations; step 0 and the last step are always evaluated.
    pub every: u32,
    /// Sampling of the evaluation: never inherited from training or from the model's files.
    pub sampling: SamplingSpec,
}

/// One of several evaluations, `[eval.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedEval {
    /// Its name, as in the columns of the results.
    pub name: String,
    /// Its settings.
    pub eval: EvalSpec,
    /// What it asks: the task of the training unless the manifest says otherwise.
    pub task: TaskSpec,
}

/// Operational settings. None of them is part of a run's identity.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecSpec {
    /// Where tensors live.
    pub device: DeviceChoice,
    /// Runs at the same time; 0 chooses `cores / threads` on a CPU and 1 on a GPU.
    pub jobs: u32,
    /// libtorch threads of a run. Sums depend on it in the last bit, so it is recorded with the result.
    pub threads: u32,
    /// Steps between checkpoints; the last step is always kept.
    pub checkpoint_every: u32,
    /// Checkpoints kept while a run is under way, at least 1.
    pub keep_checkpoints: u32,
    /// MiB of older checkpoints that stay with a run, evenly spread over its steps: what runs that differ in their
    /// evaluations or in their length alone go on from.
    pub keep_mib: u32,
    /// How long a worker's claim on a run outlives its last sign of life, in seconds; 0 takes no claims. A worker renews it
    /// ten times as often and stops itself after three fifths of it.
    pub lease_seconds: u32,
    /// How often one sweep tries a run again by itself.
    pub retries: Retries,
    /// Processes of a task that is an outside program.
    pub task_workers: u32,
    /// Seconds that such a process has for a request.
    pub task_timeout: u32,
    /// Whether a GPU's decoding steps are recorded once and replayed: the same operations.
    pub cuda_graphs: bool,
    /// The most runs that the manifest may plan.
    pub max_runs: u32,
}

impl ExecSpec {
    /// How a task that is an outside program is served.
    pub fn serving(&self) -> Serving {
        Serving { workers: self.task_workers, timeout_seconds: self.task_timeout }
    }
}

/// How often one sweep tries a run again after a failure of a class, each time from its newest checkpoint. A full disk
/// pauses the sweep instead, and what a wrong manifest or input caused is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// After a number that is not finite: the same again, unless the device is not deterministic.
    pub nan: u32,
    /// After memory ran out.
    pub oom: u32,
    /// After a signal or a time limit ended the run's process.
    pub killed: u32,
    /// After a failure of the program, of a library or of the device.
    pub infra: u32,
    /// After a failure to read or write the results folder.
    pub store: u32,
    /// After a failure of the task: an outside program, or a reward that is not in range.
    pub task: u32,
}

/// Where tensors live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA when it is there, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, an error when it is absent.
    Cuda,
}
