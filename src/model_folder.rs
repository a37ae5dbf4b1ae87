//! Which files of a Hugging Face folder decide what a model is.
//!
//! What is read of a folder is in this list, and what is in it is hashed, fetched, compared at each load and exported.
//! Other files (README, licence, optimizer states, older tokenizers) decide nothing.

use std::path::Path;

/// The architecture.
pub const CONFIG: &str = "config.json";
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Which tokens end an answer.
pub const GENERATION: &str = "generation_config.json";
/// Special tokens, and the chat template where it has no file of its own.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Special tokens, in older folders.
pub const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// The chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Files that a model cannot do without, weights aside.
pub const NEEDED: [&str; 2] = [CONFIG, TOKENIZER];
/// Files that a model may have.
pub const OPTIONAL: [&str; 4] = [GENERATION, TOKENIZER_CONFIG, SPECIAL_TOKENS, CHAT_TEMPLATE];

/// The weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of files of weights in several.
pub const INDEX: &str = "model.safetensors.index.json";

/// What is in a folder in place of a [`TOKENIZER`], as the end of a sentence; empty if nothing is.
pub fn other_tokenizer(folder: &Path) -> &'static str {
    let there = |name: &str| folder.join(name).is_file();
    if there("tokenizer.model") {
        ", only tokenizer.model (of SentencePiece or tiktoken), which is not read"
    } else if there("vocab.json") && there("merges.txt") {
        ", only the older vocab.json and merges.txt, which are not read"
    } else if there("vocab.txt") {
        ", only vocab.txt (of WordPiece), which is not read"
    } else {
        ""
    }
}
