//! What can be wrong with models, tokenizers, templates and name lists on disk.

use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};

/// A file or folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be read at all.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that a model directory must have.
    #[error("open the model directory {}: it has no {what}", dir.display())]
    Missing {
        /// The model directory.
        dir: PathBuf,
        /// The file or files looked for.
        what: String,
    },
    /// `config.json` is impossible.
    #[error("use {path}: {what}")]
    ModelConfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another family of models.
    #[error("use {path}: model type `{model_type}` is not supported; supported: qwen2 (Qwen2 and Qwen2.5)")]
    UnsupportedModel {
        /// The file.
        path: String,
        /// Its `model_type`.
        model_type: String,
    },
    /// Not a safetensors file, or cut short.
    #[error("read the weights in {}: {what}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Not a delta, damaged, or of another model.
    #[error("use the delta {}: {what}", path.display())]
    Delta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The tokenizer cannot be built or used.
    #[error("{action} the tokenizer {path}: {what}")]
    Tokenizer {
        /// `read`, `train` or `use`.
        action: &'static str,
        /// The file, or a description.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The chat template is broken or missing.
    #[error("render the chat template {path}: {what}")]
    ChatTemplate {
        /// The file that it comes from.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A list of names without names.
    #[error("read the names in {}: {what}", path.display())]
    Names {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        what: String,
    },
}

impl DataError {
    /// Advice, where there is some.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "a Hugging Face directory has config.json, model.safetensors (or its shards and index) and \
                 tokenizer.json"
                    .into(),
            ),
            Self::Weights { .. } => Some("the file may be incomplete: fetch or write it again".into()),
            Self::Names { .. } => Some(
                "a JSONL file has one object a line, {\"names\": [\"...\", ...]}; a Parquet file has a column \
                 `names` of lists of strings"
                    .into(),
            ),
            _ => None,
        }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let hint = error.hint();
        Self::new(Code::Environment, error, hint)
    }
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })
}
