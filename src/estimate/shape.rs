//! The shape of a base before it is loaded: from the manifest's keys, from `config.json`, or from a table.

use std::path::Path;

use crate::data::{Architecture, Family, hub};
use crate::manifest::{ModelSource, PretrainSpec, RunConfig};

/// Longest context of the built-in base, in tokens; `torch::pretrain` makes it so.
const BUILT_IN_POSITIONS: usize = 4096;

/// Name without its owner, hidden, inner, layers, heads, key heads, vocabulary, tied. **For estimates only**: what is
/// trained is read from the model's own files.
type Row = (&'static str, usize, usize, usize, usize, usize, usize, bool);

/// Models of the study, and their larger siblings.
const KNOWN: &[Row] = &[
    ("Qwen2.5-0.5B", 896, 4864, 24, 14, 2, 151_936, true),
    ("Qwen2.5-1.5B", 1536, 8960, 28, 12, 2, 151_936, true),
    ("Qwen2.5-3B", 2048, 11_008, 36, 16, 2, 151_936, true),
    ("Qwen2.5-7B", 3584, 18_944, 28, 28, 4, 152_064, false),
];

/// The shape of the base, where it can be known without weights or network: the built-in base from its keys, a folder
/// from its `config.json`, a model of a hub from the local cache of downloads, else from a table of the study's models.
pub fn architecture(config: &RunConfig) -> Option<Architecture> {
    architecture_in(config, hub::cache_folder(&|name| std::env::var_os(name)).as_deref())
}

/// [`architecture`] with the cache given.
pub fn architecture_in(config: &RunConfig, cache: Option<&Path>) -> Option<Architecture> {
    match &config.model.source {
        ModelSource::Pretrain(spec) => Some(built_in(spec)),
        ModelSource::Directory { path, .. } => read(&path.join("config.json")),
        ModelSource::Hub { id, revision } => cache
            .and_then(|cache| hub::cached_in(cache, id, revision.as_deref()))
            .and_then(|folder| read(&folder.join("config.json")))
            .or_else(|| known(id)),
    }
}

/// The built-in base, as `torch::pretrain` makes it. The embedding has as many rows as the manifest says, whether or not
/// the tokenizer fills them.
pub(super) fn built_in(spec: &PretrainSpec) -> Architecture {
    Architecture {
        family: Family::Qwen2,
        vocab_size: spec.vocab_size as usize,
        hidden_size: spec.hidden_size as usize,
        intermediate_size: spec.intermediate_size as usize,
        layers: spec.layers as usize,
        heads: spec.heads as usize,
        kv_heads: spec.kv_heads as usize,
        head_dim: (spec.hidden_size / spec.heads) as usize,
        attention_bias: true,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied: true,
        max_positions: BUILT_IN_POSITIONS,
    }
}

/// A shape that cannot be read is one that is not known; the run itself says what is wrong with the file.
fn read(file: &Path) -> Option<Architecture> {
    let text = std::fs::read(file).ok()?;
    Architecture::from_config_json(&text, &file.display().to_string()).ok()
}

fn known(id: &str) -> Option<Architecture> {
    let name = id.strip_prefix("Qwen/")?;
    let name = name.strip_suffix("-Instruct").unwrap_or(name);
    let &(_, hidden_size, intermediate_size, layers, heads, kv_heads, vocab_size, tied) =
        KNOWN.iter().find(|row| row.0 == name)?;
    let head_dim = hidden_size / heads;
    Some(Architecture {
        family: Family::Qwen2,
        vocab_size,
        hidden_size,
        intermediate_size,
        layers,
        heads,
        kv_heads,
        head_dim,
        attention_bias: true,
        rope_theta: 1e6,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied,
        max_positions: 32_768,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Parameter;

    #[test]
    fn known_models_have_their_published_counts() {
        let count = |id: &str| {
            known(id).map(|shape| shape.parameters().iter().map(Parameter::elements).sum::<usize>())
        };
        // The first two as the study states them, the others as the models' cards do (3.09 and 7.61 billion).
        assert_eq!(count("Qwen/Qwen2.5-0.5B"), Some(494_032_768));
        assert_eq!(count("Qwen/Qwen2.5-0.5B-Instruct"), Some(494_032_768));
        assert_eq!(count("Qwen/Qwen2.5-1.5B"), Some(1_543_714_304));
        assert_eq!(count("Qwen/Qwen2.5-3B-Instruct"), Some(3_085_938_688));
        assert_eq!(count("Qwen/Qwen2.5-7B"), Some(7_615_616_512));
        assert_eq!(count("Qwen/Qwen2.5-7B-Instruct-1M"), None);
        assert_eq!(count("Somebody/Qwen2.5-7B"), None);
    }
}
