//! `masks describe`: counts by layer, by kind of module and by tensor, and the recipe.

use serde_json::json;

use crate::common::Bench;
use crate::support::{booleans, digest, foreign, mask, model, pair, put, sizes};

#[test]
fn counts_are_told_by_layer_and_module_and_tensor() {
    let bench = Bench::new();
    pair(&bench);
    let said = bench.run(&["masks", "describe", "a.safetensors", "b.safetensors", "--tensors", "--json"]);
    let said = said.ends(0).json();
    let masks = said["masks"].as_array().expect("a list");
    assert_eq!(masks.len(), 2);
    let a = &masks[0];
    let keys: Vec<&str> = a.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "file",
        "digest",
        "form",
        "active",
        "total",
        "density",
        "tensors",
        "recipe",
        "notes",
        "modules",
        "layers",
        "by_tensor",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        (&a["file"], &a["form"], &a["tensors"]),
        (&json!("a.safetensors"), &json!("indices"), &json!(6))
    );
    assert_eq!((&a["active"], &a["total"], &a["density"]), (&json!(7), &json!(26), &json!(7.0 / 26.0)));
    assert_eq!(a["digest"], digest(&bench.path("a.safetensors")));
    assert_eq!((&a["recipe"]["seed"], &a["notes"]), (&json!(1), &json!([])));
    let count = |key: &str, name: serde_json::Value, tensors: u32, elements: u32, active: u32| {
        let density = f64::from(active) / f64::from(elements);
        json!({ key: name, "tensors": tensors, "elements": elements, "active": active, "density": density })
    };
    // Attention 2x2, MLP 3x2, one norm of 2, one bias of 2, embedding 4x2 and head 2x2.
    let modules = [
        ("attention", 1, 4, 1),
        ("mlp", 1, 6, 2),
        ("norms", 1, 2, 1),
        ("biases", 1, 2, 0),
        ("embeddings", 2, 12, 3),
    ]
    .map(|(name, tensors, elements, active)| count("module", name.into(), tensors, elements, active));
    assert_eq!(a["modules"], json!(modules));
    // Layer 0 has the projection and its bias; outside are the norm and the head.
    let layers = [
        (json!("embedding"), 1, 8, 3),
        (json!(0), 2, 6, 1),
        (json!(1), 1, 6, 2),
        (json!("outside"), 2, 6, 1),
    ]
    .map(|(layer, tensors, elements, active)| count("layer", layer, tensors, elements, active));
    assert_eq!(a["layers"], json!(layers));
    let up = json!({ "name": "model.layers.1.mlp.up_proj.weight", "shape": [3, 2], "active": 2, "density": 2.0 / 6.0 });
    assert_eq!(a["by_tensor"][3], up);
    assert_eq!(masks[1]["active"], 6);
    let plain = bench.run(&["masks", "describe", "a.safetensors", "--json"]).ends(0).json();
    assert!(plain["masks"][0].get("by_tensor").is_none());
}

#[test]
fn a_reader_gets_tables_and_the_recipe() {
    let bench = Bench::new();
    pair(&bench);
    bench.run(&["masks", "union", "a.safetensors", "b.safetensors", "--out", "u.safetensors"]).ends(0);
    let said = bench.run(&["masks", "describe", "a.safetensors", "u.safetensors"]).ends(0);
    let said = said.names(&[
        "entries 7 of 26 (26.9231 %) in 6 tensors, as indices",
        "recipe random, seed 1",
        "│ mlp ┆ 1 ┆ 6 ┆ 2 ┆ 33.3333 % ┆ 28.5714 % │",
        "│ embedding ┆ 1 ┆ 8 ┆ 3 ┆ 37.5000 % ┆ 42.8571 % │",
        "│ outside ┆ 2 ┆ 6 ┆ 1 ┆ 16.6667 % ┆ 14.2857 % │",
        "entries 10 of 26 (38.4615 %)",
        "recipe union of a.safetensors: random, seed 1 of b.safetensors: fisher, scores ab12",
    ]);
    assert!(!said.out.contains("up_proj"), "{}", said.out);
    bench
        .run(&["masks", "describe", "a.safetensors", "--tensors"])
        .ends(0)
        .names(&["│ model.layers.1.mlp.up_proj.weight ┆ 1 ┆ 6 ┆ 2 ┆ 33.3333 % ┆ 28.5714 % │"]);
}

#[test]
fn an_empty_mask_and_one_without_a_recipe_can_be_looked_at() {
    let bench = Bench::new();
    put(&bench, "none.safetensors", &mask([&[]; 6]), &json!(null));
    bench.run(&["masks", "describe", "none.safetensors"]).ends(0).names(&[
        "entries 0 of 26 (0.0000 %)",
        "recipe no recipe",
        "│ mlp ┆ 1 ┆ 6 ┆ 0 ┆ 0.0000 % ┆ 0.0000 % │",
    ]);
    let tensors: Vec<_> = sizes().iter().rev().map(|size| booleans(size, &[0])).collect();
    foreign(&bench, "bools.safetensors", &tensors, &[("recipe", "by hand")]);
    bench.run(&["masks", "describe", "bools.safetensors"]).ends(0).names(&[
        "recipe by hand",
        "as booleans",
        "note the tensors are put in the order of the model that their names tell",
        "note lm_head.weight is taken as a parameter of its own; --model says whether it is one",
    ]);
}

#[test]
fn the_model_is_a_directory_its_config_or_a_known_shape() {
    let bench = Bench::new();
    let file = format!("{}/tests/oracles/masks/int32.safetensors", env!("CARGO_MANIFEST_DIR"));
    let config = format!("{}/config.json", model());
    for model in [model(), config] {
        let said = bench.run(&["masks", "describe", &file, "--model", &model, "--json"]).ends(0).json();
        assert_eq!(
            (&said["masks"][0]["form"], &said["masks"][0]["tensors"]),
            (&json!("indices"), &json!(26))
        );
    }
    // It is not a mask of that model, and is told so with a tensor.
    bench.run(&["masks", "describe", &file, "--model", "qwen2.5-0.5b"]).ends(7).names(&[
        "int32.safetensors: it has no tensor model.layers.2.self_attn.q_proj.weight, which is in the model",
    ]);
    bench.run(&["masks", "describe", &file]).ends(7).names(&["does not say of which shapes", "--model"]);
    bench.run(&["masks", "describe", &file, "--model", "Qwen/Qwen2.5-0.5B"]).ends(7).names(&[
        "Qwen/Qwen2.5-0.5B",
        "--model takes a config.json, a directory that has one, or one of qwen2.5-0.5b",
    ]);
}
