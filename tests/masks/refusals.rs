//! Files that cannot be used: each is named, with the place and with what to do, and nothing is written.

use std::fs;

use serde_json::json;
use tickets::data::safetensors::RawTensor;

use crate::common::{Bench, Said};
use crate::support::{booleans, foreign, indices, mask, names, put, sizes};

const EMBEDDING: &str = "model.embed_tokens.weight";

/// `shapes` as a file states them itself.
fn shapes() -> String {
    tickets::masks::shapes_text(&sizes())
}

/// Indices of all tensors but the embedding.
fn others() -> Vec<RawTensor> {
    sizes()[1..].iter().map(|size| indices(&size.name, &[0])).collect()
}

/// What the commands say of a file: one that looks, and one that would write. All read in the same place.
fn refused(bench: &Bench, arguments: &[&str]) -> [Said; 2] {
    let before = names(bench);
    let with = |command: &[&str]| bench.run(&[&["masks"], command, arguments].concat()).ends(7);
    let said = [with(&["describe"]), with(&["import", "--out", "new"])];
    assert_eq!(names(bench), before);
    said
}

#[track_caller]
fn all_name(said: [Said; 2], phrases: &[&str]) {
    for said in said {
        let _ = said.names(phrases);
    }
}

#[test]
fn what_is_no_safetensors_file_or_is_cut_short() {
    let bench = Bench::new();
    put(&bench, "whole", &mask([&[0, 1]; 6]), &json!({}));
    let bytes = fs::read(bench.path("whole")).expect("a file");
    fs::write(bench.path("cut"), &bytes[..bytes.len() - 5]).expect("a writable folder");
    all_name(
        refused(&bench, &["cut"]),
        &["read the mask cut: it is no whole safetensors file", "cut short", "again"],
    );
    bench.write("text", "PK\u{3}\u{4} a pickle of PyTorch");
    all_name(
        refused(&bench, &["text"]),
        &["read the mask text: it is no whole", "safetensors.torch.save_file"],
    );
    bench.write("empty", "");
    all_name(refused(&bench, &["empty"]), &["0 bytes, too few for a header"]);
    all_name(refused(&bench, &["nowhere"]), &["read nowhere", "No such file"]);
    all_name(refused(&bench, &["."]), &["read .", "directory"]);
}

#[test]
fn indices_that_cannot_be() {
    let bench = Bench::new();
    for (list, phrases) in [
        (
            &[0, 8][..],
            ["position 1: index 8 is out of range: the parameter has 8 entries", "of another model"],
        ),
        (&[0, 1, -3], ["position 2: index -3 is negative", "does not fit int32"]),
        (&[2, 5, 5], ["position 2: index 5 is there twice", "indices.unique()"]),
        (&[4, 2], ["position 1: index 2 comes after 4: the list does not ascend", "ascending"]),
    ] {
        let tensors = [vec![indices(EMBEDDING, list)], others()].concat();
        foreign(&bench, "bad", &tensors, &[("shapes", &shapes())]);
        let all = refused(&bench, &["bad"]);
        all_name(all, &[&format!("read the mask bad: tensor {EMBEDDING}, {}", phrases[0]), phrases[1]]);
    }
    let square = RawTensor { name: EMBEDDING.into(), dtype: "I32", shape: vec![1, 2], bytes: vec![0; 8] };
    foreign(&bench, "bad", &[vec![square], others()].concat(), &[("shapes", &shapes())]);
    all_name(refused(&bench, &["bad"]), &["have the shape [1, 2], not one dimension", "flatten"]);
}

#[test]
fn tensors_that_do_not_fit_the_model() {
    let bench = Bench::new();
    let model = crate::support::model();
    let fixture = |name: &str| {
        let path = format!("{}/tests/oracles/masks/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = fs::read(path).expect("a fixture");
        let file = tickets::data::safetensors::parse(&bytes, std::path::Path::new(name)).expect("a file");
        let raw = |(name, view): (String, safetensors::tensor::TensorView<'_>)| RawTensor {
            name,
            dtype: if view.dtype() == safetensors::Dtype::BOOL { "BOOL" } else { "I32" },
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        file.tensors().into_iter().map(raw).collect::<Vec<_>>()
    };
    for form in ["int32", "bools"] {
        let mut tensors = fixture(form);
        tensors.retain(|tensor| tensor.name != "model.norm.weight");
        foreign(&bench, "bad", &tensors, &[]);
        let said = refused(&bench, &["bad", "--model", &model]);
        all_name(said, &["bad: it has no tensor model.norm.weight, which is in the model", "length 0"]);
        let mut tensors = fixture(form);
        let mut stranger = tensors[0].clone();
        stranger.name = "model.layers.7.mlp.up_proj.weight".into();
        tensors.push(stranger);
        foreign(&bench, "bad", &tensors, &[]);
        let said = refused(&bench, &["bad", "--model", &model]);
        all_name(
            said,
            &["bad: its tensor model.layers.7.mlp.up_proj.weight is not in the model", "state_dict"],
        );
    }
    let mut tensors = fixture("bools");
    let norm = tensors.iter_mut().find(|tensor| tensor.name == "model.norm.weight").expect("a norm");
    norm.shape = vec![4, 4];
    foreign(&bench, "bad", &tensors, &[]);
    let said = refused(&bench, &["bad", "--model", &model]);
    all_name(said, &["tensor model.norm.weight has the shape [4, 4], the parameter [16]", "[out, in]"]);
}

#[test]
fn shapes_that_the_file_and_the_model_do_not_share() {
    let bench = Bench::new();
    put(&bench, "small", &mask([&[0, 1]; 6]), &json!({}));
    let said = refused(&bench, &["small", "--model", &crate::support::model()]);
    all_name(
        said,
        &[
            "small: it is of another model",
            "model.embed_tokens.weight has the shape [4, 2] in the file and [48, 16] in the model",
            "--model",
        ],
    );
    let said =
        bench.run(&["masks", "union", "small", "small", "--out", "new", "--model", "qwen3-0.6b"]).ends(7);
    let _ = said.names(&["small: it is of another model"]);
    for (text, what) in [
        ("[[\"a\", [2]], [\"a\", [2]]]", "a is there twice"),
        ("[[\"a\", [4294967296]]]", "more entries than an int32 index can name"),
        ("no", "no list of names and shapes"),
    ] {
        foreign(&bench, "bad", &[indices("a", &[0])], &[("shapes", text)]);
        all_name(refused(&bench, &["bad"]), &["bad: its list of shapes is wrong", what, "again"]);
    }
    foreign(&bench, "bad", &[indices("a", &[0]), indices("b", &[])], &[("shapes", "[[\"a\", [2]]]")]);
    all_name(refused(&bench, &["bad"]), &["its tensor b is not in its own list of shapes"]);
}

#[test]
fn types_that_are_no_mask() {
    let bench = Bench::new();
    let floats = |size: &tickets::sparsity::TensorSize| RawTensor {
        name: size.name.clone(),
        dtype: "F32",
        shape: size.shape.clone(),
        bytes: vec![0; 4 * size.elements()],
    };
    foreign(&bench, "floats", &sizes().iter().map(floats).collect::<Vec<_>>(), &[]);
    all_name(
        refused(&bench, &["floats"]),
        &["tensor model.embed_tokens.weight has the type F32", "mask.bool()"],
    );
    let tensors = [vec![booleans(&sizes()[0], &[1])], others()].concat();
    foreign(&bench, "mixed", &tensors, &[("shapes", &shapes())]);
    all_name(
        refused(&bench, &["mixed"]),
        &["holds indices and tensor model.embed_tokens.weight booleans", "one form"],
    );
    let mut bytes = booleans(&sizes()[0], &[1]);
    bytes.bytes[6] = 255;
    foreign(&bench, "bytes", &[bytes], &[]);
    all_name(
        refused(&bench, &["bytes"]),
        &["tensor model.embed_tokens.weight, entry 6: 255 is neither 0 nor 1"],
    );
}
