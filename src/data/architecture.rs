//! `config.json` to a decoder's shape, and that shape to the list of its parameters.
//!
//! Both dialects of `config.json` are read: `rope_theta` and `torch_dtype` (transformers 4), `rope_parameters` and
//! `dtype` (transformers 5). Invariant: [`Architecture::parameters`] is the study's order (study order): embedding,
//! then per layer attention, MLP, norms, then the final norm, then an untied head.

use serde_json::{Value, json};

use super::DataError;

/// The shape of a Qwen2-style decoder: pre-norm, rotary positions, grouped-query attention, SwiGLU.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
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
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
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
    /// Reads `config.json`; `path` names the file in errors.
    ///
    /// # Errors
    /// When the text is no JSON object, a key is missing or impossible, or the architecture is not supported.
    pub fn from_config_json(text: &[u8], path: &str) -> Result<Self, DataError> {
        let bad = |what: String| DataError::ModelConfig { path: path.into(), what };
        let config: Value = serde_json::from_slice(text).map_err(|e| bad(format!("it is not JSON: {e}")))?;
        let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("(none)");
        if model_type != "qwen2" {
            return Err(DataError::UnsupportedModel { path: path.into(), model_type: model_type.into() });
        }
        let positive = |key: &str| {
            let value = config.get(key).ok_or_else(|| bad(format!("key `{key}` is missing")))?;
            value
                .as_u64()
                .filter(|&n| n > 0 && n < 1 << 31)
                .map(|n| n as usize)
                .ok_or_else(|| bad(format!("key `{key}` is {value}, not a positive integer")))
        };
        let number = |value: Option<&Value>, default: f64| value.and_then(Value::as_f64).unwrap_or(default);
        let rope = config.get("rope_parameters").filter(|value| value.is_object());
        let scaling = config.get("rope_scaling").filter(|value| value.is_object());
        for table in [rope, scaling].into_iter().flatten() {
            let kind = table.get("rope_type").or_else(|| table.get("type")).and_then(Value::as_str);
            if let Some(kind) = kind.filter(|&kind| kind != "default") {
                return Err(bad(format!("rotary scaling `{kind}` is not supported, only `default`")));
            }
        }
        if config.get("use_sliding_window").and_then(Value::as_bool).unwrap_or(false) {
            return Err(bad("sliding-window attention is not supported".into()));
        }
        if let Some(activation) = config.get("hidden_act").and_then(Value::as_str).filter(|&a| a != "silu") {
            return Err(bad(format!("activation `{activation}` is not supported, only `silu`")));
        }
        let (hidden_size, heads) = (positive("hidden_size")?, positive("num_attention_heads")?);
        let kv_heads = if config.get("num_key_value_heads").is_some() {
            positive("num_key_value_heads")?
        } else {
            heads
        };
        let head_dim = match config.get("head_dim") {
            Some(value) if !value.is_null() => positive("head_dim")?,
            _ if hidden_size % heads == 0 => hidden_size / heads,
            _ => return Err(bad(format!("hidden_size {hidden_size} is not a multiple of {heads} heads"))),
        };
        if !heads.is_multiple_of(kv_heads) || !head_dim.is_multiple_of(2) {
            return Err(bad(format!(
                "{heads} heads of width {head_dim} with {kv_heads} key-value heads: the first must be a multiple of \
                 the last and the width even"
            )));
        }
        Ok(Self {
            vocab_size: positive("vocab_size")?,
            hidden_size,
            intermediate_size: positive("intermediate_size")?,
            layers: positive("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            rope_theta: number(
                config.get("rope_theta").or_else(|| rope.and_then(|table| table.get("rope_theta"))),
                10_000.0,
            ),
            rms_eps: number(config.get("rms_norm_eps"), 1e-6),
            tied: config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            max_positions: positive("max_position_embeddings")?,
        })
    }

    /// The `config.json` of this shape, with both dialects' keys, so that old and new transformers read it.
    pub fn to_config_json(&self, eos: u32, pad: u32, dtype: &str) -> Value {
        json!({
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
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
            "use_sliding_window": false,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "bos_token_id": eos,
            "eos_token_id": eos,
            "pad_token_id": pad,
            "torch_dtype": dtype,
            "dtype": dtype,
            "use_cache": true,
        })
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
            add("self_attn.q_proj.weight", &[queries, hidden]);
            add("self_attn.q_proj.bias", &[queries]);
            add("self_attn.k_proj.weight", &[keys, hidden]);
            add("self_attn.k_proj.bias", &[keys]);
            add("self_attn.v_proj.weight", &[keys, hidden]);
            add("self_attn.v_proj.bias", &[keys]);
            add("self_attn.o_proj.weight", &[hidden, queries]);
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

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN_HALF_B: &str = r#"{"architectures":["Qwen2ForCausalLM"],"hidden_act":"silu","hidden_size":896,
        "intermediate_size":4864,"max_position_embeddings":32768,"model_type":"qwen2","num_attention_heads":14,
        "num_hidden_layers":24,"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,
        "tie_word_embeddings":true,"torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":151936}"#;

    #[test]
    fn the_half_billion_shape_has_the_studys_counts() {
        let shape = Architecture::from_config_json(QWEN_HALF_B.as_bytes(), "config.json").unwrap();
        let parameters = shape.parameters();
        assert_eq!(parameters.len(), 290);
        assert_eq!(parameters.iter().map(Parameter::elements).sum::<usize>(), 494_032_768);
        // Sum of the per-tensor floors at 99 %, as the study's file names state it.
        let kept = |p: &Parameter| {
            crate::sparsity::kept_count(p.elements(), 0.99, crate::sparsity::Rounding::Floor).unwrap()
        };
        assert_eq!(parameters.iter().map(kept).sum::<usize>(), 4_940_162);
        assert_eq!(parameters[1].name, "model.layers.0.self_attn.q_proj.weight");
    }

    #[test]
    fn both_dialects_say_the_same() {
        let old = Architecture::from_config_json(QWEN_HALF_B.as_bytes(), "config.json").unwrap();
        let new = QWEN_HALF_B
            .replace(
                r#""rope_theta":1000000.0"#,
                r#""rope_parameters":{"rope_type":"default","rope_theta":1000000.0}"#,
            )
            .replace("torch_dtype", "dtype");
        assert_eq!(Architecture::from_config_json(new.as_bytes(), "config.json").unwrap(), old);
        let written = old.to_config_json(1, 0, "float32").to_string();
        assert_eq!(Architecture::from_config_json(written.as_bytes(), "config.json").unwrap(), old);
    }

    #[test]
    fn impossible_configs_are_refused_with_the_key() {
        let message = |text: String| {
            Architecture::from_config_json(text.as_bytes(), "m/config.json").unwrap_err().to_string()
        };
        assert!(message("{".into()).contains("m/config.json"));
        assert!(message(QWEN_HALF_B.replace("qwen2", "gpt2")).contains("gpt2"));
        assert!(
            message(QWEN_HALF_B.replace(r#""hidden_size":896"#, r#""hidden_size":-1"#))
                .contains("hidden_size")
        );
        assert!(message(QWEN_HALF_B.replace(r#""num_hidden_layers":24,"#, "")).contains("num_hidden_layers"));
        assert!(message(QWEN_HALF_B.replace(":14", ":15")).contains("15 heads"));
        assert!(message(QWEN_HALF_B.replace("silu", "gelu")).contains("gelu"));
    }
}
