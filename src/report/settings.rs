//! A run's configuration as dotted keys and plain values, as the report stores and shows it.
//!
//! In: a [`RunConfig`]. Out: pairs in the order of the manifest's tables. Invariant: every setting that is part of a run
//! is there once (structs are destructured without `..`); what is operational (`exec`) or a path on this machine is not,
//! so equal runs have equal settings everywhere. This is for readers: ids are computed by `plan` alone.

use serde_json::{Value, json};

use crate::grpo::{Advantage, ClipDomain, GrpoSpec, Normaliser, OptimizerSpec, RatioRule, SamplingSpec};
use crate::manifest::{Dtype, EvalSpec, ModelSource, ModelSpec, PretrainSpec, RunConfig};
use crate::sparsity::{FisherEstimator, FisherSpec, MaskRng, MaskSpec, Rounding};
use crate::task::{AlphabetSortSpec, NamesSpec, PromptTemplates, RowNames, SortBy, TaskSpec};

/// Pairs under construction.
#[derive(Default)]
struct Settings(Vec<(String, Value)>);

impl Settings {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), value.into()));
    }
}

/// All settings of a run.
pub fn settings(config: &RunConfig) -> Vec<(String, Value)> {
    let RunConfig { seed, model, task, grpo, optimizer, sampling, mask, eval, exec: _ } = config;
    let mut pairs = Settings::default();
    pairs.put("seed", *seed);
    put_model(&mut pairs, model);
    put_task(&mut pairs, task);
    put_grpo(&mut pairs, grpo);
    let OptimizerSpec { lr, betas, eps, weight_decay, clip_norm, clip_domain } = optimizer;
    pairs.put("optimizer.lr", *lr);
    pairs.put("optimizer.betas", betas.to_vec());
    pairs.put("optimizer.eps", *eps);
    pairs.put("optimizer.weight_decay", *weight_decay);
    pairs.put("optimizer.clip_norm", *clip_norm);
    let domain = match clip_domain {
        ClipDomain::Masked => "masked",
        ClipDomain::Dense => "dense",
    };
    pairs.put("optimizer.clip_domain", domain);
    put_sampling(&mut pairs, "sampling", sampling);
    put_mask(&mut pairs, mask);
    let EvalSpec { examples, seed, every, sampling } = eval;
    pairs.put("eval.examples", *examples);
    pairs.put("eval.seed", *seed);
    pairs.put("eval.every", *every);
    put_sampling(&mut pairs, "eval.sampling", sampling);
    pairs.0
}

fn put_model(pairs: &mut Settings, model: &ModelSpec) {
    let ModelSpec { source, dtype } = model;
    match source {
        ModelSource::Directory { path: _, digest } => pairs.put("model.digest", digest.as_str()),
        ModelSource::Pretrain(pretrain) => {
            let PretrainSpec {
                hidden_size,
                intermediate_size,
                layers,
                heads,
                kv_heads,
                vocab_size,
                steps,
                batch,
                lr,
                shuffled,
                target_reward,
                seed,
            } = pretrain;
            pairs.put("model.pretrain.hidden_size", *hidden_size);
            pairs.put("model.pretrain.intermediate_size", *intermediate_size);
            pairs.put("model.pretrain.layers", *layers);
            pairs.put("model.pretrain.heads", *heads);
            pairs.put("model.pretrain.kv_heads", *kv_heads);
            pairs.put("model.pretrain.vocab_size", *vocab_size);
            pairs.put("model.pretrain.steps", *steps);
            pairs.put("model.pretrain.batch", *batch);
            pairs.put("model.pretrain.lr", *lr);
            pairs.put("model.pretrain.shuffled", *shuffled);
            pairs.put("model.pretrain.target_reward", *target_reward);
            pairs.put("model.pretrain.seed", *seed);
        }
    }
    let dtype = match dtype {
        Dtype::Float32 => "float32",
        Dtype::Bfloat16 => "bfloat16",
    };
    pairs.put("model.dtype", dtype);
}

fn put_task(pairs: &mut Settings, task: &TaskSpec) {
    let TaskSpec::AlphabetSort(task) = task;
    let AlphabetSortSpec {
        min_turns,
        max_turns,
        min_names_per_turn,
        max_names_per_turn,
        sort_by,
        similarity_power,
        power_per_turn,
        names,
        row_names,
        prompts,
    } = task;
    pairs.put("task.type", "alphabet_sort");
    pairs.put("task.min_turns", *min_turns);
    pairs.put("task.max_turns", *max_turns);
    pairs.put("task.min_names_per_turn", *min_names_per_turn);
    pairs.put("task.max_names_per_turn", *max_names_per_turn);
    let sort_by = match sort_by {
        SortBy::First => "first",
        SortBy::Last => "last",
        SortBy::Either => "either",
    };
    pairs.put("task.sort_by", sort_by);
    pairs.put("task.similarity_power", *similarity_power);
    pairs.put("task.power_per_turn", *power_per_turn);
    match names {
        NamesSpec::Shipped => pairs.put("task.names", "shipped"),
        NamesSpec::File { path: _, digest } => {
            pairs.put("task.names.digest", digest.as_str());
            let rule = match row_names {
                RowNames::First => "first",
                RowNames::Sample => "sample",
            };
            pairs.put("task.row_names", rule);
        }
    }
    let PromptTemplates { first, second, later } = prompts;
    pairs.put("task.prompts.first", first.as_str());
    pairs.put("task.prompts.second", second.as_str());
    pairs.put("task.prompts.later", later.as_str());
}

fn put_grpo(pairs: &mut Settings, grpo: &GrpoSpec) {
    let GrpoSpec {
        steps,
        rollouts_per_step,
        group_size,
        advantage,
        ratio,
        normaliser,
        kl_coef,
        minibatches,
        updates_per_batch,
        micro_batch,
    } = grpo;
    pairs.put("grpo.steps", *steps);
    pairs.put("grpo.rollouts_per_step", *rollouts_per_step);
    pairs.put("grpo.group_size", *group_size);
    let advantage = match advantage {
        Advantage::Mean => "mean",
        Advantage::MeanStd => "mean_std",
    };
    pairs.put("grpo.advantage", advantage);
    match ratio {
        RatioRule::Clip { low, high } => {
            pairs.put("grpo.ratio", "clip");
            pairs.put("grpo.clip_low", *low);
            pairs.put("grpo.clip_high", *high);
        }
        RatioRule::Mask { low, high } => {
            pairs.put("grpo.ratio", "mask");
            pairs.put("grpo.mask_low", *low);
            pairs.put("grpo.mask_high", *high);
        }
    }
    let normaliser = match normaliser {
        Normaliser::Token => "token",
        Normaliser::Sequence => "sequence",
    };
    pairs.put("grpo.normaliser", normaliser);
    pairs.put("grpo.kl_coef", *kl_coef);
    pairs.put("grpo.minibatches", *minibatches);
    pairs.put("grpo.updates_per_batch", *updates_per_batch);
    pairs.put("grpo.micro_batch", *micro_batch);
}

fn put_sampling(pairs: &mut Settings, table: &str, sampling: &SamplingSpec) {
    let SamplingSpec { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens } = sampling;
    let values = [
        ("temperature", json!(temperature)),
        ("top_p", json!(top_p)),
        ("top_k", json!(top_k)),
        ("min_p", json!(min_p)),
        ("repetition_penalty", json!(repetition_penalty)),
        ("max_tokens", json!(max_tokens)),
    ];
    for (key, value) in values {
        pairs.put(&format!("{table}.{key}"), value);
    }
}

fn put_mask(pairs: &mut Settings, mask: &MaskSpec) {
    let word = |rounding: &Rounding| match rounding {
        Rounding::Floor => "floor",
        Rounding::Ceil => "ceil",
    };
    match mask {
        MaskSpec::Full => pairs.put("mask.type", "full"),
        MaskSpec::Random { sparsity, seed, rng } => {
            pairs.put("mask.type", "random");
            pairs.put("mask.sparsity", *sparsity);
            pairs.put("mask.seed", *seed);
            let rng = match rng {
                MaskRng::Chacha => "chacha",
                MaskRng::Numpy => "numpy",
            };
            pairs.put("mask.rng", rng);
        }
        MaskSpec::Fisher { sparsity, rounding, fisher } => {
            pairs.put("mask.type", "fisher");
            pairs.put("mask.sparsity", *sparsity);
            pairs.put("mask.rounding", word(rounding));
            let FisherSpec { estimator, episodes, seed } = fisher;
            let estimator = match estimator {
                FisherEstimator::Batch => "batch",
                FisherEstimator::Sample => "sample",
            };
            pairs.put("fisher.estimator", estimator);
            pairs.put("fisher.episodes", *episodes);
            pairs.put("fisher.seed", *seed);
        }
        MaskSpec::Magnitude { sparsity, rounding } => {
            pairs.put("mask.type", "magnitude");
            pairs.put("mask.sparsity", *sparsity);
            pairs.put("mask.rounding", word(rounding));
        }
    }
}
