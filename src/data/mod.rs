//! Data from outside: model directories, tokenizers, chat templates, datasets. Files in, plain values out.

mod apply;
mod architecture;
mod chat;
mod chat_files;
#[cfg(test)]
#[cfg(feature = "torch")]
mod chat_files_tests;
mod chat_python;
mod delta;
mod error;
pub mod hub;
mod kept;
mod known_shapes;
mod model_config;
mod model_dir;
mod model_files;
mod rows;
pub mod safetensors;
mod task;
mod tensor_file;
#[cfg(feature = "torch")]
mod tokenizer;
mod weight_files;

pub use crate::task::Message;
pub use apply::{ApplyError, apply_delta};
pub use architecture::{Architecture, Family, Parameter, RopeScaling};
pub use chat::{BUILT_IN_TEMPLATE, ChatTemplate};
#[cfg(feature = "torch")]
pub use chat_files::Chat;
pub use delta::{Change, Delta, DeltaHead, delta_bytes};
pub use error::DataError;
pub use kept::{BACK_TOKENS, Kept, LOGIT_BYTES, ROW_ENTRIES, SMALL_VOCABULARY, TokenBytes, WHOLE_GRADIENT};
pub use known_shapes::KNOWN_SHAPES;
pub use model_dir::ModelDir;
pub use model_files::{Edit, TensorDigests, companions, copy_model, each_tensor, tensors_digest};
pub use rows::{ANSWER_COLUMNS, QUESTION_COLUMNS, QuestionRow, Questions, read_names, read_questions};
pub use task::{OpenTaskError, open_task};
pub use tensor_file::{TensorEntry, TensorFile, width};
#[cfg(feature = "torch")]
pub use tokenizer::{BUILT_IN_SPECIALS, Tokenizer};
pub use weight_files::{Place, Places, Stored, places};
