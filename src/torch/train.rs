//! A run: rollouts, advantages, gradients, sparse steps, evaluations, checkpoints; then the invariant and the end.
//!
//! ```text
//! for each step:  episodes -> play -> advantages -> gradients -> gather -> clip -> sparse AdamW -> a row
//! ```
//!
//! Invariants: a checkpoint stands at a step boundary, where no rollout is in flight; a step's numbers are a function
//! of the run's configuration, the step and the weights, so a resumed run repeats an uninterrupted one bit for bit.
//! Source of the loop: DeepSeekMath's GRPO (arXiv 2402.03300), synchronous: rollouts and gradients use the same weights.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::data::{Chat, ModelDir};
use crate::execute::{Context, Event, Outcome, Reuse, StageFailure};
use crate::grpo::{advantages, zero_variance};
use crate::manifest::RunConfig;
use crate::plan::RunSpec;
use crate::provenance;
use crate::sparsity::Mask;
use crate::store::{Attempt, Checkpoint, Row};
use crate::task::Task;

use super::checkpoint;
use super::evaluate::{Evaluation, evaluations, mean_and_error, means_of_parts};
use super::failure::RunError;
use super::fit::{REDUCED, Reduced};
use super::loss::{Batch, score};
use super::rollout::{Draws, Rollout, play_and_keep};
use super::take_over::{self, TakenOver};
use super::update::update;
use super::{Model, SparseAdamW, TorchError, device, from_hub, masks, setup};

/// Everything that a step works with.
pub(super) struct Run<'a> {
    config: &'a RunConfig,
    task: Task,
    evals: Vec<Evaluation<'a>>,
    chat: Chat,
    pub(super) model: Model,
    mask: Option<Mask>,
    adam: SparseAdamW,
    total: usize,
    /// Digests of the base and the mask that the active values belong to.
    inputs: Value,
    pub(super) taken: TakenOver,
    reduced: Option<Reduced>,
}

/// How a run is made anew when it could not be made as it was begun.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// Takes nothing over.
    alone: bool,
    /// Takes less at a time.
    reduced: Option<Reduced>,
}

/// Executes a run from its newest checkpoint to its end. Steps of an earlier run of the same trajectory are taken over; when
/// this machine does not repeat them bit for bit, the run starts anew from the base, and alone. So it does when what its own
/// checkpoint saves does not belong to the base or the mask that are there; and, with half as much at a time, when memory runs out
/// in a step.
///
/// # Errors
/// When the run fails; the attempt is marked failed with class, step and cause.
pub fn run(spec: &RunSpec, cx: &Context) -> Result<Outcome, StageFailure> {
    let id = spec.id.as_str();
    let mut spec = spec.clone();
    let mut manner = Manner::default();
    let (attempt, step, result) = loop {
        let mut attempt = cx.begin(id)?;
        take_over::note_provenance(&attempt, &spec.config)?;
        manner.reduced = Reduced::of(attempt.resumed()).or(manner.reduced);
        if let Some(reduced) = manner.reduced {
            reduced.apply(&mut spec.config.grpo);
        }
        let mut step = attempt.resumed().map_or(0, Checkpoint::step);
        let result = steps(&spec, cx, &mut attempt, &mut step, manner);
        // The first two happen once: after it there is nothing that could be of another base, or be taken over.
        let why = match &result {
            Err(error @ (RunError::NotRepeated { .. } | RunError::OtherInputs { .. })) => {
                manner.alone |= matches!(error, RunError::NotRepeated { .. });
                error.to_string()
            }
            Err(error @ RunError::TooLarge { .. }) => {
                let Some(half) = Reduced::half_of(&spec.config.grpo) else { break (attempt, step, result) };
                manner.reduced = Some(half);
                let why = format!("{error}; the run begins anew with {half}, which changes float rounding");
                (cx.events)(Event::Note(why.clone()));
                why
            }
            _ => break (attempt, step, result),
        };
        let last = attempt.number();
        drop(attempt);
        cx.store.set_attempts_aside(id, last, &why)?;
    };
    match result {
        Ok(Some(finished)) => {
            let files: Vec<(&str, &[u8])> =
                finished.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            attempt.finish(&files, finished.meta)?;
            Ok(Outcome::Finished)
        }
        Ok(None) => Ok(Outcome::Paused { step }),
        Err(error) => {
            let failure = StageFailure::from(error).at(step);
            attempt.fail(&failure.to_record())?;
            Err(failure)
        }
    }
}

/// What a finished run leaves behind.
struct Finished {
    files: Vec<(String, Vec<u8>)>,
    meta: Value,
}

/// `step` is kept up to date for the failure record. Returns `None` when asked to stop.
fn steps(
    spec: &RunSpec,
    cx: &Context,
    attempt: &mut Attempt,
    step: &mut u32,
    manner: Manner,
) -> Result<Option<Finished>, RunError> {
    let config = &spec.config;
    let device = setup::device(config)?;
    let task = from_hub::task(&config.task, spec, cx)?;
    let evals = evaluations(spec, cx)?;
    let folder = setup::base_folder(spec, cx)?;
    let (model, chat) = setup::base(spec, &folder, device)?;
    let mask = masks::mask(spec, cx.store, &ModelDir::open(&folder)?)?;
    let adam = SparseAdamW::new(&model.weights, mask.as_ref(), &config.optimizer)?;
    let total = model.weights.parameters.iter().map(crate::data::Parameter::elements).sum();
    let taken = TakenOver::of(attempt.resumed(), manner.alone);
    let reduced = manner.reduced;
    let inputs = take_over::inputs(spec, cx.store)?;
    let mut run = Run { config, task, evals, chat, model, mask, adam, total, inputs, taken, reduced };
    run.note_class(attempt.resumed(), cx.events)?;
    attempt.keep_bytes(u64::from(config.exec.keep_mib) << 20);
    // The step of the newest checkpoint: the same step is not saved twice.
    let mut saved = attempt.resumed().map(Checkpoint::step);
    if let Some(saved) = attempt.resumed() {
        run.restore(&saved.read(checkpoint::STATE_FILE)?, saved.meta())?;
    }
    match saved {
        Some(step) => attempt.log(&format!("goes on from the checkpoint of step {step}"))?,
        None => attempt.log("starts from the base")?,
    }
    let mut reuse = run.earlier(spec, cx.store, *step, attempt)?;
    if let Some(earlier) = &reuse {
        let (spared, run) = (earlier.spared(*step), &earlier.relative.run);
        let note = format!("takes {spared} of {} steps over from run {run}", config.grpo.steps);
        (cx.events)(Event::Note(note));
    }
    (cx.events)(Event::Phase { name: "train".into(), steps: config.grpo.steps });
    let mut last_eval = attempt.eval_rows().last().and_then(score_of);
    if saved.is_none() {
        last_eval = run.evaluate(0, attempt, reuse.as_ref())?;
        run.save(0, attempt)?;
        saved = Some(0);
    }
    while *step < config.grpo.steps {
        if (cx.stop)() {
            if saved != Some(*step) {
                run.save(*step, attempt)?;
            }
            return Ok(None);
        }
        let row = if let Some(target) = reuse.as_ref().and_then(|reuse| reuse.jump(*step)) {
            let Some(row) = run.take_over(&mut reuse, *step, target, attempt)? else { continue };
            *step = target;
            row
        } else {
            let row = run.step(*step)?;
            *step += 1;
            run.compare(&mut reuse, &row, *step, attempt)?;
            row
        };
        attempt.metrics(&row)?;
        if run.due(*step) {
            last_eval = run.evaluate(*step, attempt, reuse.as_ref())?;
        }
        if step.is_multiple_of(config.exec.checkpoint_every) && *step < config.grpo.steps {
            run.save(*step, attempt)?;
            saved = Some(*step);
        }
        let reward = row.get("reward/mean").and_then(Value::as_f64).unwrap_or(f64::NAN);
        let eval = last_eval.map_or(String::new(), |score| format!("  eval {score:.3}"));
        (cx.events)(Event::Progress { step: *step, message: format!("reward {reward:.3}{eval}") });
    }
    run.finish(&folder).map(Some)
}

/// The first score of a row: that of the plain evaluation, or of the first named one that was made.
fn score_of(row: &Row) -> Option<f64> {
    row.iter().find(|(column, _)| column.ends_with("/score"))?.1.as_f64()
}

impl Run<'_> {
    /// One step of GRPO. The row's `step` counts completed steps.
    fn step(&mut self, step: u32) -> Result<Row, RunError> {
        let config = self.config;
        let grpo = &config.grpo;
        let group = grpo.group_size as usize;
        let prompts = u64::from(grpo.rollouts_per_step / grpo.group_size);
        let rollout_start = Instant::now();
        let first = u64::from(step) * prompts;
        let episodes = self.task.train(config.seed, first..first + prompts).map_err(TorchError::from)?;
        let draws = Draws { seed: config.seed, stream: "train", step: u64::from(step) };
        // What less at a time may mend: an update; and rollouts where they are kept for it, which a GPU does not do.
        let short = |error: TorchError| RunError::from(error).in_step(step + 1, grpo.micro_batch);
        let kept = grpo.minibatches == 1 && !self.model.device().is_cuda();
        let (rollouts, tape) = play_and_keep(
            &self.model,
            &self.chat,
            &self.task,
            &episodes,
            group,
            &config.sampling,
            draws,
            if kept { (grpo.activations_mib as usize) << 20 } else { 0 },
        )
        .map_err(|error| if kept { short(error) } else { error.into() })?;
        let rollout_seconds = rollout_start.elapsed().as_secs_f64();

        let train_start = Instant::now();
        let rewards: Vec<f64> = rollouts.iter().map(|rollout| rollout.reward).collect();
        let advantages: Vec<f64> =
            rewards.chunks(group).flat_map(|rewards| advantages(rewards, grpo.advantage)).collect();
        // Without a KL term the distance to the base is still measured, where the run is evaluated.
        let measured = self.due(step + 1);
        let wanted = grpo.kl_coef > 0.0 || measured;
        let reference = if wanted { Some(self.reference(&rollouts).map_err(short)?) } else { None };
        let batch = Batch {
            rollouts: &rollouts,
            advantages: &advantages,
            reference: reference.as_deref(),
            temperature: config.sampling.policy_temperature(),
        };
        let lr = config.optimizer.rate(step, grpo.steps);
        let update =
            update(&self.model, &mut self.adam, batch, grpo, &config.optimizer, lr, tape).map_err(short)?;
        let train_seconds = train_start.elapsed().as_secs_f64();

        let movement = self.adam.movement(self.total)?;
        let (reward, _) = mean_and_error(&rewards);
        let deviation =
            (rewards.iter().map(|r| (r - reward).powi(2)).sum::<f64>() / rewards.len() as f64).sqrt();
        let groups = rewards.chunks(group).count() as f64;
        let constant = rewards.chunks(group).filter(|rewards| zero_variance(rewards)).count() as f64;
        let drawn: usize = rollouts.iter().map(Rollout::length).sum();
        let longest = rollouts.iter().map(Rollout::length).max().unwrap_or(0);
        let seen: usize = rollouts.iter().map(|rollout| rollout.tokens.len()).sum();
        let turns: usize = rollouts.iter().map(|rollout| rollout.answers.len()).sum();
        let truncated: usize = rollouts.iter().map(|rollout| rollout.truncated).sum();
        let tokens = update.stats.tokens as f64;
        let mut row = object(json!({
            "step": step + 1,
            "reward/mean": reward,
            "reward/std": deviation,
            "groups/zero_variance": constant / groups,
            "loss": update.loss,
            "entropy": update.stats.entropy / tokens,
            "kl/base": reference.as_ref().map(|_| update.stats.kl / tokens),
            "clip_share": update.stats.clipped / tokens,
            "length/mean": drawn as f64 / rollouts.len() as f64,
            "length/max": longest,
            "truncated": truncated as f64 / turns as f64,
            "lr": lr,
            "grad_norm/dense": update.dense_norm,
            "grad_norm/masked": update.masked_norm,
            "grad_share/masked": update.share,
            "update/l2": movement.l2,
            "update/linf": movement.linf,
            "update/changed_fp32": movement.changed_fp32,
            "update/changed_bf16": movement.changed_bf16,
            "update/changed_1e-5": movement.changed_1e5,
            "rollout_seconds": rollout_seconds,
            "train_seconds": train_seconds,
            "rollout_tokens_per_second": drawn as f64 / rollout_seconds,
            "train_tokens_per_second": seen as f64 * f64::from(grpo.updates_per_batch) / train_seconds,
            "peak_memory_bytes": peak_memory(),
        }));
        for (name, mean) in means_of_parts(&rollouts) {
            row.insert(format!("rewards/{name}"), mean.into());
        }
        Ok(row)
    }

    /// Whether some evaluation is made after so many steps.
    fn due(&self, step: u32) -> bool {
        self.evals.iter().any(|eval| eval.due(step, self.config.grpo.steps))
    }

    /// Logprobs of the rollouts under the base model.
    fn reference(&self, rollouts: &[Rollout]) -> Result<Vec<Vec<f32>>, TorchError> {
        let micro_batch = self.config.grpo.micro_batch as usize;
        let temperature = self.config.sampling.policy_temperature();
        self.adam.with_base(&self.model.weights, || score(&self.model, rollouts, temperature, micro_batch))
    }

    /// Evaluates, or takes the row of an earlier run that did just that; the score.
    fn evaluate(
        &mut self,
        step: u32,
        attempt: &mut Attempt,
        reuse: Option<&Reuse>,
    ) -> Result<Option<f64>, RunError> {
        let row = if let Some(row) = reuse.and_then(|reuse| reuse.eval_row(step)) {
            self.taken.copied = true;
            row.clone()
        } else {
            let mut row = object(json!({ "step": step }));
            for eval in self.evals.iter().filter(|eval| eval.due(step, self.config.grpo.steps)) {
                eval.add_to(&mut row, &self.model, &self.chat, &self.task)?;
            }
            row
        };
        attempt.eval(&row)?;
        Ok(score_of(&row))
    }

    /// Puts saved values and moments into the weights and the optimizer.
    pub(super) fn restore(&mut self, bytes: &[u8], meta: &Value) -> Result<(), RunError> {
        checkpoint::restore(bytes, &self.model.weights, &mut self.adam)?;
        let unsaid =
            || TorchError::Restore { what: "the saved state does not say its optimizer steps".into() };
        self.adam.steps = meta["optimizer_steps"].as_u64().ok_or_else(unsaid)?;
        Ok(())
    }

    /// What is noted beside every state.
    pub(super) fn meta(&self) -> Value {
        json!({
            "optimizer_steps": self.adam.steps,
            "device": format!("{:?}", self.model.device()).to_lowercase(),
            "processor": take_over::processor(self.model.device()),
            "inputs": self.inputs,
            "threads": self.config.exec.threads,
            "libtorch": device::libtorch().version,
            "tickets": provenance::VERSION,
            "build": provenance::build_digest(),
            "taken_over": self.taken.steps,
            "classes": self.taken.classes,
            "copied_evals": self.taken.copied,
            "alone": self.taken.alone,
            REDUCED: self.reduced.map(Reduced::to_value),
        })
    }

    fn save(&self, step: u32, attempt: &mut Attempt) -> Result<(), RunError> {
        let state = checkpoint::state(&self.model.weights, &self.adam)?;
        let keep = self.config.exec.keep_checkpoints;
        Ok(attempt.checkpoint(step, &[(checkpoint::STATE_FILE, &state)], self.meta(), keep)?)
    }

    /// Checks the central invariant and collects what is kept of the run.
    fn finish(&self, folder: &std::path::Path) -> Result<Finished, RunError> {
        let untouched = checkpoint::check_invariant(&self.model.weights, self.mask.as_ref(), folder)?;
        let active = self.mask.as_ref().map_or(self.total, Mask::active);
        let mut meta = self.meta();
        meta["weights_digest"] = self.model.weights.digest()?.into();
        meta["moments_digest"] = checkpoint::moments_digest(&self.model.weights, &self.adam)?.into();
        meta["active"] = active.into();
        meta["total"] = self.total.into();
        meta["invariant"] = json!({ "holds": true, "checked": untouched, "changed": 0 });
        let state = checkpoint::state(&self.model.weights, &self.adam)?;
        Ok(Finished { files: vec![(checkpoint::STATE_FILE.to_owned(), state)], meta })
    }
}

/// Peak memory of this process, host or device, whichever holds the tensors.
fn peak_memory() -> Option<u64> {
    device::cuda_memory().map(|memory| memory.allocated_peak).or_else(device::host_peak_bytes)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
