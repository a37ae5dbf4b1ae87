//! A mask as a file of indices that describes itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::read::RECIPE;
use super::shapes;
use crate::data::safetensors::header;
use crate::sparsity::Mask;

/// The bytes of the file of a mask; `recipe` says how it was made. Equal masks and recipes give equal bytes.
pub fn to_bytes(mask: &Mask, recipe: &Value) -> Vec<u8> {
    let lengths: Vec<[usize; 1]> = mask.indices().iter().map(|list| [list.len()]).collect();
    let described = mask.tensors().iter().zip(&lengths);
    let described =
        described.map(|(tensor, length)| (tensor.name.as_str(), "I32", length.as_slice(), 4 * length[0]));
    let mut bytes = header(described, &metadata(mask, recipe));
    bytes.reserve_exact(4 * mask.active());
    for list in mask.indices() {
        bytes.extend(list.iter().flat_map(|index| index.to_le_bytes()));
    }
    bytes
}

fn metadata(mask: &Mask, recipe: &Value) -> BTreeMap<String, String> {
    let words = [
        ("format", "pt".to_owned()),
        (RECIPE, recipe.to_string()),
        (shapes::SHAPES, shapes::to_text(mask.tensors())),
    ];
    words.map(|(key, text)| (key.to_owned(), text)).into()
}
