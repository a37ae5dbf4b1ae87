//! Masks as files: read, checked against a model, written.
//!
//! Invariant: what is read is a [`Mask`](crate::sparsity::Mask) of one model in that model's order, or an error that says
//! where the file is wrong. docs/masks.md describes the files.

mod bools;
mod error;
mod indices;
mod loose;
mod make;
mod numbers;
mod order;
mod read;
#[cfg(test)]
mod read_tests;
mod scores;
mod shapes;
mod write;

pub use error::{IndexFault, MasksError};
pub use loose::{is_loose, lists, model_sizes};
pub use make::{Made, make, name};
pub use numbers::Numbers;
pub use read::{Form, MaskFile, parse, read};
pub use scores::Streamed;
pub use shapes::to_text as shapes_text;
pub use write::{booleans_bytes, to_bytes, write, write_booleans};

/// The file of a mask artifact.
pub const MASK_FILE: &str = "mask.safetensors";
