//! `tickets masks build`: what it makes of flags, and what it refuses.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tickets::data::Architecture;
use tickets::data::safetensors::{RawTensor, to_bytes};
use tickets::masks;
use tickets::sparsity::TensorSize;

use crate::common::Bench;

/// A model of some hundred entries: its shape alone.
fn model(bench: &Bench) -> Vec<TensorSize> {
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 12, "hidden_size": 8,
        "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": true, "max_position_embeddings": 128,
    })
    .to_string();
    bench.write("model/config.json", &config);
    Architecture::from_config_json(config.as_bytes(), "config.json").expect("a shape").sizes()
}

/// A file of scores: `score(tensor, entry)`.
fn scores(
    bench: &Bench,
    name: &str,
    sizes: &[TensorSize],
    recipe: &str,
    score: impl Fn(usize, usize) -> f32,
) {
    let tensor = |(i, size): (usize, &TensorSize)| RawTensor {
        name: size.name.clone(),
        dtype: "F32",
        shape: size.shape.clone(),
        bytes: (0..size.elements()).flat_map(|entry| score(i, entry).to_le_bytes()).collect(),
    };
    let tensors: Vec<RawTensor> = sizes.iter().enumerate().map(tensor).collect();
    let metadata = BTreeMap::from([("recipe".to_owned(), recipe.to_owned())]);
    std::fs::write(bench.path(name), to_bytes(&tensors, &metadata)).expect("written");
}

const HEAD: [&str; 6] = ["masks", "build", "--model", "model", "--out", "m"];

#[test]
fn scores_from_a_file_decide_and_are_cited() {
    let bench = Bench::new();
    let sizes = model(&bench);
    let recipe = json!({ "estimator": "sample", "episodes": 7, "measure": "square" });
    scores(&bench, "s", &sizes, &recipe.to_string(), |tensor, entry| (tensor + entry) as f32);
    let tail =
        ["--type", "fisher", "--scores", "s", "--sparsity", "0.75", "--scope", "per_tensor", "--keep", "low"];
    bench.run(&[HEAD.as_slice(), &tail].concat()).ends(0).names(&["m: "]);
    let file = masks::read(&bench.path("m"), None).expect("a mask");
    // The lowest quarter of each tensor, rounded down: its first entries.
    for (size, indices) in sizes.iter().zip(file.mask.indices()) {
        assert_eq!(*indices, (0..size.elements() as u32 / 4).collect::<Vec<_>>(), "{}", size.name);
    }
    let told = file.recipe.expect("a recipe");
    for (key, value) in [
        ("type", json!("fisher")),
        ("scope", json!("per_tensor")),
        ("keep", json!("low")),
        ("rounding", json!("floor")),
        ("ties", json!("score ascending, tensor order, flat index ascending")),
        ("active", json!(file.mask.active())),
    ] {
        assert_eq!(told[key], value, "{told}");
    }
    assert_eq!(told["scores"]["recipe"], recipe);
    assert_eq!(told["scores"]["digest"].as_str().map(str::len), Some(64));
}

#[test]
fn scores_that_are_none_are_refused_by_file_tensor_and_entry() {
    let bench = Bench::new();
    let sizes = model(&bench);
    let build = |kind: &str, file: &str| {
        let tail = ["--type", kind, "--scores", file, "--sparsity", "0.5"];
        let said = bench.run(&[HEAD.as_slice(), &tail].concat());
        assert!(!bench.path("m").exists());
        said.ends(7)
    };
    for (value, said) in
        [(f32::NAN, "is not a finite number (NaN)"), (f32::INFINITY, "(inf)"), (-1.5, "is negative (-1.5)")]
    {
        scores(
            &bench,
            "bad",
            &sizes,
            "none",
            |tensor, entry| if (tensor, entry) == (1, 3) { value } else { 1.0 },
        );
        let place = format!("read the scores bad, tensor {}: entry 3", sizes[1].name);
        build("gradient", "bad").names(&[&place, said, "hint: scores are one finite float per entry"]);
    }
    scores(&bench, "squares", &sizes, &json!({ "measure": "square" }).to_string(), |_, _| 1.0);
    build("snip", "squares")
        .names(&["they are of the measure square", "--type snip ranks by gradients of the measure absolute"]);
    scores(&bench, "short", &sizes[1..], "none", |_, _| 1.0);
    build("fisher", "short").names(&["tensor model.embed_tokens.weight: it is not there"]);
    build("fisher", "missing").names(&["missing"]);
}

#[test]
fn flags_without_a_use_are_refused() {
    let bench = Bench::new();
    model(&bench);
    for (arguments, said) in [
        (vec!["random"], "--type random needs --sparsity SHARE"),
        (vec!["random", "--sparsity", "1.5"], "--sparsity 1.5: it must lie between 0 and 1"),
        (vec!["random", "--sparsity", "0.5", "--keep", "low"], "--keep has no use for --type random"),
        (vec!["random", "--sparsity", "0.5", "--group", "4"], "--group has no use without --scope per_group"),
        (vec!["random", "--sparsity", "0.5", "--control-seed", "4"], "--control-seed has no use without"),
        (vec!["random", "--sparsity", "0.5", "--modules", "heads"], "`heads` is none of attention, mlp"),
        (vec!["random", "--sparsity", "0.5", "--scores", "s"], "--scores has no use for --type random"),
        (vec!["random", "--sparsity", "0.5", "--dtype", "bfloat16"], "--dtype has no use for --type random"),
        (vec!["fisher", "--sparsity", "0.5"], "--type fisher needs --scores FILE"),
        (vec!["moved", "--sparsity", "0.5"], "--type moved needs --moved DIR"),
        (vec!["modules"], "--type modules needs --modules KINDS"),
        (vec!["file"], "--type file needs --file FILE"),
    ] {
        let said_all = bench.run(&[HEAD.as_slice(), &["--type"], &arguments].concat()).ends(2);
        said_all.names(&[said]);
    }
    // What is possible by itself, and not with this model.
    for (arguments, said) in [
        (
            vec!["random", "--sparsity", "0.999"],
            "not one would be trained: a sparsity of 0.999 keeps no entry of any tensor",
        ),
        (vec!["layers", "--count", "3"], "choose 3 layers: the model has 2"),
        (vec!["random", "--sparsity", "0.6", "--scope", "per_group"], "leaves no whole number of them"),
        (
            vec!["random", "--sparsity", "0.5", "--rng", "numpy", "--unit", "row"],
            "NumPy's generator draws single entries",
        ),
        (vec!["modules", "--modules", "mlp", "--control", "complement"], "whole modules have no control"),
        (vec!["magnitude", "--sparsity", "0.5"], "model"),
    ] {
        bench.run(&[HEAD.as_slice(), &["--type"], &arguments].concat()).ends(7).names(&[said]);
    }
    assert!(!bench.path("m").exists());
}

#[test]
fn groups_that_are_longer_than_rows_take_no_more_than_they_keep() {
    // Groups of 65,536 in rows of 896: every row is one shorter group.
    let bench = Bench::new();
    let head = [
        "masks",
        "build",
        "--model",
        "qwen2.5-0.5b",
        "--type",
        "random",
        "--scope",
        "per_group",
        "--group",
        "65536",
    ];
    let tail = ["--sparsity", "0.75", "--modules", "attention", "--out", "m", "--json"];
    let said: Value = bench.run(&[head.as_slice(), &tail].concat()).ends(0).json();
    assert_eq!(said["active"].as_u64(), Some(44_040_192 / 4));
}
