//! `masks jaccard`: the matrix, chance, parts of the model, names, and what cannot be compared.

use serde_json::{Value, json};

use crate::common::Bench;
use crate::support::{booleans, foreign, indices, mask, model, pair, put, size, sizes};
use tickets::sparsity::Mask;

fn close(value: &Value, expected: f64) {
    let got = value.as_f64().unwrap_or_else(|| panic!("{value} instead of {expected}"));
    assert!((got - expected).abs() < 1e-12, "{got} instead of {expected}");
}

#[test]
fn two_masks_are_compared_in_full() {
    let bench = Bench::new();
    pair(&bench);
    let said = bench.run(&["masks", "jaccard", "a.safetensors", "b.safetensors", "--json"]).ends(0).json();
    assert_eq!(
        (&said["names"], &said["counts"], &said["total"]),
        (&json!(["a", "b"]), &json!([7, 6]), &json!(26))
    );
    // a: embedding 0 3 7, q 1, up 2 4, norm 1; b: embedding 3, q 1 2, bias 0, up 4, head 3. Common: 3, 1, 4.
    assert_eq!(said["intersection"], json!([[7, 3], [3, 6]]));
    assert_eq!(said["union"], json!([[7, 10], [10, 6]]));
    assert_eq!(said["matrix"], json!([[1.0, 0.3], [0.3, 1.0]]));
    // Mean 7·6/26 = 21/13; chance (21/13)/(13 - 21/13) = 21/148; variance 21/13 · 19/26 · 20/25.
    let (mean, variance) = (21.0 / 13.0, 21.0 / 13.0 * 19.0 / 26.0 * 0.8);
    close(&said["chance"][0][1], 21.0 / 148.0);
    close(&said["z"][1][0], (3.0 - mean) / f64::sqrt(variance));
    // A mask with itself: what two such masks would have by chance, and no z: 49/26 over 14 - 49/26.
    close(&said["chance"][0][0], 49.0 / (14.0 * 26.0 - 49.0));
    assert_eq!((&said["z"][0][0], &said["z_per_tensor"][1][1]), (&Value::Null, &Value::Null));
    // Per tensor: embedding 3·1/8, q 1·2/4, up 2·1/6, the rest 0; variances mean · (n-a)/n · (n-b)/(n-1).
    let mean = 3.0 / 8.0 + 0.5 + 1.0 / 3.0;
    let variance = 3.0 / 8.0 * 5.0 / 8.0 + 0.5 * 3.0 / 4.0 * 2.0 / 3.0 + 1.0 / 3.0 * 4.0 / 6.0;
    close(&said["chance_per_tensor"][0][1], mean / (13.0 - mean));
    close(&said["z_per_tensor"][0][1], (3.0 - mean) / f64::sqrt(variance));

    let [told] = &said["pairs"].as_array().expect("a list")[..] else { panic!("{said}") };
    assert_eq!((&told["a"], &told["b"], &told["jaccard"]), (&json!("a"), &json!("b"), &json!(0.3)));
    close(&told["ratio"], 0.3 * 148.0 / 21.0);
    let parts = |of: &str, key: &str| -> Vec<Value> {
        let parts = told[of].as_array().expect("a list").iter();
        let keys = [key, "total", "count_a", "count_b", "intersection", "union"];
        parts.map(|part| keys.iter().map(|key| part[*key].clone()).collect()).collect()
    };
    let layers = [
        json!(["embedding", 8, 3, 1, 1, 3]),
        json!([0, 6, 1, 3, 1, 3]),
        json!([1, 6, 2, 1, 1, 2]),
        json!(["outside", 6, 1, 1, 0, 2]),
    ];
    assert_eq!(parts("by_layer", "layer"), layers);
    let modules = [
        json!(["attention", 4, 1, 2, 1, 2]),
        json!(["mlp", 6, 2, 1, 1, 2]),
        json!(["norms", 2, 1, 0, 0, 1]),
        json!(["biases", 2, 0, 1, 0, 1]),
        json!(["embeddings", 12, 3, 2, 1, 4]),
    ];
    assert_eq!(parts("by_module", "module"), modules);
    // An empty part: no z, and nothing by chance.
    let biases = &told["by_module"][3];
    assert_eq!(
        (&biases["chance"], &biases["z"], &biases["ratio"]),
        (&json!(0.0), &Value::Null, &Value::Null)
    );
}

#[test]
fn the_text_has_the_matrix_and_the_parts_that_are_asked_for() {
    let bench = Bench::new();
    let [a, _] = pair(&bench);
    let files = ["masks", "jaccard", "a.safetensors", "b.safetensors"];
    let both = bench.run(&files).ends(0).names(&[
        "2 masks of a model of 26 entries, Jaccard index",
        "│ a ┆ 7 ┆ 26.9231 % ┆ 1 ┆ 0.300000 │",
        "│ a ┆ b ┆ 3 ┆ 0.300000 ┆ 0.141892 ┆ 2.114 ┆ +1.42 ┆",
        "a and b",
        "│ embedding ┆ 8 ┆ 3 ┆ 1 ┆ 1 ┆ 0.333333 ┆",
        "│ outside ┆ 6 ┆ 1 ┆ 1 ┆ 0 ┆ 0.000000 ┆",
        "│ norms ┆ 2 ┆ 1 ┆ 0 ┆ 0 ┆ 0.000000 ┆ 0.000000 ┆ – ┆ – ┆",
        "chance: two independent uniform masks of these counts",
    ]);
    assert!(both.out.contains("attention"));
    // Of three, parts are shown where they are asked for.
    put(&bench, "none", &mask([&[]; 6]), &json!({}));
    put(&bench, "rest", &a.complement(), &json!({}));
    let three = ["masks", "jaccard", "a.safetensors", "rest", "none", "--names", "one,other,empty"];
    let plain = bench.run(&three).ends(0).names(&[
        "│ one ┆ 7 ┆ 26.9231 % ┆ 1 ┆ 0.000000 ┆ 0.000000 │",
        "│ empty ┆ 0 ┆ 0.0000 % ┆ 0.000000 ┆ 0.000000 ┆ – │",
        "│ one ┆ other ┆ 0 ┆ 0.000000 ┆",
    ]);
    assert!(!plain.out.contains("layer") && !plain.out.contains("mlp"), "{}", plain.out);
    let by = bench.run(&[&three[..], &["--by", "module"]].concat()).ends(0);
    assert_eq!(
        (by.out.matches("│ mlp ").count(), by.out.matches("│ embedding ").count()),
        (3, 0),
        "{}",
        by.out
    );
    bench.run(&[&three[..], &["--by", "tensor"]].concat()).ends(2).names(&["layer, module"]);
    // Null where there is nothing to say.
    let said = bench.run(&["masks", "jaccard", "none", "none", "--json"]).ends(0).json();
    assert_eq!(
        (&said["names"], &said["matrix"]),
        (&json!(["none", "none-2"]), &json!([[null, null], [null, null]]))
    );
}

#[test]
fn a_mask_alone_and_wrong_names_are_refused() {
    let bench = Bench::new();
    pair(&bench);
    bench.run(&["masks", "jaccard", "a.safetensors"]).ends(2).names(&["2 values required"]);
    let files = ["masks", "jaccard", "a.safetensors", "b.safetensors", "--names"];
    bench.run(&[&files[..], &["x"]].concat()).ends(2).names(&["1 names for 2 files"]);
    bench.run(&[&files[..], &["x,x"]].concat()).ends(2).names(&["`x` is there twice"]);
}

#[test]
fn masks_of_different_models_are_refused_with_the_first_difference() {
    let bench = Bench::new();
    pair(&bench);
    let mut other = sizes();
    other[3] = size("model.layers.1.mlp.up_proj.weight", &[2, 3]);
    put(&bench, "other", &Mask::new(other, vec![Vec::new(); 6]).expect("a mask"), &json!({}));
    bench.run(&["masks", "jaccard", "a.safetensors", "b.safetensors", "other"]).ends(7).names(&[
        "compare a.safetensors (first) and other (second)",
        "model.layers.1.mlp.up_proj.weight has the shape [3, 2] in the first and [2, 3] in the second",
        "tickets masks describe",
    ]);
    bench.run(&["masks", "jaccard", "a.safetensors", "absent"]).ends(7).names(&["absent"]);
}

#[test]
fn files_without_shapes_take_them_from_a_configuration_alone() {
    let bench = Bench::new();
    let shape = tickets::data::Architecture::from_config_json(
        &std::fs::read(format!("{}/config.json", model())).expect("a file"),
        "config.json",
    );
    let sizes = shape.expect("a model").sizes();
    let file = |name: &str, first: &[i32]| {
        let list = |at: usize| if at == 0 { first } else { &[] };
        let lists: Vec<_> =
            sizes.iter().enumerate().map(|(at, size)| indices(&size.name, list(at))).collect();
        std::fs::create_dir_all(bench.path(name).parent().expect("a folder")).expect("a writable folder");
        foreign(&bench, name, &lists, &[]);
    };
    file("store/mask/ab12/mask.safetensors", &[0, 2, 5]);
    file("store/mask/cd34/mask.safetensors", &[2, 3]);
    let files = ["masks", "jaccard", "store/mask/ab12/mask.safetensors", "store/mask/cd34/mask.safetensors"];
    bench.run(&files).ends(7).names(&["does not say of which shapes", "--model"]);
    let said = bench.run(&[&files[..], &["--model", &model(), "--json"]].concat()).ends(0).json();
    assert_eq!((&said["names"], &said["matrix"][0][1]), (&json!(["ab12/mask", "cd34/mask"]), &json!(0.25)));
    // Booleans of PyTorch beside indices.
    let bools: Vec<_> =
        sizes.iter().enumerate().map(|(at, size)| booleans(size, if at == 0 { &[2] } else { &[] })).collect();
    foreign(&bench, "bools", &bools, &[]);
    let said = bench.run(&["masks", "jaccard", files[2], "bools", "--model", &model(), "--json"]);
    assert_eq!(said.ends(0).json()["intersection"][0][1], 1);
}
