//! What can be wrong with a mask's file.

use std::fmt;
use std::path::PathBuf;

use crate::data::DataError;
use crate::exit::{Code, Failure};
use crate::sparsity::SparsityError;
use crate::store::StoreError;

/// A mask that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasksError {
    /// The file cannot be read at all.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The new file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mask is impossible.
    #[error(transparent)]
    Sparsity(#[from] SparsityError),
    /// Scores that are not those of the model's parameters.
    #[error("read the scores {}, tensor {tensor}: {what}", path.display())]
    Scores {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        what: String,
    },
    /// A file that is not what it was.
    #[error("{} changed after the plan was made", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Not a safetensors file, or cut short.
    #[error("read the mask {}: it is no whole safetensors file: {what}", path.display())]
    NoSafetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Neither indices nor booleans.
    #[error("read the mask {}: tensor {tensor} has the type {dtype}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// Indices and booleans in one file.
    #[error("read the mask {}: tensor {lists} holds indices and tensor {bools} booleans", path.display())]
    Mixed {
        /// The file.
        path: PathBuf,
        /// A tensor of indices.
        lists: String,
        /// A tensor of booleans.
        bools: String,
    },
    /// Indices in more than one dimension.
    #[error("read the mask {}: the indices of tensor {tensor} have the shape {shape:?}, not one dimension", path.display())]
    NoList {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// An index that cannot be there.
    #[error("read the mask {}: tensor {tensor}, position {position}: index {index} {fault}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where in the list of indices, from 0.
        position: usize,
        /// The index.
        index: i64,
        /// What is wrong with it.
        fault: IndexFault,
    },
    /// A byte that is no boolean.
    #[error("read the mask {}: tensor {tensor}, entry {entry}: {value} is neither 0 nor 1", path.display())]
    NoBool {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Flat index of the entry.
        entry: usize,
        /// The byte.
        value: u8,
    },
    /// Indices of a model that is not known.
    #[error("read the mask {}: it does not say of which shapes its tensors are", path.display())]
    NoShapes {
        /// The file.
        path: PathBuf,
    },
    /// The shapes that the file states are impossible.
    #[error("read the mask {}: its list of shapes is wrong: {what}", path.display())]
    BadShapes {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is of another model than the one that was named.
    #[error("read the mask {}: it is of another model: {difference}", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A tensor that the model does not have.
    #[error("read the mask {}: its tensor {tensor} is not in {whose}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where it was looked for: the model, or the file's own list.
        whose: &'static str,
    },
    /// A tensor of the model that the file does not have.
    #[error("read the mask {}: it has no tensor {tensor}, which is in the model", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Booleans of another shape than the parameter.
    #[error("read the mask {}: tensor {tensor} has the shape {found:?}, the parameter {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The parameter's.
        expected: Vec<usize>,
    },
}

/// What is wrong with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexFault {
    /// Below zero.
    Negative,
    /// Not below the number of entries.
    OutOfRange {
        /// Entries of the tensor.
        elements: usize,
    },
    /// The same as the one before.
    Twice,
    /// Below the one before.
    Unsorted {
        /// The one before.
        before: i64,
    },
}

impl fmt::Display for IndexFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative => write!(out, "is negative"),
            Self::OutOfRange { elements } => {
                write!(out, "is out of range: the parameter has {elements} entries")
            }
            Self::Twice => write!(out, "is there twice"),
            Self::Unsorted { before } => write!(out, "comes after {before}: the list does not ascend"),
        }
    }
}

impl MasksError {
    /// Advice, where there is some.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Data(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
            Self::Sparsity(SparsityError::Empty { .. }) => {
                "lower the sparsity, or choose in larger pools: `scope = \"global\"`"
            }
            Self::Sparsity(_) => return None,
            Self::Scores { .. } => {
                "scores are one finite float per entry of every parameter, called as in the model; those of gradients are \
                 squared or absolute"
            }
            Self::Changed { .. } => "run the command again: its new contents make a new mask",
            Self::NoSafetensors { .. } => {
                "copy or write it again; PyTorch writes such files with safetensors.torch.save_file"
            }
            Self::Dtype { .. } => {
                "a mask has booleans of the parameter's shape (bool or uint8) or flat indices (int32 or int64): in \
                 PyTorch `mask.bool()`, or `mask.flatten().nonzero().flatten()`"
            }
            Self::Mixed { .. } => {
                "write all tensors in one form: booleans of the parameters' shapes, or flat indices"
            }
            Self::NoList { .. } => {
                "indices count a parameter's entries row by row: in PyTorch `mask.flatten().nonzero().flatten()`"
            }
            Self::Index { fault: IndexFault::Negative, .. } => {
                "indices count a parameter's entries from 0; a number above 2147483647 does not fit int32 and came out \
                 negative"
            }
            Self::Index { fault: IndexFault::OutOfRange { .. }, .. } => {
                "the mask is of another model, or its indices are not those of the flat parameter"
            }
            Self::Index { .. } => "write them ascending and without repeats: in PyTorch `indices.unique()`",
            Self::NoBool { .. } => "write booleans: in PyTorch `mask.bool()`",
            Self::NoShapes { .. } => {
                "name the model by --model: a directory with config.json, or a shape that is known by name; `tickets \
                 masks import FILE --model DIR --out NEW` writes a file that says it itself"
            }
            Self::BadShapes { .. } => "write the file again with the program that made it",
            Self::OtherModel { .. } => "name by --model the model that the mask was made for",
            Self::Unknown { .. } => {
                "tensors of a mask are called as in the model's state_dict, without a prefix such as `module.`"
            }
            Self::Absent { .. } => {
                "a parameter of which nothing is trained needs a tensor too: indices of length 0, or booleans that are \
                 all false"
            }
            Self::Shape { .. } => {
                "booleans have the shape of their parameter, [out, in] for matrices; or the mask is of another model"
            }
        };
        Some(hint.into())
    }
}

impl From<MasksError> for Failure {
    fn from(error: MasksError) -> Self {
        let hint = error.hint();
        let code = if matches!(error, MasksError::Store(_)) { Code::Store } else { Code::Environment };
        Self::new(code, error, hint)
    }
}
