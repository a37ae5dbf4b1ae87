//! The held-out evaluations: fixed episodes and draws, one rollout each, so that scores of two steps or two runs are
//! compared on the same questions with the same luck.
//!
//! The plain evaluation writes the columns `eval/score` and so on; the named one `[eval.NAME]` writes `eval/NAME/score`. The
//! first few conversations are kept with the row, whole, for people to read.

use std::time::Instant;

use serde_json::{Value, json};

use crate::data::Chat;
use crate::execute::Context;
use crate::manifest::EvalSpec;
use crate::plan::RunSpec;
use crate::store::{Row, TRANSCRIPTS};
use crate::task::{Episode, Task};

use super::failure::RunError;
use super::rollout::{Draws, Rollout, play, played};
use super::{Model, TorchError, from_hub};

/// Conversations of an evaluation that are kept.
const KEPT: usize = 4;

/// One of a run's evaluations.
#[derive(Debug)]
pub struct Evaluation<'c> {
    /// Its name; the plain one has none.
    pub name: Option<&'c str>,
    /// Its settings.
    pub spec: &'c EvalSpec,
    /// Its task, where that is not the one of the training.
    pub task: Option<Task>,
}

/// The evaluations of a run: the named ones, or the plain one.
///
/// # Errors
/// When the task of a named one cannot be opened.
pub fn evaluations<'r>(run: &'r RunSpec, cx: &Context) -> Result<Vec<Evaluation<'r>>, RunError> {
    let config = &run.config;
    if config.evals.is_empty() {
        return Ok(vec![Evaluation { name: None, spec: &config.eval, task: None }]);
    }
    let named = config.evals.iter().map(|named| {
        let task = if named.task == config.task { None } else { Some(from_hub::task(&named.task, run, cx)?) };
        Ok(Evaluation { name: Some(&named.name), spec: &named.eval, task })
    });
    named.collect()
}

impl Evaluation<'_> {
    /// What its columns begin with.
    fn prefix(&self) -> String {
        self.name.map_or_else(|| "eval/".to_owned(), |name| format!("eval/{name}/"))
    }

    /// Whether it is made after `step` of `steps` steps.
    pub fn due(&self, step: u32, steps: u32) -> bool {
        step == steps || step.is_multiple_of(self.spec.every)
    }

    /// Evaluates the model as it stands and adds to the row of `eval.jsonl`; `trained_on` is the task of the training.
    ///
    /// # Errors
    /// When an episode cannot be made or played.
    pub fn add_to(
        &self,
        row: &mut Row,
        model: &Model,
        chat: &Chat,
        trained_on: &Task,
    ) -> Result<(), RunError> {
        let start = Instant::now();
        let (spec, task) = (self.spec, self.task.as_ref().unwrap_or(trained_on));
        let episodes =
            task.held_out(spec.seed, spec.rows, u64::from(spec.examples)).map_err(TorchError::from)?;
        // The draws do not depend on the step: a changed score is a changed policy.
        let draws = Draws { seed: spec.seed, stream: "eval", step: 0 };
        let rollouts = play(model, chat, task, &episodes, 1, &spec.sampling, draws)?;
        let rewards: Vec<f64> = rollouts.iter().map(|rollout| rollout.reward).collect();
        let (score, error) = mean_and_error(&rewards);
        let (_, highest) = task.range();
        let drawn: usize = rollouts.iter().map(Rollout::length).sum();
        let turns: usize = rollouts.iter().map(|rollout| rollout.answers.len()).sum();
        let truncated: usize = rollouts.iter().map(|rollout| rollout.truncated).sum();
        let perfect = rewards.iter().filter(|&&reward| reward >= highest).count();
        let prefix = self.prefix();
        let mut put = |column: &str, value: Value| row.insert(format!("{prefix}{column}"), value);
        put("score", score.into());
        put("stderr", error.into());
        put("examples", rollouts.len().into());
        put("perfect", (perfect as f64 / rewards.len() as f64).into());
        put("length", (drawn as f64 / rollouts.len() as f64).into());
        put("truncated", (truncated as f64 / turns as f64).into());
        for (name, mean) in means_of_parts(&rollouts) {
            put(&format!("rewards/{name}"), mean.into());
        }
        let kept = episodes.iter().zip(&rollouts).take(KEPT);
        let kept = kept.map(|(episode, rollout)| transcript(self.name, episode, rollout));
        match row.get_mut(TRANSCRIPTS).and_then(Value::as_array_mut) {
            Some(list) => list.extend(kept),
            None => {
                row.insert(TRANSCRIPTS.to_owned(), kept.collect());
            }
        }
        let before = row.get("eval_seconds").and_then(Value::as_f64).unwrap_or(0.0);
        row.insert("eval_seconds".to_owned(), json!(before + start.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// A whole conversation with what it earned.
pub fn transcript(eval: Option<&str>, episode: &Episode, rollout: &Rollout) -> Value {
    let messages = played(episode, rollout).messages();
    let messages: Vec<Value> =
        messages.iter().map(|message| json!({ "role": message.role, "content": message.content })).collect();
    let expected: Vec<&[String]> = episode.turns.iter().map(|turn| turn.expected.as_slice()).collect();
    let mut object = json!({
        "episode": episode.name,
        "messages": messages,
        "expected": expected,
        "reward": rollout.reward,
        "turns": rollout.turns,
        "truncated": rollout.truncated,
    });
    if let Some(name) = eval {
        object["eval"] = name.into();
    }
    if !rollout.parts.is_empty() {
        object["parts"] = rollout.parts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    object
}

/// The mean of each part of a reward over the rollouts that have it, by name.
pub fn means_of_parts(rollouts: &[Rollout]) -> Vec<(String, f64)> {
    let mut sums: std::collections::BTreeMap<&str, (f64, f64)> = std::collections::BTreeMap::new();
    for (name, value) in rollouts.iter().flat_map(|rollout| &rollout.parts) {
        let (sum, count) = sums.entry(name).or_default();
        *sum += value;
        *count += 1.0;
    }
    sums.into_iter().map(|(name, (sum, count))| (name.to_owned(), sum / count)).collect()
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
