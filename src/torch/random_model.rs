//! A model with random weights as a Hugging Face directory: for trying a shape out before its weights are there.
//!
//! Weights come from counters, so that equal settings give equal bytes; they are written tensor by tensor. The tokenizer is
//! the built-in byte-level one, trained on the sorting task, whatever the vocabulary: ids beyond it stand for no text.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tch::Kind;

use crate::data::safetensors::header;
use crate::data::{Architecture, BUILT_IN_SPECIALS, BUILT_IN_TEMPLATE, DataError, Tokenizer};
use crate::manifest::Dtype;
use crate::store::NewFolder;
use crate::task::Task;

use super::failure::RunError;
use super::pretrain::corpus;
use super::weights::raw;
use super::{TorchError, fresh};

/// The largest vocabulary that the tokenizer is trained to.
const TOKENS: usize = 4096;

/// What a random model is made of.
#[derive(Clone, Debug)]
pub struct RandomModel<'a> {
    /// The text of a `config.json`.
    pub config: &'a [u8],
    /// What that text is called in errors.
    pub name: &'a str,
    /// Seed of the weights and of the tokenizer's texts.
    pub seed: u64,
    /// Type of the weights.
    pub dtype: Dtype,
    /// The task that the tokenizer learns its merges from; `None`: no tokenizer.
    pub task: Option<&'a Task>,
}

/// Writes the directory `out`, which must not exist.
///
/// # Errors
/// When the configuration is not of a supported model, its vocabulary is too small for the tokenizer, or the directory
/// cannot be written; nothing is visible then.
pub fn write_random(model: &RandomModel<'_>, out: &Path) -> Result<(), RunError> {
    let architecture = Architecture::from_config_json(model.config, model.name)?;
    let tokenizer = model.task.map(|task| trained(&architecture, task, model.seed)).transpose()?;
    let folder = NewFolder::begin(out)?;
    let (kind, width, word) = match model.dtype {
        Dtype::Float32 => (Kind::Float, 4, "float32"),
        Dtype::Bfloat16 => (Kind::BFloat16, 2, "bfloat16"),
    };
    let pretty = |value: &Value| format!("{value:#}\n").into_bytes();
    let mut config: Value = serde_json::from_slice(model.config)
        .map_err(|error| DataError::ModelConfig { path: model.name.into(), what: error.to_string() })?;
    for key in ["torch_dtype", "dtype"] {
        config[key] = word.into();
    }
    if let Some(tokenizer) = &tokenizer {
        let id = |token: &str| tokenizer.id(token).unwrap_or(0);
        let (pad, end) = (id(BUILT_IN_SPECIALS[0]), id(BUILT_IN_SPECIALS[1]));
        for (key, id) in [("bos_token_id", end), ("eos_token_id", end), ("pad_token_id", pad)] {
            config[key] = id.into();
        }
        let settings = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": BUILT_IN_SPECIALS[0],
            "eos_token": BUILT_IN_SPECIALS[1],
            "model_max_length": architecture.max_positions,
            "clean_up_tokenization_spaces": false,
        });
        folder
            .add("generation_config.json", &pretty(&json!({ "eos_token_id": end, "pad_token_id": pad })))?;
        folder.add("tokenizer.json", tokenizer.to_json()?.as_bytes())?;
        folder.add("tokenizer_config.json", &pretty(&settings))?;
        folder.add("chat_template.jinja", BUILT_IN_TEMPLATE.as_bytes())?;
    }
    folder.add("config.json", &pretty(&config))?;

    let parameters = architecture.parameters();
    let described = parameters.iter().map(|parameter| {
        let dtype = if kind == Kind::Float { "F32" } else { "BF16" };
        (parameter.name.as_str(), dtype, parameter.shape.as_slice(), parameter.elements() * width)
    });
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut file = folder.file("model.safetensors")?;
    file.append(&header(described, &metadata))?;
    for parameter in &parameters {
        let tensor = fresh::tensor(parameter, model.seed, kind)?;
        file.append(&raw(&parameter.name, &parameter.shape, &tensor)?.bytes)?;
    }
    file.finish()?;
    Ok(folder.publish()?)
}

fn trained(architecture: &Architecture, task: &Task, seed: u64) -> Result<Tokenizer, TorchError> {
    let markers: Vec<String> = task.markers().into_iter().map(str::to_owned).collect();
    Ok(Tokenizer::train(&corpus(task, seed)?, architecture.vocab_size.min(TOKENS), &markers)?)
}
