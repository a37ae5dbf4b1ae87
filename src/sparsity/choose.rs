//! From the description of a mask to the mask.

use super::counts::{in_layers, layers};
use super::draw::{draw, permuted};
use super::pools::candidates;
use super::rank::{Scores, rank};
use super::{
    Control, Criterion, Join, Mask, MaskRng, MaskSpec, ModuleKind, Rounding, Scope, Sparse, SparsityError,
    TensorSize, Unit, kept_count,
};

/// The mask of a description; a full one has none.
///
/// `scores` are asked for by a criterion that ranks, `files` by one that takes what is there (the masks of its one or two
/// files, in their order).
///
/// # Errors
/// When the mask is not possible, or nothing at all would be trained.
pub fn choose<S: Scores + ?Sized>(
    tensors: &[TensorSize],
    spec: &Sparse,
    scores: &S,
    files: &dyn Fn() -> Result<Vec<Mask>, S::Error>,
) -> Result<Mask, S::Error> {
    if let Some(large) = tensors.iter().find(|tensor| u32::try_from(tensor.elements()).is_err()) {
        return Err(SparsityError::TooLarge { tensor: large.name.clone() }.into());
    }
    let Sparse { criterion, modules, control } = spec;
    possible(criterion, *control)?;
    let may = candidates(tensors, *modules, criterion);
    let mask = match criterion {
        Criterion::Random { seed, rng, choice } => draw(tensors, &may, choice, *seed, *rng)?,
        Criterion::Scored { by: _, keep, choice } => rank(tensors, &may, choice, *keep, scores)?,
        Criterion::Layers { side, count } => {
            let there = layers(tensors);
            if *count > there {
                return Err(SparsityError::TooFewLayers { asked: *count, there }.into());
            }
            let within = |tensor: &TensorSize| in_layers(&tensor.name, *side, *count, there);
            whole(tensors, &|tensor| within(tensor) && modules.has(ModuleKind::of(&tensor.name)))?
        }
        Criterion::Modules => whole(tensors, &|tensor| modules.has(ModuleKind::of(&tensor.name)))?,
        Criterion::File { with, .. } => {
            let masks = files()?;
            let (Some(first), second) = (masks.first(), masks.get(1)) else {
                return Err(SparsityError::TensorCount { expected: 1, got: 0 }.into());
            };
            match (with, second) {
                (Some((Join::Union, _)), Some(second)) => first.union(second)?,
                (Some((Join::Intersection, _)), Some(second)) => first.intersection(second)?,
                _ => first.clone(),
            }
        }
    };
    let mask = match control {
        Control::None => mask,
        Control::Complement => {
            let mut others = mask.complement();
            for (i, indices) in others.indices.iter_mut().enumerate() {
                if !may.contains(&i) {
                    *indices = Vec::new();
                }
            }
            others
        }
        Control::Permuted { seed } => permuted(&mask, *seed)?,
    };
    if mask.active() == 0 {
        return Err(SparsityError::Empty { why: why(spec) }.into());
    }
    Ok(mask)
}

/// What a manifest refuses before anything is made, for all other callers.
fn possible(criterion: &Criterion, control: Control) -> Result<(), SparsityError> {
    let (choice, numpy) = match criterion {
        Criterion::Random { choice, rng, .. } => (choice, *rng == MaskRng::Numpy),
        Criterion::Scored { choice, .. } => (choice, false),
        Criterion::Modules if control != Control::None => {
            let what = "whole modules have no control: what they leave out is other modules, and nothing can be permuted";
            return Err(SparsityError::Together { what });
        }
        Criterion::Layers { .. } | Criterion::Modules | Criterion::File { .. } => return Ok(()),
    };
    if !(choice.sparsity > 0.0 && choice.sparsity < 1.0) {
        return Err(SparsityError::Sparsity { sparsity: choice.sparsity });
    }
    let Scope::PerGroup(group) = choice.scope else {
        let what = "NumPy's generator draws single entries, no rows or columns";
        return if numpy && choice.unit != Unit::Entry {
            Err(SparsityError::Together { what })
        } else {
            Ok(())
        };
    };
    if choice.unit != Unit::Entry || numpy {
        let what = "groups are of single entries, and NumPy's generator draws no groups";
        return Err(SparsityError::Together { what });
    }
    let kept = |rounding| kept_count(group as usize, choice.sparsity, rounding);
    if kept(Rounding::Floor)? == 0 || kept(Rounding::Floor)? != kept(Rounding::Ceil)? {
        return Err(SparsityError::PartOfEntry { group, sparsity: choice.sparsity });
    }
    Ok(())
}

/// Why nothing is left, as the end of a sentence.
fn why(spec: &Sparse) -> String {
    let choice = match &spec.criterion {
        Criterion::Random { choice, .. } | Criterion::Scored { choice, .. } => choice,
        Criterion::Layers { .. } if spec.control == Control::Complement => {
            return "nothing of these modules lies outside of these layers".into();
        }
        Criterion::Layers { .. } => return "these layers have no such modules".into(),
        Criterion::Modules => return "the model has no such modules".into(),
        Criterion::File { .. } => return "what the files say leaves no entry".into(),
    };
    format!(
        "a sparsity of {} keeps no {} of any {}",
        choice.sparsity,
        choice.unit.word(),
        match choice.scope {
            Scope::Global => "model",
            Scope::PerTensor => "tensor",
            Scope::PerLayer => "layer",
            Scope::PerGroup(_) => "group",
        }
    )
}

fn whole(tensors: &[TensorSize], chosen: &dyn Fn(&TensorSize) -> bool) -> Result<Mask, SparsityError> {
    let all = |tensor: &TensorSize| {
        let count = if chosen(tensor) { tensor.elements() } else { 0 };
        (0..count as u32).collect()
    };
    Mask::new(tensors.to_vec(), tensors.iter().map(all).collect())
}

/// A uniform draw of `floor(elements * kept)` entries from every tensor: the study's mask.
///
/// # Errors
/// As [`choose`].
pub fn random(tensors: &[TensorSize], sparsity: f64, seed: u64, rng: MaskRng) -> Result<Mask, SparsityError> {
    of_spec(tensors, &MaskSpec::random(sparsity, seed, rng), &[])
}

/// The entries of highest score over all tensors together. `scores[i]` belongs to `tensors[i]`.
///
/// # Errors
/// As [`choose`].
pub fn top_k(
    tensors: &[TensorSize],
    scores: &[Vec<f32>],
    sparsity: f64,
    rounding: Rounding,
) -> Result<Mask, SparsityError> {
    if tensors.len() != scores.len() {
        return Err(SparsityError::TensorCount { expected: tensors.len(), got: scores.len() });
    }
    of_spec(tensors, &MaskSpec::scored(super::Score::Magnitude, sparsity, rounding), scores)
}

fn of_spec(tensors: &[TensorSize], spec: &MaskSpec, scores: &[Vec<f32>]) -> Result<Mask, SparsityError> {
    match spec {
        MaskSpec::Full => whole(tensors, &|_| true),
        MaskSpec::Sparse(spec) => choose(tensors, spec, scores, &|| Ok(Vec::new())),
    }
}
