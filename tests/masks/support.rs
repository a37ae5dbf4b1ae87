//! A small model of two layers, masks of it, and files of both forms.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tickets::data::safetensors::{RawTensor, to_bytes};
use tickets::masks::{MaskFile, read};
use tickets::sparsity::{Mask, TensorSize};

use crate::common::Bench;

/// The directory of a model of which only `config.json` counts: tied, two layers, with biases.
pub fn model() -> String {
    format!("{}/tests/oracles/torch/tied_gqa4", env!("CARGO_MANIFEST_DIR"))
}

pub fn size(name: &str, shape: &[usize]) -> TensorSize {
    TensorSize { name: name.into(), shape: shape.into() }
}

/// Parameters of every kind: 8 + 4 + 2 + 6 + 2 + 4 = 26 entries.
pub fn sizes() -> Vec<TensorSize> {
    vec![
        size("model.embed_tokens.weight", &[4, 2]),
        size("model.layers.0.self_attn.q_proj.weight", &[2, 2]),
        size("model.layers.0.self_attn.q_proj.bias", &[2]),
        size("model.layers.1.mlp.up_proj.weight", &[3, 2]),
        size("model.norm.weight", &[2]),
        size("lm_head.weight", &[2, 2]),
    ]
}

/// A mask of [`sizes`].
pub fn mask(lists: [&[u32]; 6]) -> Mask {
    Mask::new(sizes(), lists.map(<[u32]>::to_vec).into()).expect("a mask")
}

/// Puts a file with indices into the bench, as the program writes it.
pub fn put(bench: &Bench, name: &str, mask: &Mask, recipe: &Value) {
    fs::write(bench.path(name), tickets::masks::to_bytes(mask, recipe)).expect("a writable folder");
}

/// Two masks: `a.safetensors` with 7 entries, `b.safetensors` with 6, 3 of them in both.
pub fn pair(bench: &Bench) -> [Mask; 2] {
    let a = mask([&[0, 3, 7], &[1], &[], &[2, 4], &[1], &[]]);
    let b = mask([&[3], &[1, 2], &[0], &[4], &[], &[3]]);
    put(bench, "a.safetensors", &a, &json!({ "type": "random", "seed": 1, "active": 7, "total": 26 }));
    put(bench, "b.safetensors", &b, &json!({ "type": "fisher", "scores": "ab12", "active": 6, "total": 26 }));
    [a, b]
}

/// A file as another program writes it.
pub fn foreign(bench: &Bench, name: &str, tensors: &[RawTensor], metadata: &[(&str, &str)]) {
    let metadata: BTreeMap<String, String> =
        metadata.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    fs::write(bench.path(name), to_bytes(tensors, &metadata)).expect("a writable folder");
}

/// Flat indices as int32.
pub fn indices(name: &str, list: &[i32]) -> RawTensor {
    let bytes = list.iter().flat_map(|index| index.to_le_bytes()).collect();
    RawTensor { name: name.into(), dtype: "I32", shape: vec![list.len()], bytes }
}

/// Booleans.
pub fn booleans(size: &TensorSize, list: &[u32]) -> RawTensor {
    let bytes = (0..size.elements() as u32).map(|index| u8::from(list.contains(&index))).collect();
    RawTensor { name: size.name.clone(), dtype: "BOOL", shape: size.shape.clone(), bytes }
}

/// A file of the bench that describes itself.
pub fn opened(bench: &Bench, name: &str) -> MaskFile {
    read(&bench.path(name), None).expect("a mask")
}

/// blake3 of a file, in hex.
pub fn digest(path: &Path) -> String {
    blake3::hash(&fs::read(path).expect("a file")).to_hex().to_string()
}

/// The names of the files of the bench.
pub fn names(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path(".")).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
