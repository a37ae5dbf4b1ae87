//! The list of shapes in a mask's header, by which the file describes itself: JSON `[[name, [rows, columns]], ...]`.

use std::collections::BTreeSet;

use serde_json::json;

use crate::sparsity::TensorSize;

/// The key of the list in the metadata.
pub const SHAPES: &str = "shapes";

/// Flat indices are int32 numbers.
pub const MOST_ELEMENTS: usize = 1 << 31;

/// The list as text.
pub fn to_text(tensors: &[TensorSize]) -> String {
    let list: Vec<_> = tensors.iter().map(|tensor| json!([tensor.name, tensor.shape])).collect();
    json!(list).to_string()
}

/// The list from its text, or what is wrong with it.
pub fn from_text(text: &str) -> Result<Vec<TensorSize>, String> {
    let list: Vec<(String, Vec<usize>)> =
        serde_json::from_str(text).map_err(|error| format!("it is no list of names and shapes: {error}"))?;
    let mut seen = BTreeSet::new();
    for (name, shape) in &list {
        if !seen.insert(name) {
            return Err(format!("{name} is there twice"));
        }
        possible(name, shape)?;
    }
    Ok(list.into_iter().map(|(name, shape)| TensorSize { name, shape }).collect())
}

/// Whether a tensor can be masked, or why not.
pub fn possible(name: &str, shape: &[usize]) -> Result<(), String> {
    let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    match elements {
        Some(elements) if elements <= MOST_ELEMENTS => Ok(()),
        _ => Err(format!("{name} has the shape {shape:?}: more entries than an int32 index can name")),
    }
}

/// The first difference of two lists that name the same tensors when they are of the same model; their order does not count.
pub fn difference(file: &[TensorSize], model: &[TensorSize]) -> Option<String> {
    let shapes = |list: &[TensorSize]| -> std::collections::BTreeMap<String, Vec<usize>> {
        list.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
    };
    let (in_file, in_model) = (shapes(file), shapes(model));
    for TensorSize { name, shape } in file {
        match in_model.get(name) {
            None => return Some(format!("{name} is in the file's list of shapes and not in the model")),
            Some(other) if other != shape => {
                return Some(format!(
                    "{name} has the shape {shape:?} in the file and {other:?} in the model"
                ));
            }
            Some(_) => {}
        }
    }
    let absent = model.iter().find(|tensor| !in_file.contains_key(&tensor.name))?;
    Some(format!("{} is in the model and not in the file's list of shapes", absent.name))
}
