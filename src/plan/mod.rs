//! STAND-IN until the plan room is merged: `[[grid]]` products over mask type, sparsity, seed and learning rate.
#![expect(missing_docs, reason = "a stand-in")]
use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::grpo::{Advantage, ClipDomain, GrpoSpec, Normaliser, OptimizerSpec, RatioRule, SamplingSpec};
use crate::manifest::{
    DeviceChoice, Dtype, EvalSpec, ExecSpec, Manifest, ModelSource, ModelSpec, PretrainSpec, RunConfig,
};
use crate::sparsity::{FisherEstimator, FisherSpec, MaskRng, MaskSpec, Rounding};
use crate::task::{AlphabetSortSpec, NamesSpec, PromptTemplates, SortBy, TaskSpec};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[derive(Clone, Debug)]
pub struct StageIds {
    pub base: String,
    pub scores: Option<String>,
    pub mask: Option<String>,
    pub train: String,
}

#[derive(Clone, Debug)]
pub struct RunSpec {
    pub id: RunId,
    pub label: String,
    pub axes: Vec<(String, Value)>,
    pub config: RunConfig,
    pub stages: StageIds,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub manifest: Manifest,
    pub runs: Vec<RunSpec>,
    pub merged: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("no run {0:?}")]
pub struct PlanError(String);

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::new(Code::Plan, error, None)
    }
}

impl Plan {
    pub fn find(&self, wanted: &str) -> Result<&RunSpec, PlanError> {
        self.runs
            .iter()
            .find(|run| run.label == wanted || run.id.0.starts_with(wanted))
            .ok_or_else(|| PlanError(wanted.to_owned()))
    }
}

fn list(table: &toml::Table, key: &str, default: toml::Value) -> Vec<toml::Value> {
    match table.get(key) {
        Some(toml::Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
        None => vec![default],
    }
}

pub fn expand(manifest: Manifest) -> Result<Plan, PlanError> {
    let mut runs = Vec::new();
    let table = &manifest.table;
    let empty = toml::Table::new();
    let section = |key: &str| table.get(key).and_then(toml::Value::as_table).unwrap_or(&empty);
    let number = |key: &str, name: &str, default: i64| {
        section(key).get(name).and_then(toml::Value::as_integer).unwrap_or(default) as u32
    };
    for block in table.get("grid").and_then(toml::Value::as_array).into_iter().flatten() {
        let block = block.as_table().unwrap_or(&empty);
        let mask = block.get("mask").and_then(toml::Value::as_table).unwrap_or(&empty);
        let optimizer = block.get("optimizer").and_then(toml::Value::as_table).unwrap_or(&empty);
        for seed in list(mask, "seed", 0.into()) {
            for lr in list(optimizer, "lr", 1e-3.into()) {
                let kind = mask.get("type").and_then(toml::Value::as_str).unwrap_or("full");
                let lr = lr.as_float().unwrap_or(0.0);
                let seed = seed.as_integer().unwrap_or(0) as u64;
                let sparsity = 0.5;
                let spec = match kind {
                    "random" => MaskSpec::Random { sparsity, seed, rng: MaskRng::Chacha },
                    "fisher" => MaskSpec::Fisher {
                        sparsity,
                        rounding: Rounding::Floor,
                        fisher: FisherSpec { estimator: FisherEstimator::Batch, episodes: 8, seed: 0 },
                    },
                    _ => MaskSpec::Full,
                };
                let steps = number("grpo", "steps", 10);
                let hash = |what: &str| blake3::hash(what.as_bytes()).to_hex().to_string();
                let base = hash("base");
                let scores = (kind == "fisher").then(|| hash("scores"));
                let mask = (kind != "full").then(|| hash(&format!("{kind}{seed}")));
                let id = hash(&format!("{kind} {seed} {lr} {steps}"));
                let sampling = SamplingSpec {
                    temperature: 1.0,
                    top_p: 1.0,
                    top_k: 0,
                    min_p: 0.0,
                    repetition_penalty: 1.0,
                    max_tokens: 8,
                };
                runs.push(RunSpec {
                    label: if kind == "random" {
                        format!("random-s{seed}-lr{lr}")
                    } else {
                        format!("{kind}-lr{lr}")
                    },
                    axes: vec![
                        ("mask.type".into(), json!(kind)),
                        ("mask.seed".into(), json!(seed)),
                        ("optimizer.lr".into(), json!(lr)),
                    ],
                    stages: StageIds { base, scores, mask, train: hash(&format!("t{id}")) },
                    id: RunId(id),
                    config: RunConfig {
                        seed: 0,
                        model: ModelSpec {
                            source: ModelSource::Pretrain(PretrainSpec {
                                hidden_size: 8,
                                intermediate_size: 8,
                                layers: 1,
                                heads: 1,
                                kv_heads: 1,
                                vocab_size: 300,
                                steps: 1,
                                batch: 1,
                                lr: 1e-3,
                                shuffled: 0.0,
                                target_reward: 1.0,
                                seed: 0,
                            }),
                            dtype: Dtype::Float32,
                        },
                        task: TaskSpec::AlphabetSort(AlphabetSortSpec {
                            min_turns: 1,
                            max_turns: 1,
                            min_names_per_turn: 1,
                            max_names_per_turn: 1,
                            sort_by: SortBy::First,
                            similarity_power: 1,
                            power_per_turn: true,
                            names: NamesSpec::File { path: PathBuf::new(), digest: String::new() },
                            prompts: PromptTemplates {
                                first: String::new(),
                                second: String::new(),
                                later: String::new(),
                            },
                        }),
                        grpo: GrpoSpec {
                            steps,
                            rollouts_per_step: 8,
                            group_size: 4,
                            advantage: Advantage::Mean,
                            ratio: RatioRule::Clip { low: 0.2, high: 0.2 },
                            normaliser: Normaliser::Token,
                            kl_coef: 0.0,
                            minibatches: 1,
                            updates_per_batch: 1,
                            micro_batch: 8,
                        },
                        optimizer: OptimizerSpec {
                            lr,
                            betas: [0.9, 0.999],
                            eps: 1e-8,
                            weight_decay: 0.0,
                            clip_norm: 1.0,
                            clip_domain: ClipDomain::Masked,
                        },
                        sampling: sampling.clone(),
                        mask: spec,
                        eval: EvalSpec { examples: 8, seed: 1, every: 5, sampling },
                        exec: ExecSpec {
                            device: DeviceChoice::Cpu,
                            jobs: number("exec", "jobs", 0),
                            threads: number("exec", "threads", 1),
                            checkpoint_every: number("exec", "checkpoint_every", 2),
                            keep_checkpoints: number("exec", "keep_checkpoints", 2),
                        },
                    },
                });
            }
        }
    }
    Ok(Plan { manifest, runs, merged: 0 })
}
