//! Random generators of other languages, bit for bit: what drew the data, the orders and the masks of published work. Pure.
//!
//! In: a seed, then draws in order. Out: the values that the other language gives. Invariant: the same calls give the same
//! values (`tests/reference` compares them with what the languages themselves printed).
//!
//! These generators have state, so what shares one must be drawn in order. Nothing saves that state, and every other draw
//! is by `crate::counter`.

pub mod numpy;
pub mod python;

/// More distinct items are asked for than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("draw {kept} distinct items: there are {elements}")]
pub struct TooMany {
    /// Items asked for.
    pub kept: u64,
    /// Items there are.
    pub elements: u64,
}
