//! How many entries a mask keeps, before any is chosen.

use super::draw::GroupCounts;
use super::pools::{Units, pools};
use super::{
    Choice, Control, Criterion, Join, MaskSpec, ModuleKind, Rounding, Scope, Side, Sparse, SparsityError,
    TensorSize, Unit, layer_of,
};

/// How many of `elements` entries a mask of this sparsity keeps.
///
/// The kept share is `1 - sparsity` **in decimal**, so that 0.9 keeps 0.1 and not 0.0999...: the sparsity is read
/// at its shortest spelling.
///
/// # Errors
/// When the sparsity is not a number in [0, 1].
pub fn kept_count(elements: usize, sparsity: f64, rounding: Rounding) -> Result<usize, SparsityError> {
    if !(0.0..=1.0).contains(&sparsity) {
        return Err(SparsityError::Sparsity { sparsity });
    }
    let text = format!("{sparsity}");
    let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
    if decimals.len() > 30 {
        return Err(SparsityError::Sparsity { sparsity });
    }
    let whole: u128 = u128::from(text.starts_with('1'));
    let scale = 10u128.pow(decimals.len() as u32);
    let fraction: u128 = if decimals.is_empty() { 0 } else { decimals.parse().unwrap_or(0) };
    let kept = scale - whole * scale - fraction;
    let product = kept.checked_mul(elements as u128).ok_or(SparsityError::Sparsity { sparsity })?;
    let count = match rounding {
        Rounding::Floor => product / scale,
        Rounding::Ceil => product.div_ceil(scale),
    };
    Ok(count as usize)
}

/// Whether the decoder layers at one end of a model have this tensor.
pub(super) fn in_layers(name: &str, side: Side, count: u32, layers: u32) -> bool {
    layer_of(name).is_some_and(|layer| match side {
        Side::First => layer < count,
        Side::Last => layer >= layers.saturating_sub(count),
    })
}

/// Decoder layers of a model.
pub(super) fn layers(tensors: &[TensorSize]) -> u32 {
    tensors.iter().filter_map(|tensor| layer_of(&tensor.name)).max().map_or(0, |last| last + 1)
}

/// The entries that a mask trains, tensor by tensor. The sum is exact, but for whole rows or columns out of pools of
/// several tensors and for intersections and unions of files, where it is the most that it can be; the parts are exact
/// where chance or the shape alone decide, and elsewhere a tensor's share.
///
/// # Errors
/// When the sparsity is no share.
pub fn planned_counts(tensors: &[TensorSize], mask: &MaskSpec) -> Result<Vec<u64>, SparsityError> {
    let whole = |tensor: &TensorSize| tensor.elements() as u64;
    let MaskSpec::Sparse(Sparse { criterion, modules, control }) = mask else {
        return Ok(tensors.iter().map(whole).collect());
    };
    let may = |tensor: &TensorSize| modules.has(ModuleKind::of(&tensor.name));
    let of = |chosen: &dyn Fn(&TensorSize) -> bool| {
        tensors.iter().map(|tensor| if chosen(tensor) { whole(tensor) } else { 0 }).collect::<Vec<_>>()
    };
    let mut counts = match criterion {
        Criterion::Random { choice, .. } | Criterion::Scored { choice, .. } => {
            let candidates: Vec<usize> = (0..tensors.len()).filter(|i| may(&tensors[*i])).collect();
            chosen_counts(tensors, &candidates, choice)?
        }
        Criterion::Layers { side, count } => {
            let all = layers(tensors);
            of(&|tensor| may(tensor) && in_layers(&tensor.name, *side, *count, all))
        }
        Criterion::Modules => of(&may),
        Criterion::File { file, with } => {
            let total = tensors.iter().map(whole).sum();
            // Two masks may be disjoint or one within the other; the more entries are trained, the more is planned for.
            let (a, b) = (file.active, with.as_ref().map_or(0, |(_, other)| other.active));
            let least = *control == Control::Complement;
            let active = match with {
                None => a,
                Some((Join::Union, _)) if least => a.max(b),
                Some((Join::Union, _)) => a.saturating_add(b).min(total),
                Some((Join::Intersection, _)) if least => a.saturating_add(b).saturating_sub(total),
                Some((Join::Intersection, _)) => a.min(b),
            };
            let all: Vec<usize> = (0..tensors.len()).collect();
            let mut counts = vec![0; tensors.len()];
            shared_out(tensors, &all, active, &mut counts);
            counts
        }
    };
    if *control == Control::Complement {
        let file = matches!(criterion, Criterion::File { .. });
        for (count, tensor) in counts.iter_mut().zip(tensors) {
            let all = if file || may(tensor) { whole(tensor) } else { 0 };
            *count = all.saturating_sub(*count);
        }
    }
    Ok(counts)
}

fn chosen_counts(
    tensors: &[TensorSize],
    candidates: &[usize],
    choice: &Choice,
) -> Result<Vec<u64>, SparsityError> {
    let mut counts = vec![0; tensors.len()];
    let kept = |of: usize| kept_count(of, choice.sparsity, choice.rounding);
    for pool in pools(tensors, candidates, choice.scope) {
        if let (Scope::PerTensor, [tensor]) = (choice.scope, pool.as_slice()) {
            let units = Units::of(&tensors[*tensor], choice.unit);
            counts[*tensor] = (kept(units.count)? * units.size) as u64;
        } else if let (Scope::PerGroup(group), Unit::Entry) = (choice.scope, choice.unit) {
            for &tensor in &pool {
                counts[tensor] = GroupCounts::new(&tensors[tensor], group, choice)?.total() as u64;
            }
        } else {
            let elements = pool.iter().map(|i| tensors[*i].elements()).sum();
            shared_out(tensors, &pool, kept(elements)? as u64, &mut counts);
        }
    }
    Ok(counts)
}

/// Gives every tensor of a pool its share of a count; what rounding leaves goes to the first that have room.
fn shared_out(tensors: &[TensorSize], pool: &[usize], count: u64, counts: &mut [u64]) {
    let elements = pool.iter().map(|i| tensors[*i].elements() as u64).sum::<u64>();
    let count = count.min(elements);
    let mut left = count;
    for &i in pool {
        let share = u128::from(count) * tensors[i].elements() as u128 / u128::from(elements.max(1));
        counts[i] = share as u64;
        left -= counts[i];
    }
    for &i in pool {
        let more = left.min(tensors[i].elements() as u64 - counts[i]);
        counts[i] += more;
        left -= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_decimal() {
        // 1 - 0.9 is 0.0999... in binary; the decimal share keeps exactly a tenth.
        assert_eq!(kept_count(10, 0.9, Rounding::Floor).unwrap(), 1);
        assert_eq!(kept_count(1000, 0.999, Rounding::Floor).unwrap(), 1);
        assert_eq!(kept_count(896, 0.99, Rounding::Floor).unwrap(), 8);
        assert_eq!(kept_count(128, 0.99, Rounding::Floor).unwrap(), 1);
        // The study's two Fisher counts at 494,032,768 parameters (study of 2025, 99 % ceil and 99.9 % floor).
        assert_eq!(kept_count(494_032_768, 0.99, Rounding::Ceil).unwrap(), 4_940_328);
        assert_eq!(kept_count(494_032_768, 0.999, Rounding::Floor).unwrap(), 494_032);
        assert_eq!(kept_count(7, 0.0, Rounding::Floor).unwrap(), 7);
        assert_eq!(kept_count(7, 1.0, Rounding::Ceil).unwrap(), 0);
        assert_eq!(kept_count(100_000, 0.99999, Rounding::Floor).unwrap(), 1);
        assert_eq!(kept_count(10_000_000, 1e-7, Rounding::Floor).unwrap(), 9_999_999);
        assert!(kept_count(7, f64::NAN, Rounding::Floor).is_err());
    }
}
