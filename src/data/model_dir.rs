//! A Hugging Face model directory: everything but the numbers.
//!
//! In: a folder. Out: the architecture, the weight files, the tokenizer, the chat template and the tokens that end
//! an answer. Nothing is inherited from `generation_config.json` except those end tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::read;
use super::weight_files::weight_files;
use super::{Architecture, ChatTemplate, DataError};
#[cfg(feature = "torch")]
use super::{Message, Tokenizer};

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
        let file = self.path.join("tokenizer.json");
        if !file.is_file() {
            return Err(DataError::Missing { dir: self.path.clone(), what: "tokenizer.json".into() });
        }
        let tokenizer = Tokenizer::from_json(&read(&file)?, &file.display().to_string())?;
        if tokenizer.vocab_size() > self.architecture.vocab_size {
            return Err(DataError::Tokenizer {
                action: "use",
                path: file.display().to_string(),
                what: format!(
                    "it has {} tokens, but the model's embedding only {} rows",
                    tokenizer.vocab_size(),
                    self.architecture.vocab_size
                ),
            });
        }
        let settings = self.json("tokenizer_config.json")?.unwrap_or(Value::Null);
        let eos = special(&settings["eos_token"]);
        let template = self.chat_template()?;
        let mut end_tokens: Vec<u32> = tokenizer.id(&eos).into_iter().collect();
        for file in ["generation_config.json", "config.json"] {
            match self.json(file)?.map(|value| value["eos_token_id"].clone()) {
                Some(Value::Array(ids)) => {
                    end_tokens.extend(ids.iter().filter_map(Value::as_u64).map(|id| id as u32));
                }
                Some(id) => end_tokens.extend(id.as_u64().map(|id| id as u32)),
                None => {}
            }
        }
        end_tokens.sort_unstable();
        end_tokens.dedup();
        if end_tokens.is_empty() {
            return Err(DataError::Tokenizer {
                action: "use",
                path: file.display().to_string(),
                what:
                    "no end-of-sequence token in tokenizer_config.json, generation_config.json or config.json"
                        .into(),
            });
        }
        Ok(Chat { tokenizer, template, end_tokens })
    }

    /// The chat template: `chat_template.jinja` first, else `tokenizer_config.json`.
    ///
    /// # Errors
    /// When there is none or it is broken.
    pub fn chat_template(&self) -> Result<ChatTemplate, DataError> {
        let settings = self.json("tokenizer_config.json")?.unwrap_or(Value::Null);
        let (bos, eos) = (special(&settings["bos_token"]), special(&settings["eos_token"]));
        let file = self.path.join("chat_template.jinja");
        if file.is_file() {
            let bytes = read(&file)?;
            return ChatTemplate::new(
                &String::from_utf8_lossy(&bytes),
                &file.display().to_string(),
                &bos,
                &eos,
            );
        }
        let path = self.path.join("tokenizer_config.json").display().to_string();
        let source = match &settings["chat_template"] {
            Value::String(source) => Some(source.as_str()),
            // Several named templates: transformers takes the one named `default`.
            Value::Array(list) => list
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str()),
            _ => None,
        };
        let source = source.ok_or_else(|| DataError::Missing {
            dir: self.path.clone(),
            what: "chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json)".into(),
        })?;
        ChatTemplate::new(source, &path, &bos, &eos)
    }

    fn json(&self, name: &str) -> Result<Option<Value>, DataError> {
        let path = self.path.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        serde_json::from_slice(&read(&path)?).map(Some).map_err(|error| DataError::ModelConfig {
            path: path.display().to_string(),
            what: format!("it is not JSON: {error}"),
        })
    }
}

/// Special tokens are written as a string or as an object with `content`.
fn special(value: &Value) -> String {
    value.as_str().or_else(|| value["content"].as_str()).unwrap_or("").to_owned()
}

/// What turns a conversation into tokens.
#[cfg(feature = "torch")]
#[derive(Debug)]
pub struct Chat {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Messages to text.
    pub template: ChatTemplate,
    /// Tokens that end an answer, ascending.
    pub end_tokens: Vec<u32>,
}

#[cfg(feature = "torch")]
impl Chat {
    /// Tokens of a conversation's first prompt, up to the opening of the answer.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn opening(&self, prompt: &str) -> Result<Vec<u32>, DataError> {
        self.tokenizer.encode(&self.template.render(&[Message::user(prompt)], true)?)
    }

    /// Tokens from the end of an answer to the opening of the next. An answer that was drawn with its end token keeps
    /// that one, so the follow-up starts after it; a truncated answer is closed by the template's end token.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn follow_up(&self, history: &[Message], next: &str, ended: bool) -> Result<Vec<u32>, DataError> {
        let ids = self.tokenizer.encode(&self.template.follow_up(history, next)?)?;
        let skip = usize::from(ended && ids.first().is_some_and(|id| self.end_tokens.contains(id)));
        Ok(ids[skip..].to_vec())
    }

    /// The token with which the template ends an answer.
    ///
    /// # Errors
    /// When the template or the tokenizer fails, or the template ends answers with ordinary text.
    pub fn closing(&self) -> Result<u32, DataError> {
        let ids = self.tokenizer.encode(&self.template.follow_up(&[Message::user("-")], "-")?)?;
        ids.first().copied().filter(|id| self.end_tokens.contains(id)).ok_or_else(|| DataError::Tokenizer {
            action: "use",
            path: "of this model".into(),
            what: "the chat template does not close an answer with an end-of-sequence token".into(),
        })
    }

    /// The text of an answer, its end token left out.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn answer(&self, tokens: &[u32]) -> Result<String, DataError> {
        let end = tokens.iter().position(|id| self.end_tokens.contains(id)).unwrap_or(tokens.len());
        self.tokenizer.decode(&tokens[..end])
    }
}
