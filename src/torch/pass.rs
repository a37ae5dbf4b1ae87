//! One list of new tokens through the model, over a cache: what is drawn from, for every row.
//!
//! Shape legend: n new tokens, b rows, v vocabulary.

use tch::{Kind, Tensor};

use crate::grpo::SamplingSpec;

use super::attention::{Cache, OverCache};
use super::layer::Turned;
use super::model::{Room, Scratch};
use super::recorder::{Owner, Recorder};
use super::sampler::draw_at;
use super::{Model, TorchError};

/// Tokens that a GPU draws between two looks of the host.
const AHEAD: usize = 16;

/// New tokens of some rows, one row after the other.
#[derive(Debug, Default)]
pub struct List {
    tokens: Vec<i64>,
    positions: Vec<i64>,
    slot: Vec<i64>,
    before: Vec<i64>,
    start: Vec<i64>,
    owners: Vec<(Owner, usize)>,
}

impl List {
    /// Adds a row that has `before` tokens in its slot.
    pub fn push(&mut self, owner: Owner, slot: usize, before: usize, new: impl IntoIterator<Item = i64>) {
        if self.start.is_empty() {
            self.start.push(0);
        }
        let from = self.tokens.len();
        self.tokens.extend(new);
        let count = self.tokens.len() - from;
        self.positions.extend((before..before + count).map(|position| position as i64));
        self.slot.push(slot as i64);
        self.before.push(before as i64);
        self.start.push(self.tokens.len() as i64);
        self.owners.push((owner, count));
    }

    /// Marks every row's new tokens in `seen`, bool `[b, v]`.
    pub fn mark(&self, seen: &Tensor) -> Result<(), TorchError> {
        let vocabulary = seen.size()[1];
        let rows = self.start.windows(2).enumerate();
        let places: Vec<i64> = rows
            .flat_map(|(row, bounds)| {
                self.tokens[bounds[0] as usize..bounds[1] as usize]
                    .iter()
                    .map(move |token| row as i64 * vocabulary + token)
            })
            .collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(seen.device())?;
        let _ = seen.f_view([-1])?.f_index_fill_(0, &places, 1)?;
        Ok(())
    }
}

/// What passes go through.
#[derive(Debug)]
pub struct Pass<'a> {
    model: &'a Model,
    pub recorder: Option<Recorder>,
    scratch: Option<Scratch>,
}

impl<'a> Pass<'a> {
    pub fn new(model: &'a Model, recorder: Option<Recorder>) -> Self {
        Self { model, recorder, scratch: None }
    }

    /// How many tokens are drawn before the host looks: one on the CPU, where looking costs nothing.
    pub fn ahead(&self) -> usize {
        if self.model.device().is_cuda() { AHEAD } else { 1 }
    }

    /// Logits after the last new token of every row, `[b, v]`.
    ///
    /// # Errors
    /// When memory runs out, or a position is beyond the model's.
    pub fn logits(&mut self, cache: &mut Cache, list: &List) -> Result<Tensor, TorchError> {
        let device = self.model.device();
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        let (tokens, positions) = (whole(&list.tokens)?, whole(&list.positions)?);
        let longest = list.positions.iter().max().map_or(0, |last| last + 1);
        let (slot, before, start) = (list.slot.clone(), list.before.clone(), list.start.clone());
        let mut over = OverCache::new(self.model, cache, slot, before, start, 0)?;
        let tables = self.model.rotary.tables(longest)?;
        let turned = Turned { positions: &positions, tables: (&tables.0, &tables.1) };
        if self.recorder.as_ref().is_some_and(|recorder| !recorder.has_room(list.tokens.len())) {
            self.recorder = None;
        }
        let from = match &mut self.recorder {
            Some(recorder) => recorder.note(&list.tokens, &list.positions, &list.owners),
            None => 0,
        };
        let x = self.model.run(&tokens, turned, &mut over, self.room(list.tokens.len() as i64)?, from)?;
        if list.slot.len() == list.tokens.len() {
            return self.model.logits(&x);
        }
        let ends: Vec<i64> = list.start.iter().skip(1).map(|end| end - 1).collect();
        self.model.logits(&x.f_index_select(0, &whole(&ends)?)?)
    }

    /// Where a pass over `n` tokens puts what it computes.
    fn room(&mut self, n: i64) -> Result<Room<'_>, TorchError> {
        if let Some(recorder) = &self.recorder {
            return Ok(recorder.room());
        }
        let scratch = match self.scratch.take().filter(|scratch| scratch.len() >= n) {
            Some(scratch) => scratch,
            None => Scratch::new(self.model, n)?,
        };
        Ok(Room::Passing(self.scratch.insert(scratch)))
    }

    /// Draws from `logits` at the uniforms `[t, b]`, t times in a row, with nothing asked of the device in between; tokens and
    /// logprobs by time, then by row. `list` has a row for each, with no new tokens: its slot and what is before.
    ///
    /// # Errors
    /// When a logit is not finite, or memory runs out.
    pub fn draw(
        &mut self,
        cache: &mut Cache,
        list: &List,
        mut logits: Tensor,
        uniform_tb: &Tensor,
        seen: Option<&Tensor>,
        sampling: &SamplingSpec,
    ) -> Result<(Vec<i64>, Vec<f32>), TorchError> {
        let (times, rows) = uniform_tb.size2()?;
        let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
        let mut positions = Tensor::f_from_slice(&list.before)?.f_to_device(self.model.device())?;
        let mut over = if times > 1 {
            let (slot, before, start) = (list.slot.clone(), list.before.clone(), (0..=rows).collect());
            Some(OverCache::new(self.model, cache, slot, before, start, times - 2)?)
        } else {
            None
        };
        for time in 0..times {
            let (token_b, logprob_b) =
                draw_at(self.model.ops, &logits, &uniform_tb.f_get(time)?, seen, sampling)?;
            if let Some(over) = over.as_mut().filter(|_| time + 1 < times) {
                if time > 0 {
                    over.advance()?;
                    let _ = positions.f_add_scalar_(1)?;
                }
                if let Some(seen) = seen {
                    let _ = seen.shallow_clone().f_scatter_value_(1, &token_b.f_unsqueeze(1)?, 1)?;
                }
                let longest = list.before.iter().max().map_or(0, |last| last + time + 1);
                let tables = self.model.rotary.tables(longest)?;
                let turned = Turned { positions: &positions, tables: (&tables.0, &tables.1) };
                let (model, room) = (self.model, self.room(rows)?);
                logits = model.logits(&model.run(&token_b, turned, over, room, 0)?)?;
            }
            tokens.push(token_b);
            logprobs.push(logprob_b);
        }
        let flat = |list: &[Tensor]| -> Result<Tensor, TorchError> { Ok(Tensor::f_cat(list, 0)?) };
        Ok((Vec::<i64>::try_from(&flat(&tokens)?)?, Vec::<f32>::try_from(&flat(&logprobs)?)?))
    }
}

/// Which tokens each opening holds: bool `[openings, v]`.
pub fn seen_tokens(openings: &[Vec<u32>], logits: &Tensor) -> Result<Tensor, TorchError> {
    let size = [openings.len() as i64, logits.size()[1]];
    let seen = Tensor::f_zeros(size, (Kind::Bool, logits.device()))?;
    let mut list = List::default();
    for (opening, tokens) in openings.iter().enumerate() {
        list.push(Owner::Opening(opening), opening, 0, tokens.iter().map(|&token| i64::from(token)));
    }
    list.mark(&seen)?;
    Ok(seen)
}
