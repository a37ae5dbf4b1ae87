//! From the merged shape to a [`RunConfig`]: chosen variants, rules across keys, digests of what is named.
//!
//! Ranges of single keys were checked where they were written (`keys.rs`); here stand the rules that take two keys.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use super::files;
use super::raw::{
    Course, Denominator, MaskType, Ratio, Raw, RawEval, RawGrpo, RawOptimizer, RawPretrain, RawRetries,
    RawSampling,
};
use super::spec::{EvalSpec, ExecSpec, ModelSource, ModelSpec, NamedEval, PretrainSpec, Retries, RunConfig};
use super::valid_mask::{keeps_something, mask, run_id};
use super::valid_task::{mixed, task};
use crate::grpo::{GrpoSpec, Level, Normaliser, OptimizerSpec, RatioRule, SamplingSpec, Schedule, Shape};
use crate::task::{Order, PromptTemplates, TaskError, TaskSpec, check_prompts};

/// A broken rule. It is shown at the first of `keys` that somebody wrote.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The keys that the rule is about, the likeliest to be wrong first.
    pub keys: Vec<&'static str>,
    /// What is wrong.
    pub text: String,
    /// What is allowed.
    pub help: String,
}

/// What configurations name and say again and again, looked at once: digests of files, what is wrong with prompts.
#[derive(Debug, Default)]
pub struct Digests {
    known: BTreeMap<(bool, PathBuf), Result<String, String>>,
    masks: BTreeMap<PathBuf, Result<(String, u64), String>>,
    prompts: Option<(PromptTemplates, Vec<Problem>)>,
}

impl Digests {
    /// What is wrong with templates of prompts, with the keys of `[task]`.
    pub(super) fn check(&mut self, templates: &PromptTemplates) -> Vec<Problem> {
        if let Some((_, problems)) = self.prompts.as_ref().filter(|(known, _)| known == templates) {
            return problems.clone();
        }
        let problem = |(key, error): (&'static str, TaskError)| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let (text, help) = (format!("{error}{cause}"), error.hint().unwrap_or_default());
            Problem { keys: vec![key], text, help }
        };
        let problems = check_prompts(templates).into_iter().map(problem).collect::<Vec<_>>();
        self.prompts = Some((templates.clone(), problems.clone()));
        problems
    }

    /// blake3 of a mask file, in hex, and how many entries it trains.
    pub(super) fn mask(&mut self, path: &str) -> Result<(String, u64), String> {
        let known = self.masks.entry(path.into());
        known.or_insert_with_key(|path| files::mask_file(path).map_err(|error| error.to_string())).clone()
    }

    /// blake3 of a file, or of a model folder, in hex.
    pub(super) fn get(&mut self, path: &str, folder: bool) -> Result<String, String> {
        let path = PathBuf::from(path);
        let digest = self.known.entry((folder, path)).or_insert_with_key(|(folder, path)| {
            let digest = if *folder { files::model_digest(path) } else { files::file_digest(path) };
            digest.map_err(|error| error.to_string())
        });
        digest.clone()
    }
}

/// Collects problems while fields are built.
pub(super) struct Rules<'d> {
    problems: Vec<Problem>,
    pub(super) digests: &'d mut Digests,
}

impl Rules<'_> {
    /// Adds a problem.
    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn broken(&mut self, keys: &[&'static str], text: String, help: &str) {
        self.problems.push(Problem { keys: keys.to_vec(), text, help: help.into() });
    }

    pub(super) fn unless(
        &mut self,
        holds: bool,
        keys: &[&'static str],
        text: impl FnOnce() -> String,
        help: &str,
    ) {
        if !holds {
            self.broken(keys, text(), help);
        }
    }

    /// `divisor` divides `dividend`; both are at least 1.
    fn divides(&mut self, divisor: (&'static str, u32), dividend: (&'static str, u32), help: &str) {
        let text =
            || format!("`{}` = {} does not divide `{}` = {}", divisor.0, divisor.1, dividend.0, dividend.1);
        self.unless(dividend.1.is_multiple_of(divisor.1), &[divisor.0, dividend.0], text, help);
    }
}

/// The typed configuration of a run, or everything that is wrong with it.
pub fn run_config(raw: Raw, digests: &mut Digests) -> Result<RunConfig, Vec<Problem>> {
    let mut rules = Rules { problems: Vec::new(), digests };
    let source = match &raw.model.path {
        Some(path) => match rules.digests.get(path, true) {
            Ok(digest) => ModelSource::Directory { path: path.into(), digest },
            Err(error) => {
                let help = "a model folder has config.json, tokenizer.json and *.safetensors";
                rules.broken(&["model.path"], format!("`model.path` cannot be used: {error}"), help);
                ModelSource::Directory { path: path.into(), digest: String::new() }
            }
        },
        None => match raw.model.id {
            Some(id) => ModelSource::Hub { id, revision: raw.model.revision },
            None => match raw.model.run {
                Some(run) => {
                    run_id("model.run", &run, &mut rules);
                    ModelSource::Run { run }
                }
                None => ModelSource::Pretrain(pretrain(&raw.model.pretrain, &mut rules)),
            },
        },
    };
    if let (MaskType::Layers, ModelSource::Pretrain(base)) = (raw.mask.r#type, &source) {
        let (count, layers) = (raw.mask.count, base.layers);
        let text = || format!("`mask.count` = {count} is more than `model.pretrain.layers` = {layers}");
        let help = "a mask of layers trains some of the layers that there are";
        rules.unless(count <= layers, &["mask.count", "model.pretrain.layers"], text, help);
    }
    // The study's order begins again after every evaluation.
    let prompts = u64::from(raw.grpo.rollouts_per_step / raw.grpo.group_size);
    let recycled =
        Order::Recycled { eval_seed: raw.eval.seed, period: u64::from(raw.eval.every) * prompts.max(1) };
    let trained_on = task(raw.task, "task", recycled, &mut rules);
    if raw.evals.is_empty()
        && let TaskSpec::Gsm8k(_) | TaskSpec::Math(_) = trained_on
    {
        let text = "the evaluation would ask the questions that the run trains on".to_owned();
        let help = "name another split or file: [eval.test] with task.split = \"test\", or with task.file";
        rules.broken(&["task.type"], text, help);
    }
    let turns = trained_on.turns();
    let grpo = grpo(&raw.grpo, raw.sampling.max_tokens.saturating_mul(turns), &mut rules);
    let optimizer = optimizer(&raw.optimizer, grpo.steps, &mut rules);
    let mask = mask(&raw.mask, &raw.fisher, grpo.group_size, &mut rules);
    if let ModelSource::Pretrain(base) = &source {
        keeps_something(&mask, base, &mut rules);
    }
    let mut held_out = |key: &'static str, seed: u64| {
        let text = || format!("`{key}` and `seed` are both {seed}");
        let help = "held-out episodes need a seed of their own";
        rules.unless(seed != raw.seed, &[key, "eval.seed", "seed"], text, help);
    };
    if raw.evals.is_empty() {
        held_out("eval.seed", raw.eval.seed);
    }
    for (name, named) in &raw.evals {
        held_out(key_of(name, "seed"), named.eval.seed);
    }
    let text = || "`exec.lease_seconds` = 1 is too short to be renewed in time".to_owned();
    let help = "at least 2 seconds, or 0 to take no claims";
    rules.unless(raw.exec.lease_seconds != 1, &["exec.lease_seconds"], text, help);
    let named = raw.evals.into_iter().map(|(name, named)| {
        let task = task(named.task, &format!("eval.{name}.task"), recycled, &mut rules);
        NamedEval { eval: eval(&named.eval), task, name }
    });
    let evals = named.collect();
    if !rules.problems.is_empty() {
        return Err(rules.problems);
    }
    Ok(RunConfig {
        seed: raw.seed,
        model: ModelSpec { source, dtype: raw.model.dtype },
        task: trained_on,
        grpo,
        optimizer,
        sampling: sampling(&raw.sampling),
        mask,
        eval: eval(&raw.eval),
        evals,
        exec: ExecSpec {
            device: raw.exec.device,
            jobs: raw.exec.jobs,
            threads: raw.exec.threads,
            checkpoint_every: raw.exec.checkpoint_every,
            keep_checkpoints: raw.exec.keep_checkpoints,
            keep_mib: raw.exec.keep_mib,
            lease_seconds: raw.exec.lease_seconds,
            retries: retries(&raw.exec.retries),
            task_workers: raw.exec.task_workers,
            task_timeout: raw.exec.task_timeout,
            cuda_graphs: raw.exec.cuda_graphs,
            max_runs: raw.exec.max_runs,
        },
    })
}

fn retries(raw: &RawRetries) -> Retries {
    Retries {
        nan: raw.nan,
        oom: raw.oom,
        killed: raw.killed,
        infra: raw.infra,
        store: raw.store,
        task: raw.task,
    }
}

/// The key of a named evaluation, for a message.
fn key_of(name: &str, rest: &str) -> &'static str {
    super::keys::find(&format!("eval.{name}.{rest}")).map_or("eval.seed", |key| key.path)
}

fn eval(raw: &RawEval) -> EvalSpec {
    EvalSpec {
        examples: raw.examples,
        rows: raw.rows,
        seed: raw.seed,
        every: raw.every,
        sampling: sampling(&raw.sampling),
    }
}

fn pretrain(raw: &RawPretrain, rules: &mut Rules<'_>) -> PretrainSpec {
    let (hidden, heads) = ("model.pretrain.hidden_size", "model.pretrain.heads");
    rules.divides((heads, raw.heads), (hidden, raw.hidden_size), "every head has the same width");
    let width = raw.hidden_size / raw.heads;
    let text = || format!("`{hidden}` / `{heads}` = {width}, which is odd");
    let paired = !raw.hidden_size.is_multiple_of(raw.heads) || width.is_multiple_of(2);
    rules.unless(paired, &[heads, hidden], text, "rotary embedding turns pairs, so a head's width is even");
    let help = "every key and value head serves the same number of query heads";
    rules.divides(("model.pretrain.kv_heads", raw.kv_heads), (heads, raw.heads), help);
    PretrainSpec {
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        layers: raw.layers,
        heads: raw.heads,
        kv_heads: raw.kv_heads,
        vocab_size: raw.vocab_size,
        steps: raw.steps,
        batch: raw.batch,
        lr: raw.lr,
        shuffled: raw.shuffled,
        target_reward: raw.target_reward,
        seed: raw.seed,
        mix: raw.mix.as_deref().map_or_else(Vec::new, |mix| mixed(mix, rules)),
    }
}

/// `longest`: the most tokens that a rollout can draw.
fn grpo(raw: &RawGrpo, longest: u32, rules: &mut Rules<'_>) -> GrpoSpec {
    let (size, rollouts) = ("grpo.group_size", "grpo.rollouts_per_step");
    let help = "a step's rollouts are whole groups";
    rules.divides((size, raw.group_size), (rollouts, raw.rollouts_per_step), help);
    if raw.rollouts_per_step.is_multiple_of(raw.group_size) {
        let (groups, parts) = (raw.rollouts_per_step / raw.group_size, raw.minibatches);
        let text = || {
            format!(
                "`grpo.minibatches` = {parts} does not divide the {groups} groups of a step ({rollouts} / {size})"
            )
        };
        let keys = ["grpo.minibatches", size, rollouts];
        rules.unless(
            groups.is_multiple_of(parts),
            &keys,
            text,
            "every minibatch has the same number of groups",
        );
    }
    GrpoSpec {
        steps: raw.steps,
        rollouts_per_step: raw.rollouts_per_step,
        group_size: raw.group_size,
        advantage: raw.advantage,
        ratio: ratio(raw, rules),
        level: raw.level,
        normaliser: match raw.normaliser {
            Denominator::Token => Normaliser::Token,
            Denominator::Sequence => Normaliser::Sequence,
            Denominator::Constant => Normaliser::Constant { tokens: longest },
        },
        kl_coef: raw.kl_coef,
        kl_corrected: raw.kl_corrected,
        minibatches: raw.minibatches,
        updates_per_batch: raw.updates_per_batch,
        micro_batch: raw.micro_batch,
        activations_mib: raw.activations_mib,
    }
}

fn ratio(raw: &RawGrpo, rules: &mut Rules<'_>) -> RatioRule {
    match raw.ratio {
        Ratio::Clip => {
            let (high, delta) = (raw.clip_high, raw.clip_delta);
            let text = || {
                format!(
                    "`grpo.clip_delta` = {} is not above 1 + `grpo.clip_high` = {}",
                    delta.unwrap_or(0.0),
                    1.0 + high
                )
            };
            let help = "it bounds what the clip leaves alone: ratios of tokens with a negative advantage";
            let outside = delta.is_none_or(|delta| delta > 1.0 + high);
            rules.unless(outside, &["grpo.clip_delta", "grpo.clip_high"], text, help);
            RatioRule::Clip { low: raw.clip_low, high, delta }
        }
        Ratio::Mask => {
            let text = || "`grpo.sequence_mask_low` has no use with `grpo.level` = \"sequence\"".to_owned();
            let help = "a rollout has one ratio there, and `grpo.mask_low` bounds it";
            let used = raw.sequence_mask_low == 0.0 || raw.level == Level::Token;
            rules.unless(used, &["grpo.sequence_mask_low", "grpo.level"], text, help);
            RatioRule::Mask { low: raw.mask_low, high: raw.mask_high, sequence_low: raw.sequence_mask_low }
        }
        Ratio::Cispo => RatioRule::Cispo { high: raw.cispo_high },
    }
}

fn optimizer(raw: &RawOptimizer, steps: u32, rules: &mut Rules<'_>) -> OptimizerSpec {
    let text =
        || format!("`optimizer.warmup_steps` = {} is not less than `grpo.steps` = {steps}", raw.warmup_steps);
    let help = "the learning rate is reached before the run ends";
    rules.unless(raw.warmup_steps < steps, &["optimizer.warmup_steps", "grpo.steps"], text, help);
    let floor = raw.final_share;
    OptimizerSpec {
        lr: raw.lr,
        schedule: Schedule {
            warmup_steps: raw.warmup_steps,
            shape: match raw.schedule {
                Course::Constant => Shape::Constant,
                Course::Linear => Shape::Linear { floor },
                Course::Cosine => Shape::Cosine { floor },
            },
        },
        betas: raw.betas,
        eps: raw.eps,
        weight_decay: raw.weight_decay,
        decay: raw.decay,
        clip_norm: raw.clip_norm,
        clip_domain: raw.clip_domain,
    }
}

fn sampling(raw: &RawSampling) -> SamplingSpec {
    SamplingSpec {
        temperature: raw.temperature,
        top_p: raw.top_p,
        top_k: raw.top_k,
        min_p: raw.min_p,
        repetition_penalty: raw.repetition_penalty,
        max_tokens: raw.max_tokens,
    }
}
