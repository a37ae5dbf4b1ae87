//! A Hugging Face model directory: everything but the numbers.
//!
//! In: a folder. Out: the architecture and the weight files; the tokenizer and the template are read by `chat_files`.

use std::path::{Path, PathBuf};

use serde_json::Value;

#[cfg(feature = "torch")]
use super::Chat;
use super::error::read;
use super::{Architecture, ChatTemplate, DataError};

/// A model directory, opened.
#[derive(Debug)]
pub struct ModelDir {
    /// The folder.
    pub path: PathBuf,
    /// The shape.
    pub architecture: Architecture,
    /// The weight files, sorted by name.
    pub weights: Vec<PathBuf>,
}

impl ModelDir {
    /// Opens a directory and checks that its parts are there.
    ///
    /// # Errors
    /// When a part is missing or `config.json` is not usable.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let config = path.join("config.json");
        if !config.is_file() {
            return Err(DataError::Missing { dir: path.into(), what: "config.json".into() });
        }
        let architecture = Architecture::from_config_json(&read(&config)?, &config.display().to_string())?;
        Ok(Self { path: path.into(), architecture, weights: weight_files(path)? })
    }

    /// The tokenizer, the template and the end tokens.
    ///
    /// # Errors
    /// When one of them is missing or broken, or the vocabulary exceeds the embedding.
    #[cfg(feature = "torch")]
    pub fn chat(&self) -> Result<Chat, DataError> {
        Chat::read(&self.path, self.architecture.vocab_size)
    }

    /// The chat template.
    ///
    /// # Errors
    /// When there is none or it is broken.
    pub fn chat_template(&self) -> Result<ChatTemplate, DataError> {
        ChatTemplate::read(&self.path)
    }
}

fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let single = dir.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if !index.is_file() {
        return Err(DataError::Missing {
            dir: dir.into(),
            what: "model.safetensors or model.safetensors.index.json".into(),
        });
    }
    let bad = |what: String| DataError::ModelConfig { path: index.display().to_string(), what };
    let value: Value =
        serde_json::from_slice(&read(&index)?).map_err(|e| bad(format!("it is not JSON: {e}")))?;
    let map = value["weight_map"].as_object().ok_or_else(|| bad("key `weight_map` is missing".into()))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| {
            let path = dir.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(DataError::Missing { dir: dir.into(), what: name.into() })
            }
        })
        .collect()
}
