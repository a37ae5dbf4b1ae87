//! Conversations: episodes in, token sequences with rewards out.
//!
//! A conversation's tokens are exactly those that the model saw and drew: the opening prompt, each sampled answer as
//! sampled (never re-tokenised), and the template's text between answers. Every draw is a function of (seed, stream,
//! step, prompt, sample, turn, token).

use crate::counter::Counter;
use crate::data::{Chat, Message};
use crate::grpo::SamplingSpec;
use crate::task::{Episode, Task};

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
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Prompt and answer tokens of all turns.
    pub tokens: Vec<u32>,
    /// Which tokens the model drew (and the loss counts).
    pub drawn: Vec<bool>,
    /// Behavior logprob of each drawn token in nats; 0 elsewhere.
    pub logprobs: Vec<f32>,
    /// The answers' texts, one per turn.
    pub answers: Vec<String>,
    /// Turns that were cut at the token limit.
    pub truncated: usize,
    /// The task's verdict.
    pub reward: f64,
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
/// When a conversation outgrows the model, a template fails, or a reward is not finite.
pub fn play(
    model: &Model,
    chat: &Chat,
    task: &Task,
    episodes: &[Episode],
    group: usize,
    sampling: &SamplingSpec,
    draws: Draws,
) -> Result<Vec<Rollout>, TorchError> {
    let empty = Rollout {
        tokens: Vec::new(),
        drawn: Vec::new(),
        logprobs: Vec::new(),
        answers: Vec::new(),
        truncated: 0,
        reward: 0.0,
    };
    let mut rollouts = vec![empty; episodes.len() * group];
    let mut histories: Vec<Vec<Message>> = vec![Vec::new(); rollouts.len()];
    let mut counters: Vec<Counter> = (0..rollouts.len())
        .map(|row| {
            let path = [draws.step, (row / group) as u64, (row % group) as u64];
            Counter::new(draws.seed, &format!("rollout/{}", draws.stream), &path)
        })
        .collect();
    let turns = episodes.iter().map(|episode| episode.turns.len()).max().unwrap_or(0);
    for turn in 0..turns {
        let playing: Vec<usize> =
            (0..rollouts.len()).filter(|&row| turn < episodes[row / group].turns.len()).collect();
        // The rows of a group share their first context; later contexts hold the row's own answers.
        let mut contexts = Vec::new();
        let mut owner = Vec::with_capacity(playing.len());
        for &row in &playing {
            let prompt = &episodes[row / group].turns[turn].prompt;
            let rollout = &mut rollouts[row];
            let shared = turn == 0 && row % group > 0;
            let opening = if turn == 0 {
                if shared { contexts.last().cloned().unwrap_or_default() } else { chat.opening(prompt)? }
            } else {
                let ended = rollout.tokens.last().is_some_and(|id| chat.end_tokens.contains(id));
                chat.follow_up(&histories[row], prompt, ended)?
            };
            rollout.tokens.extend(&opening);
            rollout.drawn.resize(rollout.tokens.len(), false);
            rollout.logprobs.resize(rollout.tokens.len(), 0.0);
            if !shared {
                contexts.push(rollout.tokens.clone());
            }
            owner.push(contexts.len() - 1);
            histories[row].push(Message::user(prompt.clone()));
        }
        let mut rows: Vec<Row<'_>> = Vec::with_capacity(playing.len());
        let mut next = 0;
        for (row, counter) in counters.iter_mut().enumerate() {
            if playing.get(next) == Some(&row) {
                rows.push(Row { context: owner[next], counter, first_draw: turn as u64 * DRAWS_PER_TURN });
                next += 1;
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
            histories[row].push(Message::assistant(answer.clone()));
            rollout.answers.push(answer);
        }
    }
    for (row, rollout) in rollouts.iter_mut().enumerate() {
        rollout.reward = task.reward(&episodes[row / group], &rollout.answers).total;
        if !rollout.reward.is_finite() {
            return Err(TorchError::NonFinite { what: format!("the reward of prompt {}", row / group) });
        }
    }
    Ok(rollouts)
}

/// The reference answer of an episode as a conversation whose drawn tokens are the answers'. With a counter, the
/// lines of every answer are in random order.
///
/// # Errors
/// When a template or the tokenizer fails.
pub fn demonstrate(
    chat: &Chat,
    task: &Task,
    episode: &Episode,
    mut shuffle: Option<&mut Counter>,
) -> Result<Rollout, TorchError> {
    let end = chat.closing()?;
    let mut rollout = Rollout {
        tokens: Vec::new(),
        drawn: Vec::new(),
        logprobs: Vec::new(),
        answers: Vec::new(),
        truncated: 0,
        reward: 0.0,
    };
    let mut history = Vec::new();
    for (turn, step) in episode.turns.iter().enumerate() {
        let opening = match turn {
            0 => chat.opening(&step.prompt)?,
            _ => chat.follow_up(&history, &step.prompt, true)?,
        };
        let answer = match &mut shuffle {
            Some(counter) => task.shuffled_demonstration(episode, turn, counter),
            None => task.demonstration(episode, turn),
        };
        rollout.tokens.extend(opening);
        rollout.drawn.resize(rollout.tokens.len(), false);
        rollout.tokens.extend(chat.tokenizer.encode(&answer)?);
        rollout.tokens.push(end);
        rollout.drawn.resize(rollout.tokens.len(), true);
        history.push(Message::user(step.prompt.clone()));
        history.push(Message::assistant(answer.clone()));
        rollout.answers.push(answer);
    }
    rollout.logprobs = vec![0.0; rollout.tokens.len()];
    Ok(rollout)
}
