//! Token generation: openings and rows in, completions with logprobs out, turn by turn.
//!
//! One prefill per opening, shared by its rows. Then every pass takes one list of new tokens: a token for each row that is
//! in the middle of an answer, and for each row whose turn has ended the text of its next turn. So no row waits for another, a
//! conversation's cache serves all of its turns, and rows that are over leave the list. What a list holds is a function of the draws
//! alone, and a row's draws come from its own counter, so neither depends on the batch.
//!
//! On a GPU some tokens are drawn before the host looks (see [`super::pass`]): what a row draws after its end is dropped.

use std::time::Instant;

use tch::{Device, Tensor};

use crate::counter::Counter;
use crate::grpo::SamplingSpec;

use super::attention::Cache;
use super::list::{List, seen_tokens};
use super::pass::Pass;
use super::recorder::{Owner, Recorder};
use super::tape::Tape;
use super::{Model, TorchError};

/// Uniforms reserved for a turn: more than any turn can use.
const DRAWS_PER_TURN: u64 = 1 << 32;

/// One row to complete.
#[derive(Debug)]
pub struct Row<'a> {
    /// Index into the openings.
    pub context: usize,
    /// Uniforms of this rollout.
    pub counter: &'a mut Counter,
    /// Position of the first turn's first uniform in the counter's stream.
    pub first_draw: u64,
}

/// A completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// New tokens, the end token included.
    pub tokens: Vec<u32>,
    /// Logprob of each token under the policy at the sampling temperature, in nats.
    pub logprobs: Vec<f32>,
    /// Whether an end token was drawn; otherwise the turn was cut at the token limit.
    pub ended: bool,
}

/// Where the time of a rollout phase went, and what it leaves for the first update.
#[derive(Debug, Default)]
pub struct Played {
    /// Seconds until the openings were in the cache.
    pub prefill_seconds: f64,
    /// Seconds from then on.
    pub decode_seconds: f64,
    /// What was computed, when it was asked for and there was room.
    pub tape: Option<Tape>,
}

/// What a rollout phase may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reserve {
    /// Tokens after the opening that a conversation is expected to have at most; more of them cost a copy of the cache.
    pub tokens: usize,
    /// The most tokens that are kept for the first update; 0 keeps none.
    pub tape: usize,
}

/// Asks what follows on turns that are over, by row: the tokens of the next turn, or nothing.
pub type Respond<'a> =
    &'a mut dyn FnMut(Vec<(usize, Completion)>) -> Result<Vec<Option<Vec<u32>>>, TorchError>;

/// Completes every row, one turn.
///
/// # Errors
/// When a context is empty or longer than the model's positions, or memory runs out.
pub fn generate(
    model: &Model,
    contexts: &[Vec<u32>],
    rows: &mut [Row<'_>],
    sampling: &SamplingSpec,
    end_tokens: &[u32],
) -> Result<Vec<Completion>, TorchError> {
    let mut completions = vec![Completion::default(); rows.len()];
    converse(model, contexts, rows, sampling, end_tokens, Reserve::default(), &mut |done| {
        let nothing = done.iter().map(|_| None).collect();
        for (row, completion) in done {
            completions[row] = completion;
        }
        Ok(nothing)
    })?;
    Ok(completions)
}

/// Plays conversations until nothing follows on any row.
///
/// # Errors
/// When an opening is empty or a conversation outgrows the model's positions, memory runs out, and those of `respond`.
pub fn converse(
    model: &Model,
    openings: &[Vec<u32>],
    rows: &mut [Row<'_>],
    sampling: &SamplingSpec,
    end_tokens: &[u32],
    reserve: Reserve,
    respond: Respond<'_>,
) -> Result<Played, TorchError> {
    let _guard = tch::no_grad_guard();
    if rows.is_empty() {
        return Ok(Played::default());
    }
    if openings.iter().any(Vec::is_empty) {
        return Err(TorchError::NoContext);
    }
    let begun = Instant::now();
    let longest = openings.iter().map(Vec::len).max().unwrap_or(0);
    fits(model, longest + sampling.max_tokens as usize)?;
    // A list that was drawn ahead has tokens that are dropped.
    let recorder = if reserve.tape == 0 || model.device().is_cuda() {
        None
    } else {
        Some(Recorder::new(model, openings.len(), rows.len(), reserve.tape as i64)?)
    };
    let mut pass = Pass::new(model, recorder);

    // Prefill: one row per opening.
    let mut short = Cache::new(model, openings.len() as i64, longest as i64)?;
    let mut list = List::default();
    for (opening, tokens) in openings.iter().enumerate() {
        list.push(Owner::Opening(opening), opening, 0, tokens.iter().map(|&token| i64::from(token)));
    }
    let first = pass.logits(&mut short, &list)?;
    let owners: Vec<i64> = rows.iter().map(|row| row.context as i64).collect();
    let room = longest + reserve.tokens.max(sampling.max_tokens as usize) + pass.ahead();
    let mut cache = short.expand(model, &owners, longest as i64, room as i64)?;
    drop(short);
    let owner_b = Tensor::f_from_slice(&owners)?.f_to_device(model.device())?;
    let logits = first.f_index_select(0, &owner_b)?;
    drop(first);
    if let Device::Cuda(index) = model.device() {
        tch::Cuda::synchronize(index as i64);
    }
    let prefill_seconds = begun.elapsed().as_secs_f64();

    let mut seen = if sampling.repetition_penalty == 1.0 {
        None
    } else {
        Some(seen_tokens(openings, &logits)?.f_index_select(0, &owner_b)?)
    };
    // Rows in the order of the draws.
    let mut live: Vec<Live> =
        (0..rows.len()).map(|row| Live::new(row, openings[rows[row].context].len())).collect();
    list.clear();
    for (at, row) in live.iter().enumerate() {
        list.push(Owner::Row(row.row), row.slot(&cache, at), row.len, []);
    }
    let uniforms = next_uniforms(rows, &live, times(&pass, model, &live, sampling));
    let (mut tokens, mut logprobs) =
        pass.draw(&mut cache, &list, logits, &uniforms, seen.as_ref(), sampling)?;
    loop {
        let count = live.len();
        for (at, row) in live.iter_mut().enumerate().filter(|(_, row)| !row.over) {
            let drawn = (at..tokens.len()).step_by(count).map(|at| (tokens[at] as u32, logprobs[at]));
            row.take(drawn, sampling.max_tokens as usize, end_tokens)?;
        }

        // What follows on turns that are over.
        let done: Vec<usize> = (0..count).filter(|&at| live[at].turn_over && !live[at].over).collect();
        if !done.is_empty() {
            let said = done.iter().map(|&at| (live[at].row, std::mem::take(&mut live[at].said))).collect();
            for (&at, answer) in done.iter().zip(respond(said)?) {
                live[at].go_on(answer);
                if !live[at].over {
                    fits(model, live[at].len + live[at].next.len() + sampling.max_tokens as usize)?;
                }
            }
        }
        if live.iter().all(|row| row.over) {
            break;
        }
        // Rows that are over leave: at once where that costs nothing, else when they are a quarter.
        let over = live.iter().filter(|row| row.over).count();
        if over > 0 && (cache.any_slot() || over * 4 >= count) {
            let kept: Vec<i64> = (0..count).filter(|&at| !live[at].over).map(|at| at as i64).collect();
            if let Some(seen) = &mut seen {
                let index = Tensor::f_from_slice(&kept)?.f_to_device(model.device())?;
                *seen = seen.f_index_select(0, &index)?;
            }
            if !cache.any_slot() {
                cache.compact(&kept)?;
            }
            live.retain(|row| !row.over);
        }

        // The new tokens.
        let needed = live.iter().map(|row| row.needs(sampling.max_tokens as usize)).max().unwrap_or(0);
        let needed = (needed + pass.ahead()) as i64;
        if needed > cache.capacity {
            cache.grow(model, needed)?;
        }
        list.clear();
        for (at, row) in live.iter_mut().enumerate() {
            list.push(Owner::Row(row.row), row.slot(&cache, at), row.len, row.next.iter().copied());
            row.fed();
        }
        if let Some(seen) = &seen {
            list.mark(seen)?;
        }
        let uniforms = next_uniforms(rows, &live, times(&pass, model, &live, sampling));
        (tokens, logprobs) = pass.next(&mut cache, &list, &uniforms, seen.as_ref(), sampling)?;
    }
    let owner: Vec<usize> = rows.iter().map(|row| row.context).collect();
    let tape = pass.recorder.map(|recorder| recorder.finish(model, &owner)).transpose()?;
    Ok(Played { prefill_seconds, decode_seconds: begun.elapsed().as_secs_f64() - prefill_seconds, tape })
}

/// A row that is being played.
#[derive(Debug)]
struct Live {
    /// Its number among all rows.
    row: usize,
    /// Tokens of it that are in the cache.
    len: usize,
    turn: u64,
    /// The answer so far.
    said: Completion,
    /// Tokens that come next.
    next: Vec<i64>,
    turn_over: bool,
    /// Nothing follows.
    over: bool,
}

impl Live {
    fn new(row: usize, len: usize) -> Self {
        let (said, next) = (Completion::default(), Vec::new());
        Self { row, len, turn: 0, said, next, turn_over: false, over: false }
    }

    /// Where it lies in the cache, when it is the `at`-th that is played.
    fn slot(&self, cache: &Cache, at: usize) -> usize {
        if cache.any_slot() { self.row } else { at }
    }

    /// Takes drawn tokens over, up to the end of the turn. All but the last of them are in the cache.
    fn take(
        &mut self,
        drawn: impl Iterator<Item = (u32, f32)>,
        limit: usize,
        end_tokens: &[u32],
    ) -> Result<(), TorchError> {
        let before = self.said.tokens.len();
        for (token, logprob) in drawn {
            if !logprob.is_finite() {
                return Err(TorchError::NonFinite { what: "the logprob of a sampled token".into() });
            }
            self.said.tokens.push(token);
            self.said.logprobs.push(logprob);
            self.said.ended = end_tokens.contains(&token);
            self.next.clear();
            self.next.push(i64::from(token));
            self.turn_over = self.said.ended || self.said.tokens.len() == limit;
            if self.turn_over {
                break;
            }
        }
        self.len += self.said.tokens.len() - before - 1;
        Ok(())
    }

    /// Begins the next turn, or ends.
    fn go_on(&mut self, answer: Option<Vec<u32>>) {
        match answer {
            Some(answer) => {
                self.next.extend(answer.into_iter().map(i64::from));
                (self.turn, self.turn_over) = (self.turn + 1, false);
            }
            None => self.over = true,
        }
    }

    /// The new tokens are in the cache. Those of a row that is over do not count.
    fn fed(&mut self) {
        if !self.over {
            self.len += self.next.len();
        }
    }

    /// Tokens that the cache must have room for until the turn is over.
    fn needs(&self, limit: usize) -> usize {
        self.len + self.next.len() + limit - self.said.tokens.len().min(limit)
    }
}

/// How often may be drawn before the host looks.
fn times(pass: &Pass<'_>, model: &Model, live: &[Live], sampling: &SamplingSpec) -> usize {
    let left = live.iter().map(|row| sampling.max_tokens as usize - row.said.tokens.len()).max().unwrap_or(1);
    let end = live.iter().map(|row| row.len).max().unwrap_or(0);
    pass.ahead().min(left).min(model.architecture().max_positions.saturating_sub(end)).max(1)
}

/// The next uniforms of every row, by time, then by row.
fn next_uniforms(rows: &mut [Row<'_>], live: &[Live], times: usize) -> Vec<f64> {
    let mut uniforms = vec![0.0; times * live.len()];
    for (at, state) in live.iter().enumerate() {
        let row = &mut rows[state.row];
        let first = row.first_draw + state.turn * DRAWS_PER_TURN + state.said.tokens.len() as u64;
        for time in 0..times {
            row.counter.seek(first + time as u64);
            uniforms[time * live.len() + at] = row.counter.uniform();
        }
    }
    uniforms
}

fn fits(model: &Model, tokens: usize) -> Result<(), TorchError> {
    let limit = model.architecture().max_positions;
    if tokens > limit { Err(TorchError::ContextTooLong { tokens, limit }) } else { Ok(()) }
}
