//! What can be wrong with models, tokenizers, templates and name lists on disk.

use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};

use super::Family;

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
    #[error(
        "use {path}: the architecture `{class}` with model type `{model_type}` is not supported; supported: {}",
        supported()
    )]
    UnsupportedModel {
        /// The file.
        path: String,
        /// Its `model_type`.
        model_type: String,
        /// The first of its `architectures`.
        class: String,
    },
    /// A supported family with something in it that is not computed here.
    #[error("use {path}: {what}, in a model of the architecture `{class}`")]
    UnsupportedFeature {
        /// The file.
        path: String,
        /// What it is, with its key.
        what: String,
        /// The architecture.
        class: &'static str,
    },
    /// A tensor of the model is missing, unknown, at the wrong place, of the wrong shape or type, or holds no numbers.
    #[error("load tensor {tensor} from {}: {what}", path.display())]
    Tensor {
        /// The weights file, or the index of several.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The list of shards, `model.safetensors.index.json`, is wrong.
    #[error("use {}: {what}", path.display())]
    WeightIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Weights in a format that can run code when it is read.
    #[error("open the model directory {}: its weights are pickled ({file}), which is not read", dir.display())]
    Pickled {
        /// The model directory.
        dir: PathBuf,
        /// The file found.
        file: String,
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
    /// No tokenizer in the one form that is read.
    #[error("open the model directory {}: it has no tokenizer.json{found}", dir.display())]
    NoTokenizer {
        /// The model directory.
        dir: PathBuf,
        /// Nothing, or what is there instead, to follow the sentence.
        found: String,
    },
    /// A model without a chat template.
    #[error(
        "open the model directory {}: it has no chat template, neither chat_template.jinja nor the key \
         `chat_template` in tokenizer_config.json", dir.display()
    )]
    NoChatTemplate {
        /// The model directory.
        dir: PathBuf,
    },
    /// The chat template is broken.
    #[error("render the chat template {path}: {what}")]
    ChatTemplate {
        /// The file that it comes from.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Rows of a dataset that cannot be used.
    #[error("read the rows of {}: {what}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong, with row or line and column where there are some.
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
            Self::NoTokenizer { dir, .. } => Some(format!(
                "fetch tokenizer.json, or let transformers write it: python3 -c \"import transformers; \
                 transformers.AutoTokenizer.from_pretrained('{0}').save_pretrained('{0}')\"",
                dir.display()
            )),
            Self::NoChatTemplate { dir } => Some(format!(
                "write the Jinja template of the model's family to {}; the base models of Qwen2.5 and Qwen3 come with \
                 one",
                dir.join("chat_template.jinja").display()
            )),
            Self::Tokenizer { action: "read", .. } => Some(
                "fetch the file again; one of an unknown form can be written anew with transformers' save_pretrained"
                    .into(),
            ),
            Self::ChatTemplate { .. } => Some(
                "correct it there, or write another template to chat_template.jinja in the model's folder, which goes \
                 before the one in tokenizer_config.json"
                    .into(),
            ),
            Self::Weights { .. } => Some("the file may be incomplete: fetch or write it again".into()),
            Self::WeightIndex { .. } => Some(
                "the index and the shards come from one `save_pretrained`: fetch or write all of them again".into(),
            ),
            Self::Pickled { .. } => Some(
                "a pickle can run code when it is read; convert it where you trust it, in Python with transformers: \
                 AutoModelForCausalLM.from_pretrained(DIR, dtype=\"auto\").save_pretrained(OUT), which writes \
                 safetensors, and copy the tokenizer's files"
                    .into(),
            ),
            Self::Tensor { hint, .. } => Some(hint.clone()),
            Self::ModelConfig { .. } => {
                Some("take the file that was published or saved together with the weights".into())
            }
            Self::UnsupportedModel { .. } => Some("take a model of one of these families".into()),
            Self::UnsupportedFeature { .. } => {
                Some(format!("take a model without it; what is computed are plain models of {}", supported()))
            }
            Self::Rows { .. } => Some(
                "a Parquet file has a column, and each line of a JSONL file an object with a key: `names` (a list of \
                 strings) for a list of names, or a question and an answer (text), whose columns are \
                 `task.question_column` and `task.answer_column`, or else `question` or `problem`, and `answer` or \
                 `solution`"
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

/// The families for messages: `Qwen2ForCausalLM (qwen2), ...`.
fn supported() -> String {
    let names = Family::ALL.map(|family| format!("{} ({})", family.class(), family.model_type()));
    names.join(", ")
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })
}
