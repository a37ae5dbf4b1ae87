//! `masks union`, `intersect` and `complement`.

use serde_json::json;

use crate::common::Bench;
use crate::support::{digest, mask, names, opened, pair, put, size};

#[test]
fn masks_are_united_and_intersected_with_a_recipe_of_what() {
    let bench = Bench::new();
    let [a, b] = pair(&bench);
    let said = bench
        .run(&["masks", "union", "a.safetensors", "b.safetensors", "--out", "new/u.safetensors", "--json"])
        .ends(0)
        .json();
    let expected = json!({ "out": "new/u.safetensors", "form": "indices", "active": 10, "total": 26,
                           "density": 10.0 / 26.0, "notes": [] });
    assert_eq!(said, expected);
    let union = opened(&bench, "new/u.safetensors");
    assert_eq!(union.mask, mask([&[0, 3, 7], &[1, 2], &[0], &[2, 4], &[1], &[3]]));
    let part = |name: &str, recipe: serde_json::Value| json!({ "file": name, "digest": digest(&bench.path(name)), "recipe": recipe });
    let of = [
        part("a.safetensors", json!({ "type": "random", "seed": 1, "active": 7, "total": 26 })),
        part("b.safetensors", json!({ "type": "fisher", "scores": "ab12", "active": 6, "total": 26 })),
    ];
    assert_eq!(union.recipe, Some(json!({ "type": "union", "of": of, "active": 10, "total": 26 })));

    let intersect = ["masks", "intersect", "a.safetensors", "b.safetensors", "--out", "i.safetensors"];
    bench.run(&intersect).ends(0).names(&["i.safetensors: 3 of 26 entries (11.5385 %)"]);
    let both = opened(&bench, "i.safetensors");
    assert_eq!(both.mask, mask([&[3], &[1], &[], &[4], &[], &[]]));
    assert_eq!(both.recipe, Some(json!({ "type": "intersection", "of": of, "active": 3, "total": 26 })));
    // What is there stays, and is not even compared.
    bench.run(&intersect).ends(7).names(&["i.safetensors exists", "--out"]);
    assert_eq!(opened(&bench, "i.safetensors").mask, both.mask);
    assert_eq!(a.union(&b).expect("one model"), union.mask);
}

#[test]
fn any_number_of_masks_is_combined() {
    let bench = Bench::new();
    for (name, list) in [("1", [0, 1, 2]), ("2", [1, 2, 3]), ("3", [2, 3, 4])] {
        put(&bench, name, &mask([&list, &[], &[], &[], &[], &[]]), &json!({}));
    }
    bench.run(&["masks", "union", "1", "2", "3", "--out", "u"]).ends(0);
    bench.run(&["masks", "intersect", "1", "2", "3", "--out", "i"]).ends(0);
    assert_eq!(opened(&bench, "u").mask.indices()[0], [0, 1, 2, 3, 4]);
    assert_eq!(opened(&bench, "i").mask.indices()[0], [2]);
    bench.run(&["masks", "union", "1", "--out", "x"]).ends(2).names(&["2 values required"]);
}

#[test]
fn a_complement_is_the_rest_and_its_complement_the_mask() {
    let bench = Bench::new();
    let [a, _] = pair(&bench);
    bench.run(&["masks", "complement", "a.safetensors", "--out", "c"]).ends(0).names(&["19 of 26 entries"]);
    let rest = opened(&bench, "c");
    assert_eq!(rest.mask, mask([&[1, 2, 4, 5, 6], &[0, 2, 3], &[0, 1], &[0, 1, 3, 5], &[0], &[0, 1, 2, 3]]));
    let recipe = rest.recipe.expect("a recipe");
    assert_eq!((&recipe["type"], &recipe["of"][0]["file"]), (&json!("complement"), &json!("a.safetensors")));
    bench.run(&["masks", "complement", "c", "--out", "again"]).ends(0);
    assert_eq!(opened(&bench, "again").mask, a);
}

#[test]
fn a_mask_that_trains_nothing_is_not_written() {
    let bench = Bench::new();
    put(&bench, "left", &mask([&[0], &[], &[], &[], &[], &[]]), &json!({}));
    put(&bench, "right", &mask([&[1], &[], &[], &[], &[], &[]]), &json!({}));
    put(&bench, "none", &mask([&[]; 6]), &json!({}));
    bench
        .run(&["masks", "complement", "none", "--out", "all"])
        .ends(0)
        .names(&["26 of 26 entries (100.0000 %)"]);
    let nothing = ["it has no entry, nothing would be trained"];
    let said = |arguments: &[&str]| {
        bench.run(&[&["masks"], arguments, &["--out", "new"]].concat()).ends(7).names(&nothing)
    };
    said(&["intersect", "left", "right"]).names(&["no entry is in all of the masks"]);
    said(&["union", "none", "none"]).names(&["every one of the masks is empty"]);
    said(&["complement", "all"]).names(&["the mask has every entry"]);
    said(&["export", "none"]).names(&["false everywhere"]);
    assert_eq!(names(&bench), ["all", "left", "none", "right"]);
}

#[test]
fn masks_of_other_models_are_named_with_the_first_difference() {
    let bench = Bench::new();
    pair(&bench);
    let mut sizes = crate::support::sizes();
    sizes[3] = size("model.layers.1.mlp.up_proj.weight", &[2, 3]);
    let other = tickets::sparsity::Mask::new(sizes, vec![vec![0]; 6]).expect("a mask");
    put(&bench, "other", &other, &json!({}));
    for command in ["union", "intersect"] {
        let said = bench.run(&["masks", command, "a.safetensors", "b.safetensors", "other", "--out", "new"]);
        said.ends(7).names(&[
            "combine a.safetensors (first) and other (second)",
            "model.layers.1.mlp.up_proj.weight has the shape [3, 2] in the first and [2, 3] in the second",
            "of one model",
        ]);
    }
    assert_eq!(names(&bench), ["a.safetensors", "b.safetensors", "other"]);
}
