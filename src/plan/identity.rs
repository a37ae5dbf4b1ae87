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
use super::put::{
    advantage_word, normaliser_word, put_evals, put_kl, put_loop, put_model, put_optimizer, put_ratio,
    put_sampling, put_scores, put_task, put_type,
};
use super::put_mask::{put_fisher, put_mask};
use super::run_spec::{RunId, StageIds};
use crate::grpo::{GrpoSpec, OptimizerSpec, SamplingSpec};
use crate::manifest::{Dtype, ExecSpec, ModelSource, ModelSpec, RunConfig};
use crate::sparsity::{Criterion, FisherEstimator, FisherSpec, MaskSpec, Measure, Score, Sparse};
use crate::task::TaskSpec;

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
    let RunConfig { seed, model, task, grpo, optimizer, sampling, mask, eval, evals, exec } = config;
    // Where and how a run is carried out is not what it is.
    let ExecSpec {
        device: _,
        jobs: _,
        threads: _,
        checkpoint_every: _,
        keep_checkpoints: _,
        keep_mib: _,
        lease_seconds: _,
        retries: _,
        task_workers: _,
        task_timeout: _,
        cuda_graphs: _,
        max_runs: _,
    } = exec;

    let base = base_id(model, task);
    let scores = mask
        .gradients()
        .map(|fisher| scores_id(&base, model, task, (fisher, mask.measure()), grpo, optimizer, sampling));
    let mask = mask_id(mask, model, &base, scores.as_deref());

    let mut train = Canon::new(TRAIN_REV);
    train.text("base", &base);
    train.text("mask", mask.as_deref().unwrap_or("full"));
    train.whole("seed", *seed);
    put_type(&mut train, model);
    put_task(&mut train, "task", task);
    put_loop(&mut train, grpo);
    put_optimizer(&mut train, optimizer);
    put_sampling(&mut train, "sampling", sampling);
    // The state after a step does not depend on how many will follow, unless the learning rate of a step does.
    let falls = optimizer.schedule.needs_steps();
    if falls {
        train.whole("grpo.steps", grpo.steps);
    }
    let trajectory = train.id("tickets/v1/trajectory");
    if !falls {
        train.whole("grpo.steps", grpo.steps);
    }
    let train = train.id("tickets/v1/train");

    let mut score = Canon::new(EVAL_REV);
    score.text("trajectory", &trajectory);
    put_scores(&mut score, eval, evals);
    let eval_id = score.id("tickets/v1/eval");

    let mut run = Canon::new(RUN_REV);
    run.text("train", &train);
    // Left out at 1, so that the ids of the first revision stay.
    if EVAL_REV > 1 {
        run.whole("eval.rev", EVAL_REV);
    }
    put_evals(&mut run, eval, evals);
    let run = RunId::new(run.id("tickets/v1/run"));
    (run, StageIds { base, scores, mask, trajectory, train, eval: eval_id })
}

/// A configuration as dotted keys and plain values, in the order of the manifest's tables, for readers: equal runs have
/// equal settings everywhere, because what is operational (`exec`) or a path on this machine is left out.
pub fn settings(config: &RunConfig) -> Vec<(String, Value)> {
    let RunConfig { seed, model, task, grpo, optimizer, sampling, mask, eval, evals, exec: _ } = config;
    let mut canon = Canon::empty();
    canon.whole("seed", *seed);
    put_model(&mut canon, model, model.dtype);
    put_task(&mut canon, "task", task);
    canon.whole("grpo.steps", grpo.steps);
    put_loop(&mut canon, grpo);
    put_optimizer(&mut canon, optimizer);
    put_sampling(&mut canon, "sampling", sampling);
    put_mask(&mut canon, mask);
    if let Some(fisher) = mask.gradients() {
        put_fisher(&mut canon, fisher);
    }
    put_evals(&mut canon, eval, evals);
    canon.into_settings()
}

/// The base model. The built-in one learns from the task's demonstrations, so the task is part of it; it learns in
/// float32 whatever type its weights are used in afterwards.
fn base_id(model: &ModelSpec, task: &TaskSpec) -> String {
    let mut canon = Canon::new(BASE_REV);
    if let ModelSource::Pretrain(pretrain) = &model.source {
        put_model(&mut canon, model, Dtype::Float32);
        // A mixture stands in the place of the task.
        if pretrain.mix.is_empty() {
            put_task(&mut canon, "task", task);
        }
    } else {
        put_model(&mut canon, model, model.dtype);
    }
    canon.id("tickets/v1/base")
}

/// Scores of gradients, absolute or squared: for the batch estimator everything that moves a GRPO gradient, for that of the
/// model's own labels the length of an answer.
fn scores_id(
    base: &str,
    model: &ModelSpec,
    task: &TaskSpec,
    (fisher, measure): (&FisherSpec, Measure),
    grpo: &GrpoSpec,
    optimizer: &OptimizerSpec,
    sampling: &SamplingSpec,
) -> String {
    let mut canon = Canon::new(SCORES_REV);
    canon.text("base", base);
    put_type(&mut canon, model);
    put_task(&mut canon, "task", task);
    put_fisher(&mut canon, fisher);
    // Squares came first.
    if measure == Measure::Absolute {
        canon.text("scores.measure", measure.word());
    }
    match fisher.estimator {
        FisherEstimator::Sample => {}
        FisherEstimator::Batch => put_gradient(&mut canon, grpo, optimizer, sampling),
        FisherEstimator::Model => {
            // Labels of the model are drawn from the model as it is, whatever rollouts of training are drawn from.
            let SamplingSpec {
                temperature: _,
                top_p: _,
                top_k: _,
                min_p: _,
                repetition_penalty: _,
                max_tokens,
            } = sampling;
            canon.whole("sampling.max_tokens", *max_tokens);
        }
    }
    canon.id("tickets/v1/scores")
}

/// What moves one GRPO gradient at the base.
fn put_gradient(canon: &mut Canon<'_>, grpo: &GrpoSpec, optimizer: &OptimizerSpec, sampling: &SamplingSpec) {
    // The number of steps, the size of a step's batch and its cuts do not reach the one batch gradient.
    let GrpoSpec {
        steps: _,
        rollouts_per_step: _,
        group_size,
        advantage,
        ratio,
        level,
        normaliser,
        kl_coef,
        kl_corrected,
        minibatches: _,
        updates_per_batch: _,
        micro_batch,
        // What is kept and what is computed again are the same bits.
        activations_mib: _,
    } = grpo;
    canon.whole("grpo.group_size", *group_size);
    canon.text("grpo.advantage", advantage_word(*advantage));
    put_ratio(canon, *ratio, *level);
    canon.text("grpo.normaliser", normaliser_word(*normaliser));
    put_kl(canon, *kl_coef, *kl_corrected);
    // The gradient is summed over micro-batches: their size moves its last bits.
    canon.whole("grpo.micro_batch", *micro_batch);
    // Scores are dense, so the domain of clipping is too.
    let OptimizerSpec {
        lr: _,
        schedule: _,
        betas: _,
        eps: _,
        weight_decay: _,
        decay: _,
        clip_norm,
        clip_domain: _,
    } = optimizer;
    canon.number("optimizer.clip_norm", *clip_norm);
    put_sampling(canon, "sampling", sampling);
}

/// The settings of the one GRPO gradient whose square the batch estimator takes, as [`settings`] gives them, for readers.
pub fn gradient_settings(config: &RunConfig) -> Vec<(String, Value)> {
    let mut canon = Canon::empty();
    put_gradient(&mut canon, &config.grpo, &config.optimizer, &config.sampling);
    canon.into_settings()
}

/// The mask; a full run has none.
fn mask_id(mask: &MaskSpec, model: &ModelSpec, base: &str, scores: Option<&str>) -> Option<String> {
    let mut canon = Canon::new(MASK_REV);
    put_mask(&mut canon, mask);
    let MaskSpec::Sparse(Sparse { criterion, modules: _, control: _ }) = mask else { return None };
    match criterion {
        Criterion::Random { .. } | Criterion::Layers { .. } | Criterion::Modules | Criterion::File { .. } => {
            canon.text("base", base);
        }
        Criterion::Scored { by, keep: _, choice: _ } => match by {
            Score::Fisher(_) | Score::Gradient(_) => canon.text("scores", scores.unwrap_or_default()),
            Score::Snip(_) => {
                canon.text("base", base);
                canon.text("scores", scores.unwrap_or_default());
                put_type(&mut canon, model);
            }
            Score::Magnitude | Score::Moved { run: _ } => {
                canon.text("base", base);
                put_type(&mut canon, model);
            }
        },
    }
    Some(canon.id("tickets/v1/mask"))
}
