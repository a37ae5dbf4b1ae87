//! Scores that are means over conversations, each differentiated by itself.

use std::collections::VecDeque;

use tch::{Kind, Tensor};

use crate::grpo::SamplingSpec;

use super::super::TorchError;
use super::super::loss::likelihood_gradient;
use super::super::rollout::{Draws, Rollout, demonstrate, play};
use super::{Halves, ScoreSource, Scored, check_finite, measured};

/// Conversations that are drawn together. Part of the coordinates of every draw.
const BLOCK: u32 = 32;

/// Where the conversations come from, asked for one by one in their order.
pub trait Conversations {
    /// The conversation about prompt `index`.
    fn next(&mut self, index: u32) -> Result<Rollout, TorchError>;
}

/// The task's reference answers.
pub struct Right<'a>(pub &'a ScoreSource<'a>);

impl Conversations for Right<'_> {
    fn next(&mut self, index: u32) -> Result<Rollout, TorchError> {
        let ScoreSource { chat, task, spec, .. } = *self.0;
        let episode = task.episode(spec.seed, "fisher", u64::from(index))?;
        demonstrate(chat, task, &episode, None)
    }
}

/// Conversations that the model draws.
pub struct Own<'a> {
    source: &'a ScoreSource<'a>,
    ready: VecDeque<Rollout>,
}

impl<'a> Own<'a> {
    pub fn new(source: &'a ScoreSource<'a>) -> Self {
        Self { source, ready: VecDeque::new() }
    }
}

impl Conversations for Own<'_> {
    fn next(&mut self, index: u32) -> Result<Rollout, TorchError> {
        if self.ready.is_empty() {
            self.ready = drawn(self.source, index / BLOCK)?.into();
        }
        // A block that is asked for has the conversation that it is asked for.
        self.ready.pop_front().ok_or(TorchError::NoContext)
    }
}

/// The `block`-th conversations that the `model` estimator takes: whole ones, drawn from the model as it is (temperature 1, no
/// other filter), about the prompts that the other estimators take.
///
/// # Errors
/// As [`play`].
pub fn drawn(source: &ScoreSource<'_>, block: u32) -> Result<Vec<Rollout>, TorchError> {
    let ScoreSource { model, chat, task, config, spec, measure: _ } = *source;
    let episodes = (block * BLOCK..spec.episodes.min((block + 1).saturating_mul(BLOCK)))
        .map(|index| Ok(task.episode(spec.seed, "fisher", u64::from(index))?))
        .collect::<Result<Vec<_>, TorchError>>()?;
    let pure = SamplingSpec::plain(config.sampling.max_tokens);
    let draws = Draws { seed: spec.seed, stream: "fisher/model", step: u64::from(block) };
    play(model, chat, task, &episodes, 1, &pure, draws)
}

/// Scores that are means, see [`super::scores`].
pub fn scores<E: From<TorchError>>(
    source: &ScoreSource<'_>,
    conversations: &mut dyn Conversations,
    progress: &dyn Fn(u32, String),
    stop: &dyn Fn() -> bool,
    keep: impl FnOnce(Vec<Tensor>) -> Result<(), E>,
) -> Result<Scored, E> {
    let Some((mut sums, first)) = summed(source, conversations, progress, stop)? else {
        return Ok(Scored::Stopped);
    };
    check_finite(source.model, &sums)?;
    let halves = first.map(|first| agreement(source, &first, &sums)).transpose()?;
    divide(&mut sums, source.spec.episodes)?;
    keep(sums)?;
    Ok(Scored::Complete(halves))
}

/// Sums over all conversations, and over the first half of them; `None` when it was stopped.
type Sums = Option<(Vec<Tensor>, Option<Vec<Tensor>>)>;

fn summed(
    source: &ScoreSource<'_>,
    conversations: &mut dyn Conversations,
    progress: &dyn Fn(u32, String),
    stop: &dyn Fn() -> bool,
) -> Result<Sums, TorchError> {
    let ScoreSource { model, spec, measure, .. } = *source;
    let zeros = |tensor: &Tensor| Ok(Tensor::f_zeros(tensor.size(), (Kind::Float, tensor.device()))?);
    let mut sums = model.weights.tensors.iter().map(zeros).collect::<Result<Vec<_>, TorchError>>()?;
    let mut first = None;
    for index in 0..spec.episodes {
        if stop() {
            return Ok(None);
        }
        let conversation = [conversations.next(index)?];
        // Each gradient goes when it was added, so that no two layers' are there.
        likelihood_gradient(model, &conversation, 1.0, &mut |i: usize, gradient: Tensor| {
            let _ = sums[i].f_add_(&measured(&gradient, measure)?)?;
            Ok(())
        })?;
        if (index + 1) % 16 == 0 {
            progress(index + 1, String::new());
        }
        if index + 1 == spec.episodes / 2 {
            first = Some(sums.iter().map(|sum| Ok(sum.f_detach_copy()?)).collect::<Result<_, TorchError>>()?);
        }
    }
    Ok(Some((sums, first)))
}

/// The second half is what was added to the sums of the first.
fn agreement(source: &ScoreSource<'_>, first: &[Tensor], sums: &[Tensor]) -> Result<Halves, TorchError> {
    let pair = |tensor: usize, start, length| {
        let side = |list: &[Tensor]| list[tensor].f_view([-1])?.f_narrow(0, start, length);
        let (first, both) = (side(first)?, side(sums)?);
        let second = both.f_sub(&first)?;
        Ok([first, second])
    };
    let before = source.spec.episodes / 2;
    Halves::of(source.model, [before, source.spec.episodes - before], &pair)
}

fn divide(sums: &mut [Tensor], episodes: u32) -> Result<(), TorchError> {
    for sum in sums {
        let _ = sum.f_div_scalar_(f64::from(episodes))?;
    }
    Ok(())
}
