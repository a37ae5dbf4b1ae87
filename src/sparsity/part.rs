//! Which part of a decoder a parameter belongs to, told by its name in the Hugging Face layout.
//!
//! Invariant: every parameter is of exactly one kind and lies in at most one layer.

/// A kind of module. Every parameter is of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModuleKind {
    /// The matrices of attention: queries, keys, values, output.
    Attention,
    /// The matrices of the feed-forward block.
    Mlp,
    /// Weights of norms, those of a head's queries and keys too.
    Norms,
    /// All biases.
    Biases,
    /// The embedding, and an output head of its own. Also what has a name that this version does not know.
    Embeddings,
}

impl ModuleKind {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 5] = [Self::Attention, Self::Mlp, Self::Norms, Self::Biases, Self::Embeddings];

    /// Its name in manifests and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Norms => "norms",
            Self::Biases => "biases",
            Self::Embeddings => "embeddings",
        }
    }

    /// The kind of a parameter, for example of `model.layers.0.mlp.up_proj.weight`.
    pub fn of(parameter: &str) -> Self {
        let (module, leaf) = parameter.rsplit_once('.').unwrap_or(("", parameter));
        let last = module.rsplit('.').next().unwrap_or_default();
        if leaf == "bias" && !module.is_empty() {
            Self::Biases
        } else if last.contains("norm") {
            Self::Norms
        } else if module.contains(".self_attn.") {
            Self::Attention
        } else if module.contains(".mlp.") {
            Self::Mlp
        } else {
            Self::Embeddings
        }
    }
}

/// The decoder layer of a parameter, from 0; `None` for the embedding, the final norm and the head.
pub fn layer_of(parameter: &str) -> Option<u32> {
    parameter.strip_prefix("model.layers.")?.split_once('.')?.0.parse().ok()
}

/// Where in the depth of a decoder a parameter lies. Every parameter lies in one place; their order is that of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The table of input embeddings.
    Embedding,
    /// A decoder layer, from 0.
    Layer(u32),
    /// What stands outside the layers but for the embedding: the final norm, an output head of its own.
    Outside,
}

impl Place {
    /// The place of a parameter, for example of `model.layers.0.mlp.up_proj.weight`.
    pub fn of(parameter: &str) -> Self {
        match layer_of(parameter) {
            Some(layer) => Self::Layer(layer),
            None if parameter.starts_with("model.embed_tokens.") => Self::Embedding,
            None => Self::Outside,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedding => out.write_str("embedding"),
            Self::Layer(layer) => write!(out, "layer {layer}"),
            Self::Outside => out.write_str("outside"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_a_place() {
        let place = |name: &str| Place::of(name).to_string();
        assert_eq!(place("model.embed_tokens.weight"), "embedding");
        assert_eq!(place("model.layers.11.self_attn.k_proj.bias"), "layer 11");
        assert_eq!([place("model.norm.weight"), place("lm_head.weight")], ["outside", "outside"]);
        let mut places = vec![Place::Outside, Place::Layer(10), Place::Embedding, Place::Layer(9)];
        places.sort();
        assert_eq!(places, [Place::Embedding, Place::Layer(9), Place::Layer(10), Place::Outside]);
    }

    #[test]
    fn every_parameter_has_a_kind_and_may_have_a_layer() {
        for (name, kind, layer) in [
            ("model.embed_tokens.weight", ModuleKind::Embeddings, None),
            ("model.layers.0.self_attn.q_proj.weight", ModuleKind::Attention, Some(0)),
            ("model.layers.11.self_attn.k_proj.bias", ModuleKind::Biases, Some(11)),
            ("model.layers.3.self_attn.q_norm.weight", ModuleKind::Norms, Some(3)),
            ("model.layers.3.mlp.down_proj.weight", ModuleKind::Mlp, Some(3)),
            ("model.layers.3.post_attention_layernorm.weight", ModuleKind::Norms, Some(3)),
            ("model.norm.weight", ModuleKind::Norms, None),
            ("lm_head.weight", ModuleKind::Embeddings, None),
            ("strange", ModuleKind::Embeddings, None),
        ] {
            assert_eq!((ModuleKind::of(name), layer_of(name)), (kind, layer), "{name}");
        }
    }
}
