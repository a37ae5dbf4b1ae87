//! A mask as a file that describes itself, in either form.
//!
//! In: a mask and its recipe. Out: bytes, or a file that appears whole or not at all. Memory: [`write`] and
//! [`write_booleans`] hold one MiB beside the mask. Invariant: equal masks and recipes give equal bytes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::read::RECIPE;
use super::{MasksError, shapes};
use crate::data::safetensors::{header, header_bytes};
use crate::sparsity::Mask;
use crate::store::LoneFile;

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// The bytes of the file with indices; `recipe` says how the mask was made.
pub fn to_bytes(mask: &Mask, recipe: &Value) -> Vec<u8> {
    let mut bytes = indices_header(mask, recipe);
    bytes.reserve_exact(4 * mask.active());
    for list in mask.indices() {
        bytes.extend(list.iter().flat_map(|index| index.to_le_bytes()));
    }
    bytes
}

/// Writes the file with indices. `false`: there is a file of that name, which stays as it is.
///
/// # Errors
/// When it cannot be written; nothing is left then.
pub fn write(path: &Path, mask: &Mask, recipe: &Value) -> Result<bool, MasksError> {
    let mut file = LoneFile::begin(path)?;
    file.append(&indices_header(mask, recipe))?;
    let mut piece = Vec::with_capacity(PIECE);
    for list in mask.indices() {
        for part in list.chunks(PIECE / 4) {
            piece.clear();
            piece.extend(part.iter().flat_map(|index| index.to_le_bytes()));
            file.append(&piece)?;
        }
    }
    Ok(file.publish()?)
}

/// Writes the file with booleans of the parameters' shapes, as PyTorch takes them. `false`: as [`write`].
///
/// # Errors
/// As [`write`].
pub fn write_booleans(path: &Path, mask: &Mask, recipe: &Value) -> Result<bool, MasksError> {
    let tensors = mask.tensors();
    let described =
        tensors.iter().map(|found| (found.name.as_str(), "BOOL", found.shape.as_slice(), found.elements()));
    let mut file = LoneFile::begin(path)?;
    file.append(&header(described, &metadata(mask, recipe)))?;
    let mut piece = vec![0; PIECE];
    for (tensor, list) in tensors.iter().zip(mask.indices()) {
        let mut left = list.as_slice();
        for start in (0..tensor.elements()).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(tensor.elements() - start)];
            let (here, beyond) =
                left.split_at(left.partition_point(|&index| (index as usize) < start + piece.len()));
            piece.fill(0);
            for &index in here {
                piece[index as usize - start] = 1;
            }
            left = beyond;
            file.append(piece)?;
        }
    }
    Ok(file.publish()?)
}

/// How many bytes [`write_booleans`] writes.
pub fn booleans_bytes(mask: &Mask, recipe: &Value) -> u64 {
    let tensors = mask.tensors().iter();
    let described =
        tensors.map(|found| (found.name.as_str(), "BOOL", found.shape.as_slice(), found.elements() as u64));
    header_bytes(described, &metadata(mask, recipe)) + mask.total() as u64
}

fn indices_header(mask: &Mask, recipe: &Value) -> Vec<u8> {
    let lengths: Vec<[usize; 1]> = mask.indices().iter().map(|list| [list.len()]).collect();
    let described = mask
        .tensors()
        .iter()
        .zip(&lengths)
        .map(|(tensor, length)| (tensor.name.as_str(), "I32", length.as_slice(), 4 * length[0]));
    header(described, &metadata(mask, recipe))
}

/// A recipe that is a text was no JSON when it was read, and stays as it was.
fn metadata(mask: &Mask, recipe: &Value) -> BTreeMap<String, String> {
    let recipe = recipe.as_str().map_or_else(|| recipe.to_string(), str::to_owned);
    let words =
        [("format", "pt".to_owned()), (RECIPE, recipe), (shapes::SHAPES, shapes::to_text(mask.tensors()))];
    words.map(|(key, text)| (key.to_owned(), text)).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::masks::{Form, read};
    use crate::sparsity::TensorSize;

    fn mask() -> Mask {
        let size = |name: &str, shape: &[usize]| TensorSize { name: name.into(), shape: shape.into() };
        // More than two pieces, with entries at the edges of each; an empty tensor; a scalar; names of no order.
        let sizes = vec![size("z", &[3, 1 << 20]), size("none", &[0, 4]), size("a", &[]), size("b", &[5])];
        let edges = vec![0, (1 << 20) - 1, 1 << 20, (1 << 21) + 7, 3 * (1 << 20) - 1];
        Mask::new(sizes, vec![edges, vec![], vec![0], vec![]]).unwrap()
    }

    #[test]
    fn both_forms_come_back_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for recipe in [json!({ "type": "random" }), json!("by hand")] {
            let (lists, bools) = (path("lists"), path("bools"));
            assert!(write(&lists, &mask(), &recipe).unwrap());
            assert!(write_booleans(&bools, &mask(), &recipe).unwrap());
            assert_eq!(std::fs::read(&lists).unwrap(), to_bytes(&mask(), &recipe));
            let length = std::fs::metadata(&bools).unwrap().len();
            assert_eq!(length, booleans_bytes(&mask(), &recipe));
            for (file, form) in [(&lists, Form::Indices), (&bools, Form::Booleans)] {
                let found = read(file, None).unwrap();
                assert_eq!((found.mask, found.recipe, found.form), (mask(), Some(recipe.clone()), form));
                assert!(found.notes.is_empty(), "{:?}", found.notes);
            }
            // What is there stays.
            assert!(!write(&bools, &mask(), &recipe).unwrap());
            assert_eq!(std::fs::metadata(&bools).unwrap().len(), length);
            crate::store::fs::remove_file(&lists).unwrap();
            crate::store::fs::remove_file(&bools).unwrap();
        }
    }
}
