//! Every tensor: model, rollouts, loss, sparse optimizer, scores, checkpoints. The only room that names `tch`.

mod checkpoint;
pub mod device;
mod error;
mod evaluate;
mod export;
mod failure;
mod foreign;
mod generate;
mod loss;
mod model;
mod objective;
mod pretrain;
mod rollout;
mod sampler;
mod scores;
mod setup;
mod sparse_adamw;
mod take_over;
mod train;
mod trainer;
mod update;
mod weights;

pub use error::TorchError;
pub use export::export_files;
pub use generate::{Completion, Row, generate};
pub use loss::{Batch, gradients, norm, score};
pub use model::{KvCache, Model};
pub use objective::{Item, LossStats, Packed, objective, pack};
pub use pretrain::{WarmStart, directory, warm_start};
pub use rollout::{Draws, Rollout, demonstrate, play};
pub use sampler::draw;
pub use scores::fisher;
pub use sparse_adamw::{Movement, SparseAdamW};
pub use trainer::TorchTrainer;
pub use update::{Update, update};
pub use weights::{Weights, float_vector, raw};
