//! The shape of a base before it is loaded: from the manifest's keys, from `config.json`, or from a table.

use std::path::Path;

use crate::data::{Architecture, Family, hub};
use crate::manifest::{ModelSource, PretrainSpec, RunConfig};

/// Longest context of the built-in base, in tokens; `torch::pretrain` makes it so.
const BUILT_IN_POSITIONS: usize = 4096;

/// Owner and name, family, hidden, inner, layers, heads, key heads, head width, vocabulary, tied, positions. **For
/// estimates only**: what is trained is read from the model's own files.
type Row = (&'static str, Family, [usize; 6], usize, bool, usize);

/// Models of the study and their larger siblings, and the sizes of the other families that one machine trains.
const KNOWN: &[Row] = &[
    ("Qwen/Qwen2.5-0.5B", Family::Qwen2, [896, 4864, 24, 14, 2, 64], 151_936, true, 32_768),
    ("Qwen/Qwen2.5-1.5B", Family::Qwen2, [1536, 8960, 28, 12, 2, 128], 151_936, true, 32_768),
    ("Qwen/Qwen2.5-3B", Family::Qwen2, [2048, 11_008, 36, 16, 2, 128], 151_936, true, 32_768),
    ("Qwen/Qwen2.5-7B", Family::Qwen2, [3584, 18_944, 28, 28, 4, 128], 152_064, false, 32_768),
    ("Qwen/Qwen3-0.6B", Family::Qwen3, [1024, 3072, 28, 16, 8, 128], 151_936, true, 40_960),
    ("Qwen/Qwen3-1.7B", Family::Qwen3, [2048, 6144, 28, 16, 8, 128], 151_936, true, 40_960),
    ("Qwen/Qwen3-4B", Family::Qwen3, [2560, 9728, 36, 32, 8, 128], 151_936, true, 40_960),
    ("Qwen/Qwen3-8B", Family::Qwen3, [4096, 12_288, 36, 32, 8, 128], 151_936, false, 40_960),
    ("meta-llama/Llama-3.2-1B", Family::Llama, [2048, 8192, 16, 32, 8, 64], 128_256, true, 131_072),
    ("meta-llama/Llama-3.2-3B", Family::Llama, [3072, 8192, 28, 24, 8, 128], 128_256, true, 131_072),
    ("meta-llama/Llama-3.1-8B", Family::Llama, [4096, 14_336, 32, 32, 8, 128], 128_256, false, 131_072),
];

/// The shape of the base, where it can be known without weights or network: the built-in base from its keys, a folder
/// from its `config.json`, a model of a hub from the local cache of downloads, else from a table of well-known models.
pub fn architecture(config: &RunConfig) -> Option<Architecture> {
    architecture_in(config, hub::cache_folder(&|name| std::env::var_os(name)).as_deref())
}

/// [`architecture`] with the cache given.
pub fn architecture_in(config: &RunConfig, cache: Option<&Path>) -> Option<Architecture> {
    match &config.model.source {
        ModelSource::Pretrain(spec) => Some(built_in(spec)),
        ModelSource::Directory { path, .. } => read(&path.join("config.json")),
        // Where the results are is not known here.
        ModelSource::Run { .. } => None,
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

/// Instruct and base models of a size have one shape. The scaling of Llama's frequencies costs nothing and is left out.
fn known(id: &str) -> Option<Architecture> {
    let name = id.strip_suffix("-Instruct").or_else(|| id.strip_suffix("-Base")).unwrap_or(id);
    let &(
        _,
        family,
        [hidden_size, intermediate_size, layers, heads, kv_heads, head_dim],
        vocab_size,
        tied,
        positions,
    ) = KNOWN.iter().find(|row| row.0 == name)?;
    Some(Architecture {
        family,
        vocab_size,
        hidden_size,
        intermediate_size,
        layers,
        heads,
        kv_heads,
        head_dim,
        attention_bias: family == Family::Qwen2,
        rope_theta: 1e6,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied,
        max_positions: positions,
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
        // As safetensors of the published models count them, a tied head once.
        assert_eq!(count("Qwen/Qwen3-0.6B"), Some(596_049_920));
        assert_eq!(count("Qwen/Qwen3-1.7B-Base"), Some(1_720_574_976));
        assert_eq!(count("Qwen/Qwen3-4B"), Some(4_022_468_096));
        assert_eq!(count("Qwen/Qwen3-8B"), Some(8_190_735_360));
        assert_eq!(count("meta-llama/Llama-3.2-1B"), Some(1_235_814_400));
        assert_eq!(count("meta-llama/Llama-3.2-3B-Instruct"), Some(3_212_749_824));
        assert_eq!(count("meta-llama/Llama-3.1-8B"), Some(8_030_261_248));
        assert_eq!(count("Qwen/Qwen2.5-7B-Instruct-1M"), None);
        assert_eq!(count("Somebody/Qwen2.5-7B"), None);
    }
}
