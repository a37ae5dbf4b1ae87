//! Data from outside: model directories, tokenizers, chat templates, name lists. Files in, plain values out.

mod architecture;
mod chat;
mod chat_files;
#[cfg(test)]
#[cfg(feature = "torch")]
mod chat_files_tests;
mod chat_python;
mod error;
mod model_dir;
mod names;
pub mod safetensors;
mod task;
#[cfg(feature = "torch")]
mod tokenizer;

pub use architecture::{Architecture, Parameter};
pub use chat::{BUILT_IN_TEMPLATE, ChatTemplate, Message};
#[cfg(feature = "torch")]
pub use chat_files::Chat;
pub use error::DataError;
pub use model_dir::ModelDir;
pub use names::read_names;
pub use task::{OpenTaskError, open_task};
#[cfg(feature = "torch")]
pub use tokenizer::{BUILT_IN_SPECIALS, Tokenizer};
