//! A Hugging Face model directory: everything but the numbers.
//!
//! In: a folder. Out: the architecture and the weight files; the tokenizer and the template are read by `chat_files`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[cfg(feature = "torch")]
use super::Chat;
use super::error::read;
use super::weight_files::weight_files;
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
    /// Which file each tensor is in, as the index of the shards says; empty where there is one file.
    pub weight_map: BTreeMap<String, PathBuf>,
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
        let (weights, weight_map) = weight_files(path)?;
        Ok(Self { path: path.into(), architecture, weights, weight_map })
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
