//! A mask from its description, with the recipe that its file carries.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::scores::Streamed;
use super::{MasksError, read};
use crate::sparsity::{
    Choice, Control, Criterion, Keep, Mask, MaskSource, Modules, Scope, Score, Sparse, TIES, TIES_LOW,
    TensorSize, Unit, choose,
};

/// A mask and how it was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The mask.
    pub mask: Mask,
    /// What decides its entries: every setting that applies, the rule between ties, what the scores are, the counts.
    pub recipe: Value,
}

/// Makes a mask of `tensors`. `scores` are what its criterion ranks by, `origin` says what they are.
///
/// # Errors
/// When the mask is not possible, would train nothing, or what it is made of cannot be read.
pub fn make(
    tensors: &[TensorSize],
    spec: &Sparse,
    scores: &Streamed,
    origin: Option<Value>,
) -> Result<Made, MasksError> {
    let files = || {
        let Criterion::File { file, with } = &spec.criterion else { return Ok(Vec::new()) };
        let files = std::iter::once(file).chain(with.iter().map(|(_, other)| other));
        files.map(|file| unchanged(file, tensors)).collect()
    };
    let mask = choose(tensors, spec, scores, &files)?;
    let recipe = recipe(spec, origin, &mask);
    Ok(Made { mask, recipe })
}

/// The mask of a file, which is what it was when the plan was made.
fn unchanged(source: &MaskSource, tensors: &[TensorSize]) -> Result<Mask, MasksError> {
    let unreadable = |error| crate::data::DataError::Read { path: source.path.clone(), source: error };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(&source.path).map_err(unreadable)?).map_err(unreadable)?;
    if hasher.finalize().to_hex().as_str() != source.digest {
        return Err(MasksError::Changed { path: source.path.clone() });
    }
    Ok(read::read(&source.path, Some(tensors))?.mask)
}

/// Every setting that decides the mask, in the order of the manifest.
fn recipe(spec: &Sparse, origin: Option<Value>, mask: &Mask) -> Value {
    let mut recipe = Map::new();
    let mut put = |key: &str, value: Value| {
        recipe.insert(key.to_owned(), value);
    };
    put("type", crate::sparsity::MaskSpec::Sparse(spec.clone()).word().into());
    let Sparse { criterion, modules, control } = spec;
    match criterion {
        Criterion::Random { seed, rng, choice } => {
            put_choice(&mut put, choice);
            put("seed", (*seed).into());
            put("rng", rng.word().into());
        }
        Criterion::Scored { by, keep, choice } => {
            put_choice(&mut put, choice);
            put("keep", keep.word().into());
            put("ties", if *keep == Keep::High { TIES } else { TIES_LOW }.into());
            if choice.unit != Unit::Entry {
                put("unit_score", "mean over the unit's entries".into());
            }
            if let Score::Moved { run } = by
                && !run.is_empty()
            {
                put("run", run.as_str().into());
            }
            if let Some(origin) = origin {
                put("scores", origin);
            }
        }
        Criterion::Layers { side, count } => {
            put("layers", side.word().into());
            put("count", (*count).into());
        }
        Criterion::Modules => {}
        Criterion::File { file, with } => {
            let told = |file: &MaskSource| json!({ "file": name(&file.path), "digest": file.digest });
            put("file", told(file));
            if let Some((_, other)) = with {
                put("other", told(other));
            }
        }
    }
    if *modules != Modules::ALL {
        put("modules", modules.text().into());
    }
    match control {
        Control::None => {}
        Control::Complement => put("control", control.word().into()),
        Control::Permuted { seed } => {
            put("control", control.word().into());
            put("control_seed", (*seed).into());
        }
    }
    put("active", mask.active().into());
    put("total", mask.total().into());
    Value::Object(recipe)
}

fn put_choice(put: &mut impl FnMut(&str, Value), choice: &Choice) {
    let Choice { sparsity, rounding, scope, unit } = choice;
    put("sparsity", json!(sparsity));
    put("scope", scope.word().into());
    if let Scope::PerGroup(group) = scope {
        put("group", (*group).into());
    }
    put("unit", unit.word().into());
    put("rounding", rounding.word().into());
}

/// The name of a file, without its folder: recipes name no machine's paths.
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
