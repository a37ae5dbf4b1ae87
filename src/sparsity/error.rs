//! What can be wrong with masks and scores.

use crate::generators::TooMany;

/// An impossible mask or score.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum SparsityError {
    /// Not a share.
    #[error("use sparsity {sparsity}: it must lie between 0 and 1")]
    Sparsity {
        /// The value given.
        sparsity: f64,
    },
    /// Not one entry would be trained.
    #[error("choose the entries of a mask: not one would be trained: {why}")]
    Empty {
        /// Why, as the end of a sentence.
        why: String,
    },
    /// N:M sparsity of a part of an entry.
    #[error("choose of every {group} entries: a sparsity of {sparsity} leaves no whole number of them")]
    PartOfEntry {
        /// Entries of a group.
        group: u32,
        /// The sparsity asked for.
        sparsity: f64,
    },
    /// What cannot be chosen together.
    #[error("choose the entries of a mask: {what}")]
    Together {
        /// What, as a sentence.
        what: &'static str,
    },
    /// More layers than the model has.
    #[error("choose {asked} layers: the model has {there}")]
    TooFewLayers {
        /// Layers asked for.
        asked: u32,
        /// Layers of the model.
        there: u32,
    },
    /// Lists of different lengths.
    #[error("match a mask with its model: {expected} tensors expected, {got} given")]
    TensorCount {
        /// Tensors of the model.
        expected: usize,
        /// Tensors given.
        got: usize,
    },
    /// Indices must ascend strictly.
    #[error("read the mask of {tensor}: index {index} is not above the one before it")]
    Unsorted {
        /// Parameter name.
        tensor: String,
        /// The offending index.
        index: u32,
    },
    /// Index beyond the tensor.
    #[error("read the mask of {tensor}: index {index} is out of range, the tensor has {elements} elements")]
    OutOfRange {
        /// Parameter name.
        tensor: String,
        /// The offending index.
        index: u32,
        /// Elements of the tensor.
        elements: usize,
    },
    /// Flat indices are 32 bits wide.
    #[error("mask {tensor}: more elements than a 32-bit index can name")]
    TooLarge {
        /// Parameter name.
        tensor: String,
    },
    /// A score for every entry.
    #[error("rank the scores of {tensor}: {expected} expected, {got} given")]
    ScoreCount {
        /// Parameter name.
        tensor: String,
        /// Elements of the tensor.
        expected: usize,
        /// Scores given.
        got: usize,
    },
    /// NaN or infinite.
    #[error("rank the scores of {tensor}: the score of entry {index} is not a finite number")]
    NonFiniteScore {
        /// Parameter name.
        tensor: String,
        /// Flat index.
        index: usize,
    },
    /// Masks of different models have no overlap.
    #[error("compare two masks: they belong to different models: {difference}")]
    DifferentModels {
        /// The first difference.
        difference: String,
    },
    /// There are not so many entries.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}
