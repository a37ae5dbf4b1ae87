//! The chat parts of a Hugging Face model directory: tokenizer, template, the tokens that end an answer.
//!
//! In: a folder. Out: what turns conversations into tokens and tokens into answers. Nothing is inherited from
//! `generation_config.json` except those end tokens.

use std::path::Path;

use serde_json::Value;

use super::error::read;
use super::{ChatTemplate, DataError};
#[cfg(feature = "torch")]
use super::{Message, Tokenizer};
use crate::model_folder::{CHAT_TEMPLATE, SPECIAL_TOKENS, TOKENIZER_CONFIG};
#[cfg(feature = "torch")]
use crate::model_folder::{CONFIG, GENERATION, TOKENIZER, other_tokenizer};

impl ChatTemplate {
    /// The template of a model directory, from where transformers takes it: `chat_template.jinja` first, else the key
    /// `chat_template` of `tokenizer_config.json`.
    ///
    /// # Errors
    /// When there is none or it is broken.
    pub fn read(dir: &Path) -> Result<Self, DataError> {
        let settings = settings(dir)?;
        let (bos, eos) = (special(&settings, "bos_token"), special(&settings, "eos_token"));
        let file = dir.join(CHAT_TEMPLATE);
        if file.is_file() {
            let path = file.display().to_string();
            let source = String::from_utf8(read(&file)?).map_err(|_| DataError::ChatTemplate {
                path: path.clone(),
                what: "it is not UTF-8".into(),
            })?;
            return Self::new(&source, &path, &bos, &eos);
        }
        let source = match &settings["chat_template"] {
            Value::String(source) => Some(source.as_str()),
            // Several named templates: transformers takes the one named `default`.
            Value::Array(list) => list
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str()),
            _ => None,
        };
        let source = source.ok_or_else(|| DataError::NoChatTemplate { dir: dir.into() })?;
        Self::new(source, &dir.join(TOKENIZER_CONFIG).display().to_string(), &bos, &eos)
    }
}

/// `tokenizer_config.json`; special tokens that only the older `special_tokens_map.json` has are taken from there.
fn settings(dir: &Path) -> Result<Value, DataError> {
    let mut settings = json(dir, TOKENIZER_CONFIG)?.unwrap_or(Value::Null);
    let older = json(dir, SPECIAL_TOKENS)?.unwrap_or(Value::Null);
    for key in ["bos_token", "eos_token"] {
        if settings[key].is_null() && (settings.is_object() || settings.is_null()) && !older[key].is_null() {
            settings[key] = older[key].clone();
        }
    }
    Ok(settings)
}

/// Special tokens are written as a string or as an object with `content`; empty if there is none.
fn special(settings: &Value, key: &str) -> String {
    let value = &settings[key];
    value.as_str().or_else(|| value["content"].as_str()).unwrap_or("").to_owned()
}

fn json(dir: &Path, name: &str) -> Result<Option<Value>, DataError> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    serde_json::from_slice(&read(&path)?).map(Some).map_err(|error| DataError::ModelConfig {
        path: path.display().to_string(),
        what: format!("it is not JSON: {error}"),
    })
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
    /// Reads the chat parts of a model directory whose embedding has `rows` rows.
    ///
    /// # Errors
    /// When a part is missing or broken, an id exceeds the embedding, or the parts contradict each other.
    pub fn read(dir: &Path, rows: usize) -> Result<Self, DataError> {
        let file = dir.join(TOKENIZER);
        if !file.is_file() {
            return Err(DataError::NoTokenizer { dir: dir.into(), found: other_tokenizer(dir).into() });
        }
        let tokenizer = Tokenizer::from_json(&read(&file)?, &file.display().to_string())?;
        if tokenizer.vocab_size() > rows {
            let highest = tokenizer.vocab_size() - 1;
            let what = format!(
                "its highest id is {highest}, but the model's embedding has only {rows} rows: tokenizer.json and \
                 config.json are not of the same model"
            );
            return Err(unusable(&tokenizer, what));
        }
        let template = ChatTemplate::read(dir)?;
        let end_tokens = end_tokens(dir, &tokenizer, rows)?;
        Ok(Self { tokenizer, template, end_tokens })
    }

    /// Tokens of a conversation's first prompt, up to the opening of the answer.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn opening(&self, prompt: &str) -> Result<Vec<u32>, DataError> {
        self.prompt(&[Message::user(prompt)])
    }

    /// Tokens of any conversation up to the opening of the next answer, as transformers' `apply_chat_template` gives them
    /// with `add_generation_prompt`. The template writes what a tokenizer would add, so nothing is added.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, DataError> {
        self.tokenizer.encode(&self.template.render(messages, true)?)
    }

    /// Tokens from the end of an answer to the opening of the next. An answer that was drawn with its end token keeps
    /// that one, so the follow-up starts after it; a truncated answer is closed by the template's end token.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn follow_up(&self, history: &[Message], next: &str, ended: bool) -> Result<Vec<u32>, DataError> {
        let mut ids = self.tokenizer.encode(&self.template.follow_up(history, next)?)?;
        if ended && let Some(end) = self.end_of_answer(&ids)? {
            ids.drain(..=end);
        }
        Ok(ids)
    }

    /// The token with which the template ends an answer.
    ///
    /// # Errors
    /// When the template or the tokenizer fails, or the template ends answers with another token than the model does.
    pub fn closing(&self) -> Result<u32, DataError> {
        let ids = self.tokenizer.encode(&self.template.follow_up(&[Message::user("-")], "-")?)?;
        if let Some(end) = self.end_of_answer(&ids)? {
            return Ok(ids[end]);
        }
        let first = ids.first().copied();
        let text = self.tokenizer.decode(first.as_slice())?;
        let id = first.map_or_else(|| "nothing".to_owned(), |id| format!("`{text}` (id {id})"));
        Err(unusable(
            &self.tokenizer,
            format!(
                "the chat template closes an answer with {id}, which is not among the end-of-sequence tokens {:?}: \
                 add it to `eos_token_id` in generation_config.json",
                self.end_tokens
            ),
        ))
    }

    /// Where the end token stands that closes an answer, given what follows the answer. Some templates put a space first.
    fn end_of_answer(&self, ids: &[u32]) -> Result<Option<usize>, DataError> {
        let Some(end) = ids.iter().position(|id| self.end_tokens.contains(id)) else { return Ok(None) };
        Ok(self.tokenizer.decode(&ids[..end])?.trim().is_empty().then_some(end))
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

#[cfg(feature = "torch")]
fn unusable(tokenizer: &Tokenizer, what: String) -> DataError {
    DataError::Tokenizer { action: "use", path: tokenizer.path().to_owned(), what }
}

/// The tokens that end an answer: `eos_token` of `tokenizer_config.json` and the `eos_token_id` of
/// `generation_config.json` and `config.json` together, ascending.
#[cfg(feature = "torch")]
fn end_tokens(dir: &Path, tokenizer: &Tokenizer, rows: usize) -> Result<Vec<u32>, DataError> {
    let mut ends = Vec::new();
    let eos = special(&settings(dir)?, "eos_token");
    if !eos.is_empty() {
        ends.push(tokenizer.id(&eos).ok_or_else(|| {
            let what = format!(
                "it does not know `{eos}`, the `eos_token` of tokenizer_config.json: fetch both files of the same model, \
                 or write them anew with transformers' save_pretrained"
            );
            unusable(tokenizer, what)
        })?);
    }
    for name in [GENERATION, CONFIG] {
        let value = json(dir, name)?.map_or(Value::Null, |value| value["eos_token_id"].clone());
        let ids = match value {
            Value::Null => continue,
            Value::Array(ids) => ids,
            id => vec![id],
        };
        for id in ids {
            let valid = id.as_u64().filter(|&id| (id as usize) < rows).map(|id| id as u32);
            ends.push(valid.ok_or_else(|| DataError::ModelConfig {
                path: dir.join(name).display().to_string(),
                what: format!(
                    "`eos_token_id` has {id}, which is no token: ids of this model are 0 to {}",
                    rows.saturating_sub(1)
                ),
            })?);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    if ends.is_empty() {
        let what = "no end-of-sequence token: set `eos_token` in tokenizer_config.json, or `eos_token_id` in \
                    generation_config.json or config.json";
        return Err(unusable(tokenizer, what.into()));
    }
    Ok(ends)
}
