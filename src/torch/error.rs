//! What can go wrong with tensors, and how it is classed.

use std::path::PathBuf;

use crate::data::DataError;
use crate::masks::MasksError;
use crate::sparsity::SparsityError;

/// A failure inside the torch room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// libtorch refused an operation.
    #[error("run a tensor operation: {message}")]
    Op {
        /// libtorch's own words, without its C++ stack.
        message: String,
    },
    /// A tensor is missing, extra, or of the wrong shape or type.
    #[error("load tensor {tensor} from {}: {what}", file.display())]
    Tensor {
        /// The weights file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        what: String,
    },
    /// NaN or infinity where a number must be.
    #[error("{what} is not a finite number")]
    NonFinite {
        /// The quantity, for example `the loss`.
        what: String,
    },
    /// NaN or infinity where weights that are numbers gave none.
    #[error("{what} is not a finite number: the weights are too large for the type that is computed in")]
    Overflow {
        /// The quantity.
        what: String,
    },
    /// A conversation longer than the model's positions.
    #[error("a context of {tokens} tokens exceeds the {limit} positions of the model")]
    ContextTooLong {
        /// Tokens needed.
        tokens: usize,
        /// Positions that there are.
        limit: usize,
    },
    /// An episode whose conversation outgrows the model.
    #[error(
        "turn {turn} of episode `{episode}` has {context} tokens, and with {new} new ones exceeds the {limit} positions of the model"
    )]
    EpisodeTooLong {
        /// The episode.
        episode: String,
        /// The turn, from 1.
        turn: usize,
        /// Tokens before the answer.
        context: usize,
        /// Most tokens of the answer.
        new: usize,
        /// Positions that there are.
        limit: usize,
    },
    /// A token id that the model has no embedding for.
    #[error("look up token {token}: the vocabulary ends at {}", vocabulary - 1)]
    NoSuchToken {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// A conversation in which nothing stands before the first drawn token.
    #[error("begin a conversation with a drawn token: the prompt is empty")]
    NoContext,
    /// Saved state that does not fit the run.
    #[error("restore {what}")]
    Restore {
        /// What does not fit.
        what: String,
    },
    /// Entries outside the mask changed: the central invariant is broken.
    #[error("{count} entries outside the mask differ from the base model, first {tensor}[{index}]")]
    Invariant {
        /// Entries that changed.
        count: u64,
        /// First tensor with one.
        tensor: String,
        /// Flat index of the first.
        index: usize,
    },
    /// A file of the model or the task.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A mask or score.
    #[error(transparent)]
    Sparsity(#[from] SparsityError),
    /// The file of a mask.
    #[error(transparent)]
    Masks(#[from] MasksError),
    /// An episode that cannot be made.
    #[error(transparent)]
    Task(#[from] crate::task::TaskError),
}

impl From<tch::TchError> for TorchError {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let lines = text.lines().take_while(|line| !line.starts_with("Exception raised from"));
        Self::Op { message: lines.collect::<Vec<_>>().join(" ").trim().to_owned() }
    }
}

impl TorchError {
    /// Whether the machine's or the device's memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Op { message } if message.contains("out of memory") || message.contains("can't allocate memory"))
    }
}
