//! Conversations: episodes in, token sequences with rewards out.
//!
//! A conversation's tokens are exactly those that the model saw and drew: the opening prompt, each sampled answer as
//! sampled (never re-tokenised), and the template's text between answers. Every draw is a function of (seed, stream,
//! step, prompt, sample, turn, token).

use crate::counter::Counter;
use crate::data::{Chat, Message};
use crate::grpo::SamplingSpec;
use crate::task::{Episode, Played as Said, Task, TaskError};

use super::generate::{Reserve, Row, converse};
use super::loss::token_bytes;
use super::tape::Tape;
use super::{Model, TorchError};

/// Tokens of a template around what a user says, at a guess: too few cost a copy of the cache.
const AROUND_A_TURN: usize = 24;

/// Names the random draws of a batch of rollouts.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    /// Seed of the run or of the evaluation.
    pub seed: u64,
    /// What the draws are for, for example `train` or `eval`.
    pub stream: &'static str,
    /// Step of the run.
    pub step: u64,
}

/// One conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Prompt and answer tokens of all turns.
    pub tokens: Vec<u32>,
    /// Which tokens the model drew (and the loss counts).
    pub drawn: Vec<bool>,
    /// Behavior logprob of each drawn token in nats; 0 elsewhere.
    pub logprobs: Vec<f32>,
    /// The user messages, one per turn.
    pub prompts: Vec<String>,
    /// The answers' texts, one per turn.
    pub answers: Vec<String>,
    /// Turns that were cut at the token limit.
    pub truncated: usize,
    /// The task's verdict.
    pub reward: f64,
    /// The task's verdict on each turn, where it has one.
    pub turns: Vec<f64>,
    /// What the task measured beside the reward, by name.
    pub parts: Vec<(String, f64)>,
}

impl Rollout {
    /// Number of drawn tokens.
    pub fn length(&self) -> usize {
        self.drawn.iter().filter(|&&drawn| drawn).count()
    }
}

/// Plays `group` conversations of every episode; they come out by episode, then by sample.
///
/// # Errors
/// When a conversation outgrows the model, a template or the task fails, or a reward is not finite or out of its range.
pub fn play(
    model: &Model,
    chat: &Chat,
    task: &Task,
    episodes: &[Episode],
    group: usize,
    sampling: &SamplingSpec,
    draws: Draws,
) -> Result<Vec<Rollout>, TorchError> {
    Ok(play_and_keep(model, chat, task, episodes, group, sampling, draws, 0)?.0)
}

/// [`play`], with what was computed on the way for the first update under the same weights, when it takes no more than `bytes`.
///
/// # Errors
/// As [`play`].
#[expect(clippy::too_many_arguments, reason = "those of `play`, and what may be kept")]
pub(super) fn play_and_keep(
    model: &Model,
    chat: &Chat,
    task: &Task,
    episodes: &[Episode],
    group: usize,
    sampling: &SamplingSpec,
    draws: Draws,
    bytes: usize,
) -> Result<(Vec<Rollout>, Option<Tape>), TorchError> {
    let mut rollouts = vec![Rollout::default(); episodes.len() * group];
    let mut counters: Vec<Counter> = (0..rollouts.len())
        .map(|row| {
            let path = [draws.step, (row / group) as u64, (row % group) as u64];
            Counter::new(draws.seed, &format!("rollout/{}", draws.stream), &path)
        })
        .collect();
    let room = Room { sampling, limit: model.architecture().max_positions };
    // The rows of a group share their opening.
    let mut openings = Vec::with_capacity(episodes.len());
    let mut reserve = Reserve::default();
    let mut most = 0;
    for (episode, rollouts) in episodes.iter().zip(rollouts.chunks_mut(group)) {
        let Some(first) = episode.turns.first() else { return Err(TorchError::NoContext) };
        for rollout in rollouts.iter_mut() {
            room.open(chat, episode, rollout, &first.prompt)?;
        }
        let opening = rollouts.first().map(|rollout| rollout.tokens.clone()).unwrap_or_default();
        let mut own = sampling.max_tokens as usize;
        for turn in &episode.turns[1..] {
            own += chat.tokenizer.encode(&turn.prompt)?.len() + AROUND_A_TURN + sampling.max_tokens as usize;
        }
        reserve.tokens = reserve.tokens.max(own);
        most += opening.len() + rollouts.len() * own;
        openings.push(opening);
    }
    if token_bytes(model).everything(most) <= bytes {
        reserve.tape = most;
    }
    let mut rows: Vec<Row<'_>> = counters
        .iter_mut()
        .enumerate()
        .map(|(row, counter)| Row { context: row / group, counter, first_draw: 0 })
        .collect();
    let played = converse(model, &openings, &mut rows, sampling, &chat.end_tokens, reserve, &mut |done| {
        for (row, completion) in &done {
            let rollout = &mut rollouts[*row];
            rollout.answers.push(chat.answer(&completion.tokens)?);
            rollout.tokens.extend(&completion.tokens);
            rollout.drawn.resize(rollout.tokens.len(), true);
            rollout.logprobs.extend(&completion.logprobs);
            rollout.truncated += usize::from(!completion.ended);
        }
        let said: Vec<Said<'_>> =
            done.iter().map(|(row, _)| played(&episodes[row / group], &rollouts[*row])).collect();
        let prompts = task.respond(&said)?;
        done.iter()
            .zip(prompts)
            .map(|((row, _), prompt)| {
                let Some(prompt) = prompt else { return Ok(None) };
                room.open(chat, &episodes[row / group], &mut rollouts[*row], &prompt).map(Some)
            })
            .collect()
    })?;
    let said: Vec<Said<'_>> = rollouts
        .iter()
        .enumerate()
        .map(|(row, rollout)| self::played(&episodes[row / group], rollout))
        .collect();
    let rewards = task.rewards(&said)?;
    for (rollout, reward) in rollouts.iter_mut().zip(rewards) {
        (rollout.reward, rollout.turns, rollout.parts) = (reward.total, reward.turns, reward.parts);
    }
    Ok((rollouts, played.tape))
}

/// How long conversations may become.
struct Room<'a> {
    sampling: &'a SamplingSpec,
    limit: usize,
}

impl Room<'_> {
    /// Puts what the user says to a conversation; the new tokens.
    fn open(
        &self,
        chat: &Chat,
        episode: &Episode,
        rollout: &mut Rollout,
        prompt: &str,
    ) -> Result<Vec<u32>, TorchError> {
        let opening = turn_tokens(chat, episode, rollout, prompt)?;
        rollout.tokens.extend(&opening);
        rollout.drawn.resize(rollout.tokens.len(), false);
        rollout.logprobs.resize(rollout.tokens.len(), 0.0);
        rollout.prompts.push(prompt.to_owned());
        let (context, new) = (rollout.tokens.len(), self.sampling.max_tokens as usize);
        if context + new <= self.limit {
            return Ok(opening);
        }
        let (episode, turn, limit) = (episode.name.clone(), rollout.prompts.len(), self.limit);
        Err(TorchError::EpisodeTooLong { episode, turn, context, new, limit })
    }
}

/// What was said in a conversation.
pub fn played<'a>(episode: &'a Episode, rollout: &'a Rollout) -> Said<'a> {
    Said { episode, prompts: &rollout.prompts, answers: &rollout.answers }
}

/// The tokens that stand between what a conversation has so far and its next answer.
fn turn_tokens(
    chat: &Chat,
    episode: &Episode,
    rollout: &Rollout,
    prompt: &str,
) -> Result<Vec<u32>, TorchError> {
    let mut messages = played(episode, rollout).messages();
    if rollout.answers.is_empty() {
        messages.push(Message::user(prompt));
        return Ok(chat.prompt(&messages)?);
    }
    let ended = rollout.tokens.last().is_some_and(|id| chat.end_tokens.contains(id));
    Ok(chat.follow_up(&messages, prompt, ended)?)
}

/// The reference answer of an episode as a conversation whose drawn tokens are the answers'. With a counter, the
/// parts of every answer are in random order.
///
/// # Errors
/// When the task does not say its answers, or a template or the tokenizer fails.
pub fn demonstrate(
    chat: &Chat,
    task: &Task,
    episode: &Episode,
    mut shuffle: Option<&mut Counter>,
) -> Result<Rollout, TorchError> {
    let end = chat.closing()?;
    let mut rollout = Rollout::default();
    for (turn, step) in episode.turns.iter().enumerate() {
        let mut messages = played(episode, &rollout).messages();
        let opening = if turn == 0 {
            messages.push(Message::user(&step.prompt));
            chat.prompt(&messages)?
        } else {
            chat.follow_up(&messages, &step.prompt, true)?
        };
        let answer = match &mut shuffle {
            Some(counter) => task.shuffled_demonstration(episode, turn, counter),
            None => task.demonstration(episode, turn),
        };
        let answer = answer.ok_or_else(|| TaskError::NoAnswer { episode: episode.name.clone() })?;
        rollout.tokens.extend(opening);
        rollout.drawn.resize(rollout.tokens.len(), false);
        rollout.tokens.extend(chat.tokenizer.encode(&answer)?);
        rollout.tokens.push(end);
        rollout.drawn.resize(rollout.tokens.len(), true);
        rollout.prompts.push(step.prompt.clone());
        rollout.answers.push(answer);
    }
    rollout.logprobs = vec![0.0; rollout.tokens.len()];
    Ok(rollout)
}
