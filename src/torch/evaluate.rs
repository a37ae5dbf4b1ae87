//! The held-out evaluation: fixed episodes and draws, one rollout each, so that scores of two steps or two runs are
//! compared on the same questions with the same luck.

use std::time::Instant;

use serde_json::json;

use crate::data::Chat;
use crate::manifest::EvalSpec;
use crate::store::Row;
use crate::task::Task;

use super::failure::RunError;
use super::rollout::{Draws, Rollout, play};
use super::{Model, TorchError};

/// Evaluates the model as it stands and returns the row of `eval.jsonl`.
///
/// # Errors
/// When an episode cannot be made or played.
pub fn evaluate(
    model: &Model,
    chat: &Chat,
    task: &Task,
    spec: &EvalSpec,
    step: u32,
) -> Result<Row, RunError> {
    let start = Instant::now();
    let episodes = task.held_out(spec.seed, spec.rows, u64::from(spec.examples)).map_err(TorchError::from)?;
    // The draws do not depend on the step: a changed score is a changed policy.
    let draws = Draws { seed: spec.seed, stream: "eval", step: 0 };
    let rollouts = play(model, chat, task, &episodes, 1, &spec.sampling, draws)?;
    let rewards: Vec<f64> = rollouts.iter().map(|rollout| rollout.reward).collect();
    let (score, error) = mean_and_error(&rewards);
    let drawn: usize = rollouts.iter().map(Rollout::length).sum();
    let turns: usize = rollouts.iter().map(|rollout| rollout.answers.len()).sum();
    let truncated: usize = rollouts.iter().map(|rollout| rollout.truncated).sum();
    let row = json!({
        "step": step,
        "eval/score": score,
        "eval/stderr": error,
        "eval/examples": rollouts.len(),
        "eval/perfect": rewards.iter().filter(|&&reward| reward >= 1.0).count() as f64 / rewards.len() as f64,
        "eval/length": drawn as f64 / rollouts.len() as f64,
        "eval/truncated": truncated as f64 / turns as f64,
        "eval_seconds": start.elapsed().as_secs_f64(),
    });
    Ok(row.as_object().cloned().unwrap_or_default())
}

/// Mean and its standard error (sample deviation over the root of n; 0 for a single value).
pub fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt() / count.sqrt())
}
