//! `tickets bench` through the real program: one line of JSON with everything that is promised, on a model of random weights.
#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files on purpose")]

mod common;

use common::Bench;
use serde_json::Value;

const CONFIG: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 500, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": true,
    "max_position_embeddings": 512, "hidden_act": "silu"}"#;

/// A bench with a folder `model`.
fn with_model() -> Bench {
    let bench = Bench::new();
    bench.write("config.json", CONFIG);
    let arguments = ["model", "random", "--no-tokenizer", "--dtype", "float32", "--config", "config.json"];
    let _ = bench.run(&[&arguments[..], &["--out", "model"]].concat()).ends(0);
    bench
}

fn timed(bench: &Bench, part: &str, more: &[&str]) -> Value {
    let fixed = ["--prompts", "4", "--group", "2", "--new-tokens", "5", "--threads", "1", "--steps", "2"];
    let arguments = [&["bench", part, "--model", "model", "--json"], &fixed[..], more].concat();
    let said = bench.run(&arguments).ends(0);
    assert_eq!(said.out.trim().lines().count(), 1, "{}", said.out);
    said.json()
}

fn positive(value: &Value, path: &[&str]) {
    let found = path.iter().fold(value, |value, key| &value[*key]);
    assert!(found.as_f64().is_some_and(|number| number > 0.0), "{path:?}: {found}");
}

#[test]
fn a_step_is_told_by_phases_and_beside_the_machines_ceilings() {
    let bench = with_model();
    for (more, share) in [(&[][..], Value::Null), (&["--mask", "random"][..], 0.99.into())] {
        let step = timed(&bench, "step", more);
        for key in [
            "seconds_per_step",
            "rollout_tokens_per_second",
            "prefill_tokens_per_second",
            "decode_tokens_per_second",
            "train_tokens_per_second",
        ] {
            positive(&step, &[key]);
        }
        for path in [
            ["ceilings", "matmul_flops_per_second"],
            ["ceilings", "bandwidth_bytes_per_second"],
            ["share_of_matmul", "train"],
            ["share_of_matmul", "decode"],
            ["share_of_bandwidth", "decode"],
        ] {
            positive(&step, &path);
        }
        for phase in ["rollout", "train"] {
            positive(&step, &["memory", phase, "tensor_peak_bytes"]);
            positive(&step, &["memory", phase, "resident_peak_bytes"]);
        }
        assert_eq!(step["sparsity"], share);
        // 4 prompts x 2 rollouts x 5 tokens.
        let rate =
            step["rollout_tokens_per_second"].as_f64().unwrap() * step["seconds_per_step"].as_f64().unwrap();
        assert!((rate - 40.0).abs() < 1e-6, "{rate}");
    }
}

#[test]
fn parts_are_timed_alone_and_settings_are_taken() {
    let bench = with_model();
    let rollout = timed(&bench, "rollout", &["--turns", "2"]);
    assert_eq!((&rollout["train_tokens_per_second"], &rollout["turns"]), (&Value::Null, &2.into()));
    positive(&rollout, &["rollout_tokens_per_second"]);
    // What was not timed has no number.
    assert_eq!(
        (&rollout["train_seconds"], &rollout["memory"]["train"]["tensor_peak_bytes"]),
        (&Value::Null, &Value::Null)
    );
    let train = timed(&bench, "train", &["--updates", "2", "--micro-batch", "3", "--dtype", "bfloat16"]);
    positive(&train, &["train_tokens_per_second"]);
    assert_eq!(train["dtype"], "bfloat16");
    let masks = timed(&bench, "masks", &["--sparsity", "0.5"]);
    positive(&masks, &["seconds_per_mask"]);
    let (all, active) = (masks["parameters"].as_f64().unwrap(), masks["active"].as_f64().unwrap());
    assert!((active / all - 0.5).abs() < 0.01);
    let said = bench.run(&["bench", "step", "--model", "nowhere"]).ends(7);
    assert!(said.err.contains("nowhere"), "{}", said.err);
    let said = bench.run(&["bench", "step", "--model", "nowhere", "--sparsity", "1.5"]).ends(2);
    assert!(said.err.contains("--sparsity 1.5"), "{}", said.err);
}

#[test]
fn a_profile_names_libtorchs_operators() {
    let bench = with_model();
    let fixed = ["--prompts", "2", "--group", "2", "--new-tokens", "3", "--threads", "1", "--steps", "1"];
    let said = bench.run(&[&["bench", "step", "--model", "model", "--profile"], &fixed[..]].concat()).ends(0);
    assert!(said.err.contains("aten::mm") && said.err.contains("operator"), "{}", said.err);
    assert!(said.out.contains("seconds_per_step"), "{}", said.out);
}
