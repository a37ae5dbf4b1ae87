//! Scores of every parameter at the base model: how large gradients are there, and how far two halves of the data agree.
//!
//! `batch` (what the study did): `m(clip(g))`, where g is the gradient of the run's own loss over `episodes` rollouts drawn
//! from the base, clipped to `clip_norm` by its dense norm. `sample` (the empirical Fisher diagonal) and `model` (the true one):
//! `1/N sum_n m(d log p(y_n | x_n) / d theta_i)`, where log p is the sum over the tokens of y_n: the task's own reference answer to
//! prompt x_n, or a conversation that the model itself draws at temperature 1. `m` is the square or the absolute value
//! ([`Measure`]). Sums are in float32, whatever type the model has. docs/scores.md says what to take them for.
//!
//! Held at once, in bytes per parameter of a float32 model, beside what one backward pass needs: 12. For `sample` and `model` these
//! are the weights, the sums, and in the second half the sums of the first one; a gradient is there for one layer at a time. For
//! `batch` they are the weights and the gradients of the two halves; the scores themselves were handed on before.

mod artifact;
mod batch;
mod halves;
mod samples;

use tch::{Kind, Tensor};

use crate::data::Chat;
use crate::manifest::RunConfig;
use crate::sparsity::{FisherEstimator, FisherSpec, Measure, SparsityError};
use crate::task::Task;

use super::{Model, TorchError};

pub use artifact::SCORES_FILE;
pub(super) use artifact::publish;
pub use halves::Halves;
pub use samples::drawn;

/// What scores are made of.
#[derive(Clone, Copy, Debug)]
pub struct ScoreSource<'a> {
    /// The base.
    pub model: &'a Model,
    /// Its tokenizer and template.
    pub chat: &'a Chat,
    /// Where prompts and rewards come from.
    pub task: &'a Task,
    /// Loss, clipping and sampling of the run; also the length of an answer.
    pub config: &'a RunConfig,
    /// Estimator, number of episodes, seed.
    pub spec: &'a FisherSpec,
    /// What of a gradient is added up.
    pub measure: Measure,
}

/// How the making of scores ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Scored {
    /// It was stopped.
    Stopped,
    /// They are complete. There are no halves of a single episode or group.
    Complete(Option<Halves>),
}

/// Makes scores and hands them to `keep`, float32, in study order; then says how far those of two halves of the data agree.
///
/// # Errors
/// When a gradient or a score is not finite or memory runs out, and those of `keep`.
pub fn scores<E: From<TorchError>>(
    source: &ScoreSource<'_>,
    progress: &dyn Fn(u32, String),
    stop: &dyn Fn() -> bool,
    keep: impl FnOnce(Vec<Tensor>) -> Result<(), E>,
) -> Result<Scored, E> {
    match source.spec.estimator {
        FisherEstimator::Batch => batch::scores(source, stop, keep),
        FisherEstimator::Sample => samples::scores(source, &mut samples::Right(source), progress, stop, keep),
        FisherEstimator::Model => {
            samples::scores(source, &mut samples::Own::new(source), progress, stop, keep)
        }
    }
}

/// What of a gradient is added up; a float32 tensor of its own.
fn measured(wide: &Tensor, measure: Measure) -> Result<Tensor, TorchError> {
    Ok(match measure {
        Measure::Square => wide.f_mul(wide)?,
        Measure::Absolute => wide.f_abs()?,
    })
}

/// Fails at the first score that is not a number.
fn check_finite(model: &Model, scores: &[Tensor]) -> Result<(), TorchError> {
    for (parameter, tensor) in model.weights.parameters.iter().zip(scores) {
        let finite = tensor.f_isfinite()?;
        if !bool::try_from(finite.f_all()?)? {
            let first = finite.f_reshape([-1])?.f_to_kind(Kind::Uint8)?.f_argmin(0, false)?;
            let index = i64::try_from(first)? as usize;
            return Err(SparsityError::NonFiniteScore { tensor: parameter.name.clone(), index }.into());
        }
    }
    Ok(())
}
