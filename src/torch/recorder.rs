//! What a rollout phase computed, kept for the first update: that update's forward pass is then made already.
//!
//! Only under the very weights that the rollouts were drawn with. The shared prompt of a group is there once, the last token of a
//! conversation, which predicts nothing, not at all, and no token twice.

use tch::Tensor;

use super::layer::Saved;
use super::model::Room;
use super::packing::{Feed, Sequences, rows};
use super::tape::Tape;
use super::{Model, TorchError};

/// A tape that is being written.
#[derive(Debug)]
pub struct Recorder {
    x: Vec<Tensor>,
    saved: Vec<Saved>,
    capacity: i64,
    tokens: Vec<i64>,
    positions: Vec<i64>,
    /// Places of the tokens of every opening, and of every row's own tokens.
    openings: Vec<Vec<i32>>,
    own: Vec<Vec<i32>>,
}

/// To whom new tokens belong.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    /// An opening, by its number.
    Opening(usize),
    /// A row, by its number.
    Row(usize),
}

impl Recorder {
    /// Room for `capacity` tokens. On the CPU pages that are never written take no memory.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(model: &Model, openings: usize, own: usize, capacity: i64) -> Result<Self, TorchError> {
        let layers = model.architecture().layers;
        let h = model.architecture().hidden_size as i64;
        let x = (0..=layers).map(|_| rows(capacity, h, model.kind(), model.device()));
        Ok(Self {
            x: x.collect::<Result<_, _>>()?,
            saved: (0..layers).map(|_| Saved::new(model, capacity)).collect::<Result<_, _>>()?,
            capacity,
            tokens: Vec::new(),
            positions: Vec::new(),
            openings: vec![Vec::new(); openings],
            own: vec![Vec::new(); own],
        })
    }

    /// Whether so many more tokens have room.
    pub fn has_room(&self, count: usize) -> bool {
        (self.tokens.len() + count) as i64 <= self.capacity
    }

    /// Notes new tokens; the row of the first of them.
    pub fn note(&mut self, tokens: &[i64], positions: &[i64], owners: &[(Owner, usize)]) -> i64 {
        let from = self.tokens.len();
        self.tokens.extend(tokens);
        self.positions.extend(positions);
        let mut place = from as i32;
        for &(owner, count) in owners {
            let list = match owner {
                Owner::Opening(opening) => &mut self.openings[opening],
                Owner::Row(row) => &mut self.own[row],
            };
            list.extend(place..place + count as i32);
            place += count as i32;
        }
        from as i64
    }

    /// Where a pass over noted tokens puts what it computes.
    pub fn room(&self) -> Room<'_> {
        Room::Kept(&self.x, &self.saved)
    }

    /// The tape; `owner[row]` is the opening of each row, and rows of one opening stand together.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn finish(self, model: &Model, owner: &[usize]) -> Result<Tape, TorchError> {
        let n = self.tokens.len() as i64;
        let mut sequences = Sequences::new();
        for (row, own) in self.own.into_iter().enumerate() {
            if row == 0 || owner[row] != owner[row - 1] {
                sequences.begin(self.openings[owner[row]].iter().copied());
            }
            sequences.push(own);
        }
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(model.device());
        let written = |x: &Tensor| x.f_narrow(0, 0, n);
        let layers = self.saved.len();
        Ok(Tape {
            feed: Feed { tokens_n: whole(&self.tokens)?, positions_n: whole(&self.positions)?, sequences },
            inputs: self.x[..layers].iter().map(written).collect::<Result<_, _>>()?,
            every: 1,
            output: written(&self.x[layers])?,
            saved: self.saved.iter().map(|saved| saved.part(0, n)).collect::<Result<_, _>>()?,
        })
    }
}
