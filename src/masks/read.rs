//! A mask from a file, in either form.
//!
//! In: a safetensors file and, where the file does not describe itself, the model. Out: a mask in the model's order.
//! Memory: the mask and a few MiB, however large the file is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{MasksError, bools, indices, order, shapes};
use crate::data::{DataError, TensorEntry, TensorFile};
use crate::sparsity::{Mask, TensorSize};

/// Key of the recipe in the metadata.
pub const RECIPE: &str = "recipe";

/// Bytes that are read at once: whole numbers of any width.
const PIECE: usize = 4 << 20;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A mask, and what else its file says.
#[derive(Clone, Debug)]
pub struct MaskFile {
    /// The mask, in the order of the model.
    pub mask: Mask,
    /// How it was made, where the file says so: the JSON of its header, or a text that is no JSON.
    pub recipe: Option<Value>,
    /// How the file holds it.
    pub form: Form,
    /// What a reader should know about how the file was taken, a sentence each.
    pub notes: Vec<String>,
}

/// A form of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Flat indices.
    Indices,
    /// Booleans of the parameters' shapes.
    Booleans,
}

/// Reads a mask. `model` has the tensors of its model in study order; a file that describes itself needs none, and is
/// compared with it.
///
/// # Errors
/// When the file cannot be read, is damaged, is of another model, or needs a model and none is given.
pub fn read(path: &Path, model: Option<&[TensorSize]>) -> Result<MaskFile, MasksError> {
    from_file(&TensorFile::open(path).map_err(|error| foreign(error, path))?, model)
}

/// The same of the bytes of a file; `path` names it in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: Vec<u8>, path: &Path, model: Option<&[TensorSize]>) -> Result<MaskFile, MasksError> {
    from_file(&TensorFile::from_bytes(bytes, path).map_err(|error| foreign(error, path))?, model)
}

/// A mask is not weights, and fetching it again helps less often.
fn foreign(error: DataError, path: &Path) -> MasksError {
    match error {
        DataError::Weights { what, .. } => MasksError::NoSafetensors { path: path.into(), what },
        other => other.into(),
    }
}

fn from_file(file: &TensorFile, model: Option<&[TensorSize]>) -> Result<MaskFile, MasksError> {
    let path = file.path();
    let form = form(file)?;
    let mut notes = Vec::new();
    let bad = |what| MasksError::BadShapes { path: path.into(), what };
    let listed = file.metadata().get(shapes::SHAPES);
    let listed = listed.map(|text| shapes::from_text(text)).transpose().map_err(bad)?;
    let sizes = match (model, &listed, form) {
        (Some(model), listed, _) => {
            if let Some(difference) = listed.as_ref().and_then(|listed| shapes::difference(listed, model)) {
                return Err(MasksError::OtherModel { path: path.into(), difference });
            }
            model.to_vec()
        }
        (None, Some(listed), _) => listed.clone(),
        (None, None, Form::Booleans) => own_sizes(file, &mut notes)?,
        (None, None, Form::Indices) => return Err(MasksError::NoShapes { path: path.into() }),
    };
    let entries = matched(file, &sizes, listed.is_some(), &mut notes)?;
    let read = match form {
        Form::Indices => indices::indices,
        Form::Booleans => bools::indices,
    };
    let lists = entries.into_iter().zip(&sizes);
    let lists = lists.map(|(entry, size)| entry.map_or(Ok(Vec::new()), |entry| read(file, entry, size)));
    let lists = lists.collect::<Result<Vec<_>, _>>()?;
    let recipe = file.metadata().get(RECIPE);
    let recipe = recipe.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()));
    Ok(MaskFile { mask: Mask::new(sizes, lists)?, recipe, form, notes })
}

/// The form of a file, told by the types of its tensors. A file without tensors has lists: of nothing.
fn form(file: &TensorFile) -> Result<Form, MasksError> {
    let path = file.path();
    let (mut lists, mut bools) = (None, None);
    for TensorEntry { name, dtype, shape, length, .. } in file.entries() {
        let (seen, width) = match dtype.as_str() {
            "I32" => (&mut lists, 4),
            "I64" => (&mut lists, 8),
            "BOOL" | "U8" => (&mut bools, 1),
            _ => {
                let (path, tensor, dtype) = (path.into(), name.clone(), dtype.clone());
                return Err(MasksError::Dtype { path, tensor, dtype });
            }
        };
        let elements = shape.iter().try_fold(width, |product: usize, &n| product.checked_mul(n));
        if elements != Some(*length) {
            let what = format!("its header gives tensor {name} {length} bytes, not what {shape:?} take");
            return Err(MasksError::NoSafetensors { path: path.into(), what });
        }
        seen.get_or_insert(name);
    }
    match (lists, bools) {
        (Some(lists), Some(bools)) => {
            Err(MasksError::Mixed { path: path.into(), lists: lists.clone(), bools: bools.clone() })
        }
        (_, None) => Ok(Form::Indices),
        (None, Some(_)) => Ok(Form::Booleans),
    }
}

/// The tensors of a file of booleans that comes without its model: in study order where the names tell it.
fn own_sizes(file: &TensorFile, notes: &mut Vec<String>) -> Result<Vec<TensorSize>, MasksError> {
    let mut entries: Vec<&TensorEntry> = file.entries().iter().collect();
    if entries.iter().all(|entry| order::rank(&entry.name).is_some()) {
        entries.sort_by_key(|entry| order::rank(&entry.name));
        notes.push("the tensors are put in the order of the model that their names tell".into());
    } else {
        notes.push("the names are of no known layout: the tensors are taken in the order of the file".into());
    }
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if has(HEAD) && has(EMBEDDING) {
        notes.push(format!("{HEAD} is taken as a parameter of its own; --model says whether it is one"));
    }
    let sizes = entries.into_iter().map(|TensorEntry { name, shape, .. }| {
        let bad = |what| MasksError::BadShapes { path: file.path().into(), what };
        shapes::possible(name, shape).map_err(bad)?;
        Ok(TensorSize { name: name.clone(), shape: shape.clone() })
    });
    sizes.collect()
}

/// The tensor of the file for each parameter. None is missing, except of a file that lists its parameters itself: there it
/// is an empty one.
fn matched<'a>(
    file: &'a TensorFile,
    sizes: &[TensorSize],
    listed: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<Option<&'a TensorEntry>>, MasksError> {
    let mut left: BTreeMap<&str, &TensorEntry> =
        file.entries().iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let entries: Vec<_> = sizes.iter().map(|size| left.remove(size.name.as_str())).collect();
    // A walk of `state_dict` meets a tied head as well: it is the embedding under another name.
    let tied = !listed && sizes.iter().any(|size| size.name == EMBEDDING);
    if tied && left.remove(HEAD).is_some() {
        notes.push(format!("{HEAD} is left out: in this model it is {EMBEDDING} (tied)"));
    }
    if let Some(tensor) = left.into_keys().next() {
        let whose = if listed { "its own list of shapes" } else { "the model" };
        return Err(MasksError::Unknown { path: file.path().into(), tensor: tensor.to_owned(), whose });
    }
    match entries.iter().zip(sizes).find(|(entry, _)| entry.is_none() && !listed) {
        Some((_, absent)) => {
            Err(MasksError::Absent { path: file.path().into(), tensor: absent.name.clone() })
        }
        None => Ok(entries),
    }
}

/// Hands a tensor's bytes over piece by piece.
pub fn each_piece(
    file: &TensorFile,
    entry: &TensorEntry,
    mut take: impl FnMut(&[u8]) -> Result<(), MasksError>,
) -> Result<(), MasksError> {
    let mut buffer = vec![0; PIECE.min(entry.length)];
    for start in (0..entry.length).step_by(PIECE) {
        let size = PIECE.min(entry.length - start);
        file.read_part(entry, start, &mut buffer[..size])?;
        take(&buffer[..size])?;
    }
    Ok(())
}
