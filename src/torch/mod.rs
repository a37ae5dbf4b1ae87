//! Every tensor: model, rollouts, loss, sparse optimizer, scores, checkpoints. The only room that names `tch`.

mod error;
mod generate;
mod model;
mod sampler;
mod sparse_adamw;
mod weights;

pub use error::TorchError;
pub use generate::{Completion, Row, generate};
pub use model::{KvCache, Model};
pub use sampler::draw;
pub use sparse_adamw::{Movement, SparseAdamW};
pub use weights::{Weights, float_vector, raw};
