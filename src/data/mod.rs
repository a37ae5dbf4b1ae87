//! Data from outside: model directories, tokenizers, chat templates, name lists. Files in, plain values out.

mod architecture;
mod chat;
mod error;
pub mod hub;
mod model_dir;
mod names;
pub mod safetensors;
mod task;
#[cfg(feature = "torch")]
mod tokenizer;

pub use architecture::{Architecture, Parameter};
pub use chat::{BUILT_IN_TEMPLATE, ChatTemplate, Message};
pub use error::DataError;
#[cfg(feature = "torch")]
pub use model_dir::Chat;
pub use model_dir::ModelDir;
pub use names::read_names;
pub use task::{OpenTaskError, open_task};
#[cfg(feature = "torch")]
pub use tokenizer::{BUILT_IN_SPECIALS, Tokenizer};
