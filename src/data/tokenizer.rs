//! Tokenizers: a `tokenizer.json` that is read, and the byte-level BPE that is trained for the built-in base.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Backend, models::TrainerWrapper};

use super::DataError;

/// Special tokens of the built-in base, in id order.
pub const BUILT_IN_SPECIALS: [&str; 5] = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];

/// Text to token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    backend: Backend,
    path: String,
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`; `path` names it in errors. Truncation and padding that are written in it are
    /// switched off, as transformers does with each call that does not ask for them.
    ///
    /// # Errors
    /// When the text is not a tokenizer.
    pub fn from_json(text: &[u8], path: &str) -> Result<Self, DataError> {
        let bad = |error: tokenizers::Error| DataError::Tokenizer {
            action: "read",
            path: path.into(),
            what: error.to_string(),
        };
        let mut backend = Backend::from_bytes(text).map_err(bad)?;
        backend.with_truncation(None).map_err(bad)?.with_padding(None);
        Ok(Self { backend, path: path.into() })
    }

    /// Trains a byte-level BPE of `vocab_size` tokens on `texts`. `markers` become single tokens of their own and
    /// take no part in the merges.
    ///
    /// # Errors
    /// When the vocabulary is too small for the 256 bytes, the special tokens and the markers.
    pub fn train(texts: &[String], vocab_size: usize, markers: &[String]) -> Result<Self, DataError> {
        let failed = |what: String| DataError::Tokenizer {
            action: "train",
            path: "of the built-in base".into(),
            what,
        };
        let least = 256 + BUILT_IN_SPECIALS.len() + markers.len();
        if vocab_size < least {
            return Err(failed(format!(
                "a vocabulary of {vocab_size} is too small, it takes at least {least}"
            )));
        }
        let added: Vec<AddedToken> = BUILT_IN_SPECIALS
            .iter()
            .map(|&token| AddedToken::from(token, true))
            .chain(markers.iter().map(|marker| AddedToken::from(marker.clone(), false)))
            .collect();
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(added)
            .build()
            .into();
        let mut backend = Backend::new(BPE::default());
        backend.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        backend.with_decoder(Some(ByteLevel::new(false, true, true)));
        let pieces: Vec<&str> = texts.iter().flat_map(|text| split_on(text, markers)).collect();
        backend.train(&mut trainer, pieces.into_iter()).map_err(|error| failed(error.to_string()))?;
        let text = backend.to_string(false).map_err(|error| failed(error.to_string()))?;
        Self::from_json(unmark(&text, markers).map_err(failed)?.as_bytes(), "of the built-in base")
    }

    /// The text of `tokenizer.json`.
    ///
    /// # Errors
    /// When the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String, DataError> {
        self.backend.to_string(true).map_err(|error| self.failed(error.to_string()))
    }

    /// Token ids of a text; special tokens that are written in it are recognised, none are added.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.backend.encode(text, false).map_err(|error| self.failed(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids, special tokens included.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.backend.decode(ids, false).map_err(|error| self.failed(error.to_string()))
    }

    /// The id of a token, if the vocabulary has it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.backend.token_to_id(token)
    }

    /// One more than the highest id, those of added tokens included: the rows that an embedding must have. Ids may have
    /// holes, so it can be more than the number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.backend.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The file it was read from, or a description.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn failed(&self, what: String) -> DataError {
        DataError::Tokenizer { action: "use", path: self.path.clone(), what }
    }
}

/// The parts of `text` between markers.
fn split_on<'a>(text: &'a str, markers: &[String]) -> Vec<&'a str> {
    let mut parts = vec![text];
    for marker in markers.iter().map(String::as_str).chain(BUILT_IN_SPECIALS) {
        parts = parts.into_iter().flat_map(|part| part.split(marker)).collect();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Training declares all added tokens special; the markers are ordinary text that decoding must keep.
fn unmark(text: &str, markers: &[String]) -> Result<String, String> {
    let mut value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for token in value["added_tokens"].as_array_mut().into_iter().flatten() {
        if token["content"].as_str().is_some_and(|content| markers.iter().any(|marker| marker == content)) {
            token["special"] = false.into();
        }
    }
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained() -> Tokenizer {
        let texts: Vec<String> = (0..40)
            .map(|i| format!("Sort the names: Anna, Bert, Carla {i}\n<list>\nAnna\nBert\n</list>"))
            .collect();
        Tokenizer::train(&texts, 300, &["<list>".into(), "</list>".into()]).unwrap()
    }

    #[test]
    fn round_trips_any_text_and_keeps_markers_whole() {
        let tokenizer = trained();
        for text in ["Sort the names", "Zoë 中 \u{1f600}\n\t", "<list>\nAnna\n</list><|end|>"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        assert_eq!(tokenizer.encode("<list>").unwrap().len(), 1);
        assert_eq!(tokenizer.encode("<|end|>").unwrap(), vec![tokenizer.id("<|end|>").unwrap()]);
        assert_eq!(tokenizer.id("<|pad|>"), Some(0));
        assert!(tokenizer.vocab_size() <= 300);
    }

    #[test]
    fn training_is_reproducible_and_survives_json() {
        let first = trained().to_json().unwrap();
        assert_eq!(first, trained().to_json().unwrap());
        let again = Tokenizer::from_json(first.as_bytes(), "t").unwrap();
        assert_eq!(again.encode("Carla, Anna").unwrap(), trained().encode("Carla, Anna").unwrap());
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_not_applied() {
        let plain = trained();
        let mut value: serde_json::Value = serde_json::from_str(&plain.to_json().unwrap()).unwrap();
        value["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
        });
        value["padding"] = serde_json::json!({
            "strategy": { "Fixed": 32 }, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"
        });
        let text = value.to_string();
        // The file is understood: read as it is, it gives 32 tokens, most of them padding.
        let as_written = Backend::from_bytes(&text).unwrap().encode("Carla, Anna, Bert", false).unwrap();
        assert_eq!(as_written.get_ids().len(), 32);
        let tokenizer = Tokenizer::from_json(text.as_bytes(), "t").unwrap();
        for text in ["Carla, Anna, Bert, Sort the names: Zoë", "a"] {
            assert_eq!(tokenizer.encode(text).unwrap(), plain.encode(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn a_vocabulary_below_the_bytes_is_refused() {
        let message = Tokenizer::train(&["a".into()], 100, &[]).unwrap_err().to_string();
        assert!(message.contains("100") && message.contains("261"), "{message}");
        assert!(
            Tokenizer::from_json(b"{", "dir/tokenizer.json")
                .unwrap_err()
                .to_string()
                .contains("dir/tokenizer")
        );
    }
}
