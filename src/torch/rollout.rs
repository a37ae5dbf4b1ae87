//! Conversations: episodes in, token sequences with rewards out.
//!
//! A conversation's tokens are exactly those that the model saw and drew: the opening prompt, each sampled answer as
//! sampled (never re-tokenised), and the template's text between answers. Every draw is a function of (seed, stream,
//! step, prompt, sample, turn, token).

use crate::counter::Counter;
use crate::data::{Chat, Message};
use crate::grpo::SamplingSpec;
use crate::task::{Episode, Played, Task, TaskError};

use super::generate::{Row, generate};
use super::{Model, TorchError};

/// Uniforms reserved for a turn: more than any turn can use.
const DRAWS_PER_TURN: u64 = 1 << 32;

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
    let mut rollouts = vec![Rollout::default(); episodes.len() * group];
    let mut counters: Vec<Counter> = (0..rollouts.len())
        .map(|row| {
            let path = [draws.step, (row / group) as u64, (row % group) as u64];
            Counter::new(draws.seed, &format!("rollout/{}", draws.stream), &path)
        })
        .collect();
    // What the user says next, by row; nothing where the conversation is over.
    let mut next: Vec<Option<String>> = (0..rollouts.len())
        .map(|row| episodes[row / group].turns.first().map(|turn| turn.prompt.clone()))
        .collect();
    let room = model.architecture().max_positions;
    for turn in 0.. {
        let playing: Vec<usize> = (0..rollouts.len()).filter(|&row| next[row].is_some()).collect();
        if playing.is_empty() {
            break;
        }
        // The rows of a group share their first context; later contexts hold the row's own answers.
        let mut contexts = Vec::new();
        let mut owner = Vec::with_capacity(playing.len());
        for &row in &playing {
            let prompt = next[row].take().unwrap_or_default();
            let episode = &episodes[row / group];
            let shared = turn == 0 && row % group > 0;
            let opening = if shared {
                contexts.last().cloned().unwrap_or_default()
            } else {
                turn_tokens(chat, episode, &rollouts[row], &prompt)?
            };
            let rollout = &mut rollouts[row];
            rollout.tokens.extend(&opening);
            rollout.drawn.resize(rollout.tokens.len(), false);
            rollout.logprobs.resize(rollout.tokens.len(), 0.0);
            rollout.prompts.push(prompt);
            let (context, new) = (rollout.tokens.len(), sampling.max_tokens as usize);
            if context + new > room {
                let episode = episode.name.clone();
                return Err(TorchError::EpisodeTooLong {
                    episode,
                    turn: turn + 1,
                    context,
                    new,
                    limit: room,
                });
            }
            if !shared {
                contexts.push(rollout.tokens.clone());
            }
            owner.push(contexts.len() - 1);
        }
        let mut rows: Vec<Row<'_>> = Vec::with_capacity(playing.len());
        let mut at = 0;
        for (row, counter) in counters.iter_mut().enumerate() {
            if playing.get(at) == Some(&row) {
                rows.push(Row { context: owner[at], counter, first_draw: turn as u64 * DRAWS_PER_TURN });
                at += 1;
            }
        }
        let completions = generate(model, &contexts, &mut rows, sampling, &chat.end_tokens)?;
        for (&row, completion) in playing.iter().zip(completions) {
            let rollout = &mut rollouts[row];
            let answer = chat.answer(&completion.tokens)?;
            rollout.tokens.extend(&completion.tokens);
            rollout.drawn.resize(rollout.tokens.len(), true);
            rollout.logprobs.extend(&completion.logprobs);
            rollout.truncated += usize::from(!completion.ended);
            rollout.answers.push(answer);
        }
        let said: Vec<Played<'_>> =
            playing.iter().map(|&row| played(&episodes[row / group], &rollouts[row])).collect();
        let responses = task.respond(&said)?;
        for (row, response) in playing.into_iter().zip(responses) {
            next[row] = response;
        }
    }
    let said: Vec<Played<'_>> =
        rollouts.iter().enumerate().map(|(row, rollout)| played(&episodes[row / group], rollout)).collect();
    let rewards = task.rewards(&said)?;
    for (rollout, reward) in rollouts.iter_mut().zip(rewards) {
        (rollout.reward, rollout.turns, rollout.parts) = (reward.total, reward.turns, reward.parts);
    }
    Ok(rollouts)
}

/// What was said in a conversation.
pub fn played<'a>(episode: &'a Episode, rollout: &'a Rollout) -> Played<'a> {
    Played { episode, prompts: &rollout.prompts, answers: &rollout.answers }
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
