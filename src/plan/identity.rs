//! Identity: the only place that computes the ids of stages and runs.
//!
//! In: a [`RunConfig`]. Out: [`StageIds`] and a [`RunId`]. An id is blake3 (`derive_key`, one context per stage) over
//! canonical bytes of typed values: sorted dotted paths, a type tag, the value; floats by their bits with -0 as +0.
//! So comments, key order, spelling of numbers, spelled-out defaults, titles and file names are not in it.
//!
//! Invariants: a stage hashes the ids of the stages it stands on, and what moves its own numbers, nothing else.
//! Every struct is destructured without `..`: a new field does not compile until it is put in or left out here.
//! When a stage's results change their meaning, raise its `REV`; golden ids (`tests/golden`) show what moved.
//! A field that is added later must be left out at its old behaviour's value ([`Canon`] sorts, so nothing else moves).

use serde_json::Value;

use super::canon::Canon;
use super::run_spec::{RunId, StageIds};
use crate::grpo::{Advantage, ClipDomain, GrpoSpec, Normaliser, OptimizerSpec, RatioRule, SamplingSpec};
use crate::manifest::{Dtype, EvalSpec, ExecSpec, ModelSource, ModelSpec, PretrainSpec, RunConfig};
use crate::sparsity::{FisherEstimator, FisherSpec, MaskRng, MaskSpec, Rounding};
use crate::task::{AlphabetSortSpec, NamesSpec, PromptTemplates, RowNames, SortBy, TaskSpec};

/// Revision of the base stage.
const BASE_REV: u32 = 1;
/// Revision of the scores stage.
const SCORES_REV: u32 = 1;
/// Revision of the mask stage.
const MASK_REV: u32 = 1;
/// Revision of training.
const TRAIN_REV: u32 = 1;
/// Revision of an evaluation.
const EVAL_REV: u32 = 1;
/// Revision of a run: training and its evaluations.
const RUN_REV: u32 = 1;

/// The ids of a configuration.
pub fn identify(config: &RunConfig) -> (RunId, StageIds) {
    let RunConfig { seed, model, task, grpo, optimizer, sampling, mask, eval, exec } = config;
    // Where and how a run is carried out is not what it is.
    let ExecSpec { device: _, jobs: _, threads: _, checkpoint_every: _, keep_checkpoints: _ } = exec;

    let base = base_id(model, task);
    let scores = match mask {
        MaskSpec::Fisher { sparsity: _, rounding: _, fisher } => {
            Some(scores_id(&base, task, fisher, grpo, optimizer, sampling))
        }
        MaskSpec::Full | MaskSpec::Random { .. } | MaskSpec::Magnitude { .. } => None,
    };
    let mask = mask_id(mask, &base, scores.as_deref());

    let mut train = Canon::new(TRAIN_REV);
    train.text("base", &base);
    train.text("mask", mask.as_deref().unwrap_or("full"));
    train.whole("seed", *seed);
    put_task(&mut train, task);
    put_loop(&mut train, grpo);
    put_optimizer(&mut train, optimizer);
    put_sampling(&mut train, "sampling", sampling);
    // At a constant learning rate the state after a step does not depend on how many will follow.
    let trajectory = train.id("tickets/v1/trajectory");
    train.whole("grpo.steps", grpo.steps);
    let train = train.id("tickets/v1/train");

    let mut score = Canon::new(EVAL_REV);
    score.text("trajectory", &trajectory);
    put_score(&mut score, "eval", eval);
    let eval_id = score.id("tickets/v1/eval");

    let mut run = Canon::new(RUN_REV);
    run.text("train", &train);
    put_eval(&mut run, eval);
    let run = RunId::new(run.id("tickets/v1/run"));
    (run, StageIds { base, scores, mask, trajectory, train, eval: eval_id })
}

/// A configuration as dotted keys and plain values, in the order of the manifest's tables, for readers: equal runs have
/// equal settings everywhere, because what is operational (`exec`) or a path on this machine is left out.
pub fn settings(config: &RunConfig) -> Vec<(String, Value)> {
    let RunConfig { seed, model, task, grpo, optimizer, sampling, mask, eval, exec: _ } = config;
    let mut canon = Canon::empty();
    canon.whole("seed", *seed);
    put_model(&mut canon, model);
    put_task(&mut canon, task);
    canon.whole("grpo.steps", grpo.steps);
    put_loop(&mut canon, grpo);
    put_optimizer(&mut canon, optimizer);
    put_sampling(&mut canon, "sampling", sampling);
    put_mask(&mut canon, mask);
    if let MaskSpec::Fisher { fisher, .. } = mask {
        put_fisher(&mut canon, fisher);
    }
    put_eval(&mut canon, eval);
    canon.into_settings()
}

/// The base model. The built-in one learns from the task's demonstrations, so the task is part of it.
fn base_id(model: &ModelSpec, task: &TaskSpec) -> String {
    let mut canon = Canon::new(BASE_REV);
    put_model(&mut canon, model);
    if let ModelSource::Pretrain(_) = model.source {
        put_task(&mut canon, task);
    }
    canon.id("tickets/v1/base")
}

fn put_model(canon: &mut Canon, model: &ModelSpec) {
    let ModelSpec { source, dtype } = model;
    canon.text("model.dtype", dtype_word(*dtype));
    match source {
        ModelSource::Directory { path: _, digest } => canon.text("model.digest", digest),
        ModelSource::Pretrain(pretrain) => put_pretrain(canon, pretrain),
    }
}

/// Fisher scores: for the batch estimator everything that moves a GRPO gradient.
fn scores_id(
    base: &str,
    task: &TaskSpec,
    fisher: &FisherSpec,
    grpo: &GrpoSpec,
    optimizer: &OptimizerSpec,
    sampling: &SamplingSpec,
) -> String {
    let mut canon = Canon::new(SCORES_REV);
    canon.text("base", base);
    put_task(&mut canon, task);
    put_fisher(&mut canon, fisher);
    match fisher.estimator {
        FisherEstimator::Sample => {}
        FisherEstimator::Batch => {
            // The number of steps, the size of a step's batch and its cuts do not reach the one batch gradient.
            let GrpoSpec {
                steps: _,
                rollouts_per_step: _,
                group_size,
                advantage,
                ratio,
                normaliser,
                kl_coef,
                minibatches: _,
                updates_per_batch: _,
                micro_batch,
            } = grpo;
            canon.whole("grpo.group_size", *group_size);
            canon.text("grpo.advantage", advantage_word(*advantage));
            put_ratio(&mut canon, *ratio);
            canon.text("grpo.normaliser", normaliser_word(*normaliser));
            canon.number("grpo.kl_coef", *kl_coef);
            // The gradient is summed over micro-batches: their size moves its last bits.
            canon.whole("grpo.micro_batch", *micro_batch);
            // Scores are dense, so the domain of clipping is too.
            let OptimizerSpec { lr: _, betas: _, eps: _, weight_decay: _, clip_norm, clip_domain: _ } =
                optimizer;
            canon.number("optimizer.clip_norm", *clip_norm);
            put_sampling(&mut canon, "sampling", sampling);
        }
    }
    canon.id("tickets/v1/scores")
}

/// The mask; a full run has none.
fn mask_id(mask: &MaskSpec, base: &str, scores: Option<&str>) -> Option<String> {
    let mut canon = Canon::new(MASK_REV);
    put_mask(&mut canon, mask);
    match mask {
        MaskSpec::Full => return None,
        MaskSpec::Random { .. } | MaskSpec::Magnitude { .. } => canon.text("base", base),
        MaskSpec::Fisher { .. } => canon.text("scores", scores.unwrap_or_default()),
    }
    Some(canon.id("tickets/v1/mask"))
}

fn put_mask(canon: &mut Canon, mask: &MaskSpec) {
    match mask {
        MaskSpec::Full => canon.text("mask.type", "full"),
        MaskSpec::Random { sparsity, seed, rng } => {
            canon.text("mask.type", "random");
            canon.number("mask.sparsity", *sparsity);
            canon.whole("mask.seed", *seed);
            canon.text("mask.rng", rng_word(*rng));
        }
        MaskSpec::Fisher { sparsity, rounding, fisher: _ } => {
            canon.text("mask.type", "fisher");
            canon.number("mask.sparsity", *sparsity);
            canon.text("mask.rounding", rounding_word(*rounding));
        }
        MaskSpec::Magnitude { sparsity, rounding } => {
            canon.text("mask.type", "magnitude");
            canon.number("mask.sparsity", *sparsity);
            canon.text("mask.rounding", rounding_word(*rounding));
        }
    }
}

fn put_fisher(canon: &mut Canon, fisher: &FisherSpec) {
    let FisherSpec { estimator, episodes, seed } = fisher;
    canon.text(
        "fisher.estimator",
        match estimator {
            FisherEstimator::Batch => "batch",
            FisherEstimator::Sample => "sample",
        },
    );
    canon.whole("fisher.episodes", *episodes);
    canon.whole("fisher.seed", *seed);
}

fn put_pretrain(canon: &mut Canon, pretrain: &PretrainSpec) {
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
    canon.whole("model.pretrain.hidden_size", *hidden_size);
    canon.whole("model.pretrain.intermediate_size", *intermediate_size);
    canon.whole("model.pretrain.layers", *layers);
    canon.whole("model.pretrain.heads", *heads);
    canon.whole("model.pretrain.kv_heads", *kv_heads);
    canon.whole("model.pretrain.vocab_size", *vocab_size);
    canon.whole("model.pretrain.steps", *steps);
    canon.whole("model.pretrain.batch", *batch);
    canon.number("model.pretrain.lr", *lr);
    canon.number("model.pretrain.shuffled", *shuffled);
    canon.number("model.pretrain.target_reward", *target_reward);
    canon.whole("model.pretrain.seed", *seed);
}

fn put_task(canon: &mut Canon, task: &TaskSpec) {
    let TaskSpec::AlphabetSort(AlphabetSortSpec {
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
    }) = task;
    canon.text("task.type", "alphabet_sort");
    canon.whole("task.min_turns", *min_turns);
    canon.whole("task.max_turns", *max_turns);
    canon.whole("task.min_names_per_turn", *min_names_per_turn);
    canon.whole("task.max_names_per_turn", *max_names_per_turn);
    canon.text("task.sort_by", sort_by_word(*sort_by));
    canon.whole("task.similarity_power", *similarity_power);
    canon.flag("task.power_per_turn", *power_per_turn);
    match names {
        NamesSpec::Shipped => canon.text("task.names", "shipped"),
        NamesSpec::File { path: _, digest } => {
            canon.text("task.names.digest", digest);
            let rule = match row_names {
                RowNames::First => "first",
                RowNames::Sample => "sample",
            };
            canon.text("task.row_names", rule);
        }
    }
    let PromptTemplates { first, second, later } = prompts;
    canon.text("task.prompts.first", first);
    canon.text("task.prompts.second", second);
    canon.text("task.prompts.later", later);
}

/// The GRPO loop but for the number of its steps.
fn put_loop(canon: &mut Canon, grpo: &GrpoSpec) {
    let GrpoSpec {
        steps: _,
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
    canon.whole("grpo.rollouts_per_step", *rollouts_per_step);
    canon.whole("grpo.group_size", *group_size);
    canon.text("grpo.advantage", advantage_word(*advantage));
    put_ratio(canon, *ratio);
    canon.text("grpo.normaliser", normaliser_word(*normaliser));
    canon.number("grpo.kl_coef", *kl_coef);
    canon.whole("grpo.minibatches", *minibatches);
    canon.whole("grpo.updates_per_batch", *updates_per_batch);
    canon.whole("grpo.micro_batch", *micro_batch);
}

fn put_ratio(canon: &mut Canon, ratio: RatioRule) {
    let (word, low, high) = match ratio {
        RatioRule::Clip { low, high } => ("clip", low, high),
        RatioRule::Mask { low, high } => ("mask", low, high),
    };
    canon.text("grpo.ratio", word);
    canon.number(&format!("grpo.{word}_low"), low);
    canon.number(&format!("grpo.{word}_high"), high);
}

fn put_optimizer(canon: &mut Canon, optimizer: &OptimizerSpec) {
    let OptimizerSpec { lr, betas: [first, second], eps, weight_decay, clip_norm, clip_domain } = optimizer;
    canon.number("optimizer.lr", *lr);
    canon.number("optimizer.betas.0", *first);
    canon.number("optimizer.betas.1", *second);
    canon.number("optimizer.eps", *eps);
    canon.number("optimizer.weight_decay", *weight_decay);
    canon.number("optimizer.clip_norm", *clip_norm);
    canon.text(
        "optimizer.clip_domain",
        match clip_domain {
            ClipDomain::Masked => "masked",
            ClipDomain::Dense => "dense",
        },
    );
}

fn put_sampling(canon: &mut Canon, table: &str, sampling: &SamplingSpec) {
    let SamplingSpec { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens } = sampling;
    canon.number(&format!("{table}.temperature"), *temperature);
    canon.number(&format!("{table}.top_p"), *top_p);
    canon.whole(&format!("{table}.top_k"), *top_k);
    canon.number(&format!("{table}.min_p"), *min_p);
    canon.number(&format!("{table}.repetition_penalty"), *repetition_penalty);
    canon.whole(&format!("{table}.max_tokens"), *max_tokens);
}

fn put_eval(canon: &mut Canon, eval: &EvalSpec) {
    canon.whole("eval.every", eval.every);
    put_score(canon, "eval", eval);
}

/// What moves the score of one evaluation: not how often there is one.
fn put_score(canon: &mut Canon, table: &str, eval: &EvalSpec) {
    let EvalSpec { examples, seed, every: _, sampling } = eval;
    canon.whole(&format!("{table}.examples"), *examples);
    canon.whole(&format!("{table}.seed"), *seed);
    put_sampling(canon, &format!("{table}.sampling"), sampling);
}

fn dtype_word(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float32 => "float32",
        Dtype::Bfloat16 => "bfloat16",
    }
}

fn advantage_word(advantage: Advantage) -> &'static str {
    match advantage {
        Advantage::Mean => "mean",
        Advantage::MeanStd => "mean_std",
    }
}

fn normaliser_word(normaliser: Normaliser) -> &'static str {
    match normaliser {
        Normaliser::Token => "token",
        Normaliser::Sequence => "sequence",
    }
}

fn rng_word(rng: MaskRng) -> &'static str {
    match rng {
        MaskRng::Chacha => "chacha",
        MaskRng::Numpy => "numpy",
    }
}

fn rounding_word(rounding: Rounding) -> &'static str {
    match rounding {
        Rounding::Floor => "floor",
        Rounding::Ceil => "ceil",
    }
}

fn sort_by_word(sort_by: SortBy) -> &'static str {
    match sort_by {
        SortBy::First => "first",
        SortBy::Last => "last",
        SortBy::Either => "either",
    }
}
