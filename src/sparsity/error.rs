//! What can be wrong with masks and scores.

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
    /// The density rounds to zero entries.
    #[error("build a mask of sparsity {sparsity}: not one entry would be trained")]
    NothingKept {
        /// The sparsity asked for.
        sparsity: f64,
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
    /// Planned, not built.
    #[error("draw a mask with `mask.rng = \"numpy\"`: this generator is not built yet; use \"chacha\"")]
    NumpyNotBuilt,
}
