//! `config.json` of every family: what is read, what is refused, and with which words.

use super::*;
use crate::data::Parameter;

const QWEN_HALF_B: &str = r#"{"architectures":["Qwen2ForCausalLM"],"hidden_act":"silu","hidden_size":896,
    "intermediate_size":4864,"max_position_embeddings":32768,"model_type":"qwen2","num_attention_heads":14,
    "num_hidden_layers":24,"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,
    "tie_word_embeddings":true,"torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":151936}"#;
const QWEN3: &str = r#"{"architectures":["Qwen3ForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
    "head_dim":128,"hidden_act":"silu","hidden_size":1024,"intermediate_size":3072,"layer_types":null,
    "max_position_embeddings":40960,"max_window_layers":28,"model_type":"qwen3","num_attention_heads":16,
    "num_hidden_layers":28,"num_key_value_heads":8,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":1000000,
    "sliding_window":null,"tie_word_embeddings":true,"use_sliding_window":false,"vocab_size":151936}"#;
const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"attention_bias":false,"hidden_act":"silu",
    "bos_token_id":128000,"hidden_size":2048,"intermediate_size":8192,"max_position_embeddings":131072,
    "mlp_bias":false,"model_type":"llama","num_attention_heads":32,"num_hidden_layers":16,
    "num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":{"factor":32.0,
    "high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"},
    "rope_theta":500000.0,"tie_word_embeddings":true,"vocab_size":128256}"#;

fn read(text: &str) -> Architecture {
    Architecture::from_config_json(text.as_bytes(), "config.json").unwrap()
}

fn refusal(text: &str) -> String {
    Architecture::from_config_json(text.as_bytes(), "m/config.json").unwrap_err().to_string()
}

fn elements(shape: &Architecture) -> usize {
    shape.parameters().iter().map(Parameter::elements).sum()
}

#[test]
fn the_half_billion_shape_has_the_studys_counts() {
    let parameters = read(QWEN_HALF_B).parameters();
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
fn published_configs_of_the_other_families_are_read() {
    let (qwen, llama) = (read(QWEN3), read(LLAMA));
    // As their model cards state them.
    assert_eq!(elements(&qwen), 596_049_920);
    assert_eq!(elements(&llama), 1_235_814_400);
    assert_eq!((qwen.head_dim, qwen.attention_bias, qwen.rope_scaling), (128, false, None));
    assert_eq!((llama.head_dim, llama.rope_theta, llama.rms_eps), (64, 5e5, 1e-5));
    let scaling = llama.rope_scaling.unwrap();
    assert_eq!((scaling.factor, scaling.original_positions), (32.0, 8192));
}

#[test]
fn both_dialects_say_the_same() {
    let old = read(QWEN_HALF_B);
    let new = QWEN_HALF_B
        .replace(
            r#""rope_theta":1000000.0"#,
            r#""rope_parameters":{"rope_type":"default","rope_theta":1000000.0}"#,
        )
        .replace("torch_dtype", "dtype");
    assert_eq!(read(&new), old);
    let new = LLAMA
        .replace("rope_scaling", "rope_parameters")
        .replace(r#""rope_type":"llama3"},"#, r#""rope_type":"llama3","rope_theta":500000.0},"#);
    assert_eq!(read(&new.replace(r#""rope_theta":500000.0,"tie"#, r#""tie"#)), read(LLAMA));
    assert_eq!(read(&LLAMA.replace("rope_type", "type")), read(LLAMA));
}

#[test]
fn what_is_written_is_read_again() {
    for text in [QWEN_HALF_B, QWEN3, LLAMA] {
        for (tied, attention_bias) in [(true, false), (false, true)] {
            let mut shape = read(text);
            shape.tied = tied;
            shape.attention_bias |= attention_bias;
            let written = shape.to_config_json(1, 0, "float32").to_string();
            assert_eq!(read(&written), shape);
        }
    }
}

#[test]
fn defaults_are_those_of_transformers() {
    let without = |text: &str, part: &str| {
        assert!(text.contains(part), "{part}");
        read(&text.replace(part, ""))
    };
    assert!(!without(LLAMA, r#""tie_word_embeddings":true,"#).tied);
    assert_eq!(without(LLAMA, r#""num_key_value_heads":8,"#).kv_heads, 32);
    assert_eq!(without(LLAMA, r#""rms_norm_eps":1e-05,"#).rms_eps, 1e-6);
    assert_eq!(without(LLAMA, r#""rope_theta":500000.0,"#).rope_theta, 10_000.0);
    assert_eq!(
        without(LLAMA, r#""original_max_position_embeddings":8192,"#)
            .rope_scaling
            .unwrap()
            .original_positions,
        131_072
    );
    assert_eq!(without(QWEN3, r#""head_dim":128,"#).head_dim, 128);
    assert_eq!(
        read(&QWEN_HALF_B.replace(r#""num_key_value_heads":2"#, r#""num_key_value_heads":null"#)).kv_heads,
        14
    );
    assert!(refusal(&QWEN3.replace(r#""num_key_value_heads":8,"#, "")).contains("32 key-value heads"));
    assert!(
        refusal(&QWEN3.replace(r#""head_dim":128"#, r#""head_dim":null"#)).contains("`head_dim` is null")
    );
}

#[test]
fn other_architectures_are_refused_by_both_names() {
    let message = refusal(&QWEN_HALF_B.replace("qwen2", "gpt2").replace("Qwen2For", "GPT2LMHead"));
    for part in ["m/config.json", "gpt2", "GPT2LMHead", "qwen2", "qwen3", "llama"] {
        assert!(message.contains(part), "{message}");
    }
    let message = refusal(&QWEN3.replace("Qwen3ForCausalLM", "Qwen3ForSequenceClassification"));
    assert!(message.contains("Qwen3ForSequenceClassification"), "{message}");
    assert!(refusal(r#"{"hidden_size":4}"#).contains("`model_type` is missing"));
    assert!(refusal("[]").contains("not a JSON object"));
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let cases = [
        (r#""use_sliding_window":true"#, "use_sliding_window"),
        (r#""layer_types":["sliding_attention"]"#, "sliding_attention"),
        (r#""layer_types":["full_attention"]"#, "1 entries for 28 layers"),
        (r#""mlp_bias":true"#, "mlp_bias"),
        (r#""hidden_act":"gelu""#, "gelu"),
        (r#""hidden_act":null"#, "hidden_act"),
        (r#""attention_dropout":0.1"#, "attention_dropout"),
        (r#""partial_rotary_factor":0.5"#, "partial_rotary_factor"),
        (r#""quantization_config":{"quant_method":"fp8"}"#, "quantization_config"),
        (r#""num_experts":8"#, "num_experts"),
        (r#""rope_scaling":{"rope_type":"yarn","factor":4.0}"#, "yarn"),
        (r#""rope_scaling":{"type":"linear","factor":4.0}"#, "linear"),
        (r#""rope_parameters":{"rope_type":"dynamic","factor":4.0}"#, "dynamic"),
        (r#""rope_parameters":{"full_attention":{"rope_theta":1e4}}"#, "rope_parameters.full_attention"),
        (r#""rope_parameters":{"partial_rotary_factor":0.25}"#, "partial_rotary_factor"),
    ];
    for (setting, named) in cases {
        // A later key of the same name replaces the first.
        let message = refusal(&QWEN3.replace("\"vocab_size\"", &format!("{setting},\"vocab_size\"")));
        assert!(message.contains("m/config.json") && message.contains(named), "{setting}: {message}");
    }
}

#[test]
fn impossible_values_are_refused_with_the_key() {
    let cases = [
        (r#""hidden_size":-1"#, "hidden_size"),
        (r#""hidden_size":1000000000"#, "hidden_size"),
        (r#""vocab_size":"many""#, "vocab_size"),
        (r#""num_hidden_layers":5000"#, "num_hidden_layers"),
        (r#""num_attention_heads":15"#, "15 heads"),
        (r#""head_dim":63"#, "63"),
        (r#""rms_norm_eps":0.0"#, "rms_norm_eps"),
        (r#""rms_norm_eps":-1e-6"#, "rms_norm_eps"),
        (r#""rms_norm_eps":"1e-6""#, "rms_norm_eps"),
        (r#""rope_theta":0"#, "rope_theta"),
        (r#""rope_theta":"10000""#, "rope_theta"),
        (r#""rope_theta":null"#, "rope_theta"),
        (r#""tie_word_embeddings":"yes""#, "tie_word_embeddings"),
        (r#""attention_bias":1"#, "attention_bias"),
        (r#""rope_parameters":{"rope_theta":10000.0}"#, "rope_parameters.rope_theta"),
        (r#""rope_parameters":{"rope_type":"default"}"#, "different rotary scalings"),
        (r#""rope_parameters":7"#, "not an object"),
    ];
    for (setting, named) in cases {
        let message =
            refusal(&LLAMA.replace("\"vocab_size\":128256", &format!("\"vocab_size\":128256,{setting}")));
        assert!(message.contains("m/config.json") && message.contains(named), "{setting}: {message}");
    }
    for (from, to, named) in [
        (r#""factor":32.0"#, r#""factor":0.5"#, "factor"),
        (r#""factor":32.0,"#, "", "`factor` is missing"),
        (r#""low_freq_factor":1.0"#, r#""low_freq_factor":4.0"#, "low_freq_factor"),
        (r#"embeddings":8192"#, r#"embeddings":0"#, "original_max_position_embeddings"),
        (r#""num_hidden_layers":16,"#, "", "num_hidden_layers"),
    ] {
        let message = refusal(&LLAMA.replace(from, to));
        assert!(message.contains(named), "{to}: {message}");
    }
    assert!(refusal("{").contains("m/config.json"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    /// Whatever a key is set to, the config is read or refused by name, and what is read can be laid out.
    #[test]
    fn odd_values_never_panic(
        text in 0usize..3, key in 0usize..30, odd in 0usize..14, second in 0usize..30, other in 0usize..14,
    ) {
        let odds = [
            "null", "true", "[]", "{}", "\"\"", "-1", "0", "1", "3", "0.5", "1e400", "-0.0",
            "18446744073709551615", "16777216",
        ];
        let mut config: Map<String, Value> = serde_json::from_str([QWEN_HALF_B, QWEN3, LLAMA][text]).unwrap();
        for (key, odd) in [(key, odd), (second, other)] {
            let name = config.keys().nth(key % config.len()).unwrap().clone();
            // 1e400 is no number of JSON.
            config.insert(name, serde_json::from_str(odds[odd]).unwrap_or(Value::Null));
        }
        let text = Value::Object(config).to_string();
        match Architecture::from_config_json(text.as_bytes(), "m/config.json") {
            Ok(shape) => proptest::prop_assert!(elements(&shape) > 0),
            Err(error) => proptest::prop_assert!(error.to_string().contains("m/config.json")),
        }
    }
}
