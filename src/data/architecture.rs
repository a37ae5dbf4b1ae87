//! The shape of a decoder, and the list of its parameters.
//!
//! Invariant: [`Architecture::parameters`] is the study's order (study order): embedding, then per layer attention, MLP,
//! norms, then the final norm, then an untied head. It is the order of transformers' `named_parameters` for every family.

use serde_json::{Value, json};

use crate::sparsity::TensorSize;

/// A family of decoders: which switches its shape has, and what its files call themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: a norm on each head's query and key before the rotation.
    Qwen3,
    /// Llama 3 and what has its shape.
    Llama,
}

impl Family {
    /// All of them, in the order of messages.
    pub const ALL: [Self; 3] = [Self::Qwen2, Self::Qwen3, Self::Llama];

    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
        }
    }

    /// The class in `architectures` of `config.json`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
        }
    }
}

/// Llama 3.1's change of the rotary frequencies: planes that turn slowly are slowed down further.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeScaling {
    /// By how much the slowest planes are slowed down; at least 1.
    pub factor: f64,
    /// Planes that turn fewer times than this in `original_positions` are slowed down by the whole factor.
    pub low_freq_factor: f64,
    /// Planes that turn more often than this are left alone; larger than `low_freq_factor`.
    pub high_freq_factor: f64,
    /// Context of the first training, in tokens.
    pub original_positions: usize,
}

/// The shape of a decoder: pre-norm, rotary positions, grouped-query attention, SwiGLU.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// What it is called, and which switches it has.
    pub family: Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU layer.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Whether attention's projections have biases: those to queries, keys and values, and see
    /// [`Architecture::output_bias`]. Always in Qwen2.
    pub attention_bias: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Llama 3.1's change of the rotary frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f64,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Longest context that the model was made for, in tokens.
    pub max_positions: usize,
}

/// Name and shape of a parameter, as in `model.safetensors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Hugging Face name.
    pub name: String,
    /// Shape, `[out, in]` for matrices.
    pub shape: Vec<usize>,
}

impl Parameter {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Architecture {
    /// Whether each head's query and key pass a norm before the rotation.
    pub fn head_norms(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// Whether attention's last projection has a bias too.
    pub fn output_bias(&self) -> bool {
        self.attention_bias && self.family != Family::Qwen2
    }

    /// The `config.json` of this shape, with both dialects' keys, so that old and new transformers read it.
    pub fn to_config_json(&self, eos: u32, pad: u32, dtype: &str) -> Value {
        let mut config = json!({
            "architectures": [self.family.class()],
            "model_type": self.family.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_eps,
            "rope_theta": self.rope_theta,
            "rope_parameters": { "rope_type": "default", "rope_theta": self.rope_theta },
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.max_positions,
        });
        if let Some(scaling) = &self.rope_scaling {
            let mut table = json!({
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_positions,
            });
            config["rope_scaling"] = table.clone();
            table["rope_theta"] = self.rope_theta.into();
            config["rope_parameters"] = table;
        }
        match self.family {
            Family::Qwen2 => config["use_sliding_window"] = false.into(),
            Family::Qwen3 => {
                config["attention_bias"] = self.attention_bias.into();
                config["use_sliding_window"] = false.into();
            }
            Family::Llama => {
                config["attention_bias"] = self.attention_bias.into();
                config["mlp_bias"] = false.into();
            }
        }
        let rest = json!({
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "bos_token_id": eos,
            "eos_token_id": eos,
            "pad_token_id": pad,
            "torch_dtype": dtype,
            "dtype": dtype,
            "use_cache": true,
        });
        if let (Value::Object(config), Value::Object(rest)) = (&mut config, rest) {
            config.extend(rest);
        }
        config
    }

    /// [`Architecture::parameters`] as masks speak of them.
    pub fn sizes(&self) -> Vec<TensorSize> {
        let size = |parameter: Parameter| TensorSize { name: parameter.name, shape: parameter.shape };
        self.parameters().into_iter().map(size).collect()
    }

    /// All unique parameters in study order; a tied head is the embedding and is not listed.
    pub fn parameters(&self) -> Vec<Parameter> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                list.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            for (name, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                add(&format!("self_attn.{name}.weight"), &[rows, hidden]);
                if self.attention_bias {
                    add(&format!("self_attn.{name}.bias"), &[rows]);
                }
            }
            add("self_attn.o_proj.weight", &[hidden, queries]);
            if self.output_bias() {
                add("self_attn.o_proj.bias", &[hidden]);
            }
            if self.head_norms() {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("mlp.gate_proj.weight", &[inner, hidden]);
            add("mlp.up_proj.weight", &[inner, hidden]);
            add("mlp.down_proj.weight", &[hidden, inner]);
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
        }
        list.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tied {
            list.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        list.into_iter().map(|(name, shape)| Parameter { name, shape }).collect()
    }
}
