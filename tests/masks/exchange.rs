//! `masks export` and `masks import`: to booleans and back, older files, files of others.

use std::fs;
use std::path::Path;

use serde_json::json;
use tickets::data::safetensors::parse;
use tickets::sparsity::TensorSize;

use crate::common::Bench;
use crate::support::{booleans, digest, foreign, indices, mask, opened, pair, sizes};

#[test]
fn what_is_exported_comes_back_byte_for_byte() {
    let bench = Bench::new();
    let [a, _] = pair(&bench);
    let said = bench
        .run(&["masks", "export", "a.safetensors", "--out", "bools.safetensors", "--json"])
        .ends(0)
        .json();
    assert_eq!((&said["form"], &said["active"], &said["total"]), (&json!("booleans"), &json!(7), &json!(26)));
    let bytes = fs::read(bench.path("bools.safetensors")).expect("a file");
    let file = parse(&bytes, Path::new("bools")).expect("a safetensors file");
    for (size, list) in a.tensors().iter().zip(a.indices()) {
        let view = file.tensor(&size.name).expect("a tensor of every parameter");
        assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::BOOL, size.shape.as_slice()));
        let found: Vec<u32> =
            (0..).zip(view.data()).filter(|(_, byte)| **byte == 1).map(|(at, _)| at).collect();
        assert_eq!(&found, list, "{}", size.name);
    }
    bench.run(&["masks", "import", "bools.safetensors", "--out", "back"]).ends(0).names(&["7 of 26 entries"]);
    assert_eq!(digest(&bench.path("back")), digest(&bench.path("a.safetensors")));
    // An export of an export is the same export.
    bench.run(&["masks", "export", "bools.safetensors", "--out", "bools2"]).ends(0);
    assert_eq!(digest(&bench.path("bools2")), digest(&bench.path("bools.safetensors")));
}

#[test]
fn an_older_file_is_brought_up_to_date() {
    let bench = Bench::new();
    let [a, _] = pair(&bench);
    let config = json!({ "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"] });
    bench.write("model/config.json", &config.to_string());
    // As the store had them: a recipe and no shapes.
    let as_stored = |(size, list): (&TensorSize, &Vec<u32>)| {
        indices(&size.name, &list.iter().map(|index| *index as i32).collect::<Vec<_>>())
    };
    let lists: Vec<_> = a.tensors().iter().zip(a.indices()).map(as_stored).collect();
    let recipe = json!({ "type": "random", "seed": 1, "active": 7, "total": 26 });
    foreign(&bench, "old", &lists, &[("format", "pt"), ("recipe", &recipe.to_string())]);
    bench
        .run(&["masks", "import", "old", "--out", "new"])
        .ends(7)
        .names(&["old: it does not say of which shapes its tensors are", "--model"]);
    // A configuration that is none is named.
    bench
        .run(&["masks", "import", "old", "--out", "new", "--model", "model"])
        .ends(7)
        .names(&["model", "missing"]);
    // The fixture of PyTorch is such a file too, of a model that is there.
    let (fixture, model) = (fixture("int32"), crate::support::model());
    bench.run(&["masks", "import", &fixture, "--out", "new", "--model", &model]).ends(0);
    let new = opened(&bench, "new");
    let recipe = new.recipe.expect("a recipe");
    let expected = json!({ "type": "imported", "file": "int32.safetensors", "digest": digest(Path::new(&fixture)),
                           "form": "indices", "active": new.mask.active(), "total": new.mask.total() });
    assert_eq!(recipe, expected);
    // It describes itself now.
    bench.run(&["masks", "describe", "new"]).ends(0);
}

fn fixture(name: &str) -> String {
    format!("{}/tests/oracles/masks/{name}.safetensors", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn names_of_no_known_layout_are_taken_in_the_order_of_the_file() {
    let bench = Bench::new();
    let names = ["z.weight", "a.weight"];
    let tensors: Vec<_> =
        names.iter().map(|name| booleans(&crate::support::size(name, &[2, 2]), &[1, 3])).collect();
    foreign(&bench, "bools", &tensors, &[]);
    let said = bench.run(&["masks", "import", "bools", "--out", "new", "--json"]).ends(0).json();
    assert_eq!(
        said["notes"],
        json!(["bools: the names are of no known layout: the tensors are taken in the order of the file"])
    );
    let file = opened(&bench, "new");
    assert_eq!(file.mask.tensors().iter().map(|size| size.name.as_str()).collect::<Vec<_>>(), names);
    assert!(file.notes.is_empty(), "from now on the order is the file's own: {:?}", file.notes);
}

#[test]
fn a_recipe_that_is_a_text_is_kept_beside_where_it_comes_from() {
    let bench = Bench::new();
    let tensors: Vec<_> = sizes().iter().map(|size| booleans(size, &[0])).collect();
    foreign(&bench, "bools", &tensors, &[("recipe", "by hand")]);
    bench
        .run(&["masks", "import", "bools", "--out", "new"])
        .ends(0)
        .names(&["note: bools: the tensors are put in the order"]);
    let file = opened(&bench, "new");
    assert_eq!(file.mask, mask([&[0]; 6]));
    let recipe = file.recipe.expect("a recipe");
    assert_eq!((&recipe["type"], &recipe["recipe"]), (&json!("imported"), &json!("by hand")));
}
