//! The shape of a merged configuration: complete, typed by serde, not yet checked across fields.
//!
//! Every key is known and in range when it gets here (`keys.rs`), and every default is filled in. Fields of
//! variants that are not chosen are present and ignored by `valid.rs`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::grpo::{Advantage, ClipDomain, Decay, Level};
use crate::manifest::{DeviceChoice, Dtype};
use crate::sparsity::{FisherEstimator, Keep, MaskRng, Rounding, Side, Unit};
use crate::task::{EvalRows, RowNames, SortBy};

/// Mirrors enums of the pure rooms, which do not know serde.
macro_rules! mirror {
    ($($name:ident => $target:literal { $($variant:ident),+ })+) => {$(
        #[derive(Deserialize)]
        #[serde(remote = $target, rename_all = "snake_case")]
        enum $name { $($variant),+ }
    )+};
}
mirror! {
    AdvantageWord => "Advantage" { Mean, MeanStd }
    LevelWord => "Level" { Token, Sequence }
    ClipDomainWord => "ClipDomain" { Masked, Dense }
    DecayWord => "Decay" { Decoupled, Study }
    DtypeWord => "Dtype" { Float32, Bfloat16 }
    DeviceWord => "DeviceChoice" { Auto, Cpu, Cuda }
    MaskRngWord => "MaskRng" { Chacha, Numpy }
    SideWord => "Side" { First, Last }
    UnitWord => "Unit" { Entry, Row, Column }
    KeepWord => "Keep" { High, Low }
    RoundingWord => "Rounding" { Floor, Ceil }
    EstimatorWord => "FisherEstimator" { Batch, Sample, Model }
    SortByWord => "SortBy" { First, Last, Either }
    RowNamesWord => "RowNames" { First, Sample }
    EvalRowsWord => "EvalRows" { Sample, First }
}

/// The whole configuration of a run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub seed: u64,
    pub model: RawModel,
    pub task: RawTask,
    pub grpo: RawGrpo,
    pub optimizer: RawOptimizer,
    pub sampling: RawSampling,
    pub mask: RawMask,
    pub fisher: RawFisher,
    pub eval: RawEval,
    #[serde(default)]
    pub evals: BTreeMap<String, RawNamedEval>,
    pub exec: RawExec,
}

/// A named evaluation, its settings laid over the common ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNamedEval {
    pub eval: RawEval,
    pub task: RawTask,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    pub path: Option<String>,
    pub id: Option<String>,
    pub run: Option<String>,
    pub revision: Option<String>,
    pub pretrain: RawPretrain,
    #[serde(with = "DtypeWord")]
    pub dtype: Dtype,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPretrain {
    pub hidden_size: u32,
    pub intermediate_size: u32,
    pub layers: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub vocab_size: u32,
    pub steps: u32,
    pub batch: u32,
    pub lr: f64,
    pub shuffled: f64,
    pub target_reward: f64,
    pub seed: u64,
    pub mix: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    AlphabetSort,
    Gsm8k,
    Math,
    Arithmetic,
    Reverse,
    Countdown,
    Program,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    Counter,
    Python,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    Shuffled,
    Rows,
    Recycled,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTask {
    pub r#type: Option<TaskType>,
    pub min_turns: u32,
    pub max_turns: u32,
    pub min_names_per_turn: u32,
    pub max_names_per_turn: u32,
    #[serde(with = "SortByWord")]
    pub sort_by: SortBy,
    pub similarity_power: u32,
    pub power_per_turn: bool,
    pub names: Option<String>,
    #[serde(with = "RowNamesWord")]
    pub row_names: RowNames,
    pub episodes: Generator,
    pub seed: u64,
    pub prompts: RawPrompts,
    pub dataset: Option<String>,
    pub revision: Option<String>,
    pub subset: Option<String>,
    pub split: Option<String>,
    pub file: Option<String>,
    pub question_column: Option<String>,
    pub answer_column: Option<String>,
    pub order: Asked,
    pub digits: u32,
    pub terms: u32,
    pub length: u32,
    pub numbers: u32,
    pub largest: u32,
    pub program: Option<String>,
    pub command: String,
    pub system_prompt: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPrompts {
    pub first: String,
    pub second: String,
    pub later: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    Clip,
    Mask,
    Cispo,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    Token,
    Sequence,
    Constant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGrpo {
    pub steps: u32,
    pub rollouts_per_step: u32,
    pub group_size: u32,
    #[serde(with = "AdvantageWord")]
    pub advantage: Advantage,
    pub ratio: Ratio,
    #[serde(with = "LevelWord")]
    pub level: Level,
    pub clip_low: f64,
    pub clip_high: f64,
    pub clip_delta: Option<f64>,
    pub mask_low: f64,
    pub mask_high: f64,
    pub sequence_mask_low: f64,
    pub cispo_high: f64,
    pub normaliser: Denominator,
    pub kl_coef: f64,
    pub kl_corrected: bool,
    pub minibatches: u32,
    pub updates_per_batch: u32,
    pub micro_batch: u32,
    pub activations_mib: u32,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    Constant,
    Linear,
    Cosine,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOptimizer {
    pub lr: f64,
    pub schedule: Course,
    pub warmup_steps: u32,
    pub final_share: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    #[serde(with = "DecayWord")]
    pub decay: Decay,
    pub clip_norm: f64,
    #[serde(with = "ClipDomainWord")]
    pub clip_domain: ClipDomain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSampling {
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: u32,
    pub min_p: f64,
    pub repetition_penalty: f64,
    pub max_tokens: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskType {
    Full,
    Random,
    Fisher,
    Gradient,
    Snip,
    Magnitude,
    Moved,
    Layers,
    Modules,
    File,
    Union,
    Intersection,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pools {
    Global,
    PerTensor,
    PerLayer,
    PerGroup,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    None,
    Complement,
    Permuted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMask {
    pub r#type: MaskType,
    pub sparsity: Option<f64>,
    pub seed: u64,
    #[serde(with = "MaskRngWord")]
    pub rng: MaskRng,
    #[serde(with = "RoundingWord")]
    pub rounding: Rounding,
    #[serde(with = "SideWord")]
    pub layers: Side,
    pub count: u32,
    pub scope: Option<Pools>,
    pub group: u32,
    #[serde(with = "UnitWord")]
    pub unit: Unit,
    #[serde(with = "KeepWord")]
    pub keep: Keep,
    pub modules: String,
    pub run: Option<String>,
    pub file: Option<String>,
    pub other: Option<String>,
    pub control: Turn,
    pub control_seed: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFisher {
    #[serde(with = "EstimatorWord")]
    pub estimator: FisherEstimator,
    pub episodes: u32,
    pub seed: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEval {
    pub examples: u32,
    #[serde(with = "EvalRowsWord")]
    pub rows: EvalRows,
    pub seed: u64,
    pub every: u32,
    pub sampling: RawSampling,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExec {
    #[serde(with = "DeviceWord")]
    pub device: DeviceChoice,
    pub jobs: u32,
    pub threads: u32,
    pub checkpoint_every: u32,
    pub keep_checkpoints: u32,
    pub keep_mib: u32,
    pub lease_seconds: u32,
    pub retries: RawRetries,
    pub task_workers: u32,
    pub task_timeout: u32,
    pub cuda_graphs: bool,
    pub max_runs: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRetries {
    pub nan: u32,
    pub oom: u32,
    pub killed: u32,
    pub infra: u32,
    pub store: u32,
    pub task: u32,
}
