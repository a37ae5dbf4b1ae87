//! New tokens that are passed through the model together: those of some rows of a cache, one row after the other.
//!
//! Shape legend: b rows, v vocabulary.

use tch::{Kind, Tensor};

use super::TorchError;
use super::kernels::CachedRows;
use super::recorder::Owner;

/// New tokens of some rows, one row after the other.
#[derive(Debug, Default)]
pub struct List {
    pub(super) tokens: Vec<i64>,
    pub(super) positions: Vec<i64>,
    pub(super) slot: Vec<i64>,
    pub(super) before: Vec<i64>,
    pub(super) start: Vec<i64>,
    pub(super) owners: Vec<(Owner, usize)>,
}

impl List {
    /// Nothing, with the memory it has.
    pub fn clear(&mut self) {
        let Self { tokens, positions, slot, before, start, owners } = self;
        [tokens, positions, slot, before, start].into_iter().for_each(Vec::clear);
        owners.clear();
    }

    /// Where they go in a cache.
    pub(super) fn rows(&self) -> CachedRows<'_> {
        CachedRows { slot: &self.slot, before: &self.before, start: &self.start }
    }

    /// Tokens of each row once its new ones are in the cache.
    pub(super) fn behind(&self) -> Vec<i64> {
        self.before
            .iter()
            .zip(self.start.windows(2))
            .map(|(before, bounds)| before + bounds[1] - bounds[0])
            .collect()
    }

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
