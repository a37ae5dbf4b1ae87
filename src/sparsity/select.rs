//! Choosing entries: uniform draws and global top-k, with every tie and rounding decided.

use crate::counter::Counter;

use super::numpy::Generator;
use super::{Mask, MaskRng, Rounding, SparsityError, TensorSize};

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

/// A uniform draw without replacement of `floor(elements * kept)` entries from every tensor.
///
/// `rng = "chacha"`: one stream per tensor **name**, so that a tensor's draw does not depend on the others. Source
/// of the draw: Floyd's sampling algorithm (Bentley and Floyd, CACM 1987). `rng = "numpy"`: one generator for all tensors
/// in their order, as the study drew its masks.
///
/// # Errors
/// When a tensor is too large for 32-bit indices, or nothing at all is kept.
pub fn random(tensors: &[TensorSize], sparsity: f64, seed: u64, rng: MaskRng) -> Result<Mask, SparsityError> {
    let mut numpy = (rng == MaskRng::Numpy).then(|| Generator::new(seed));
    let mut indices = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let elements = u32::try_from(tensor.elements())
            .map_err(|_| SparsityError::TooLarge { tensor: tensor.name.clone() })?;
        let kept = kept_count(tensor.elements(), sparsity, Rounding::Floor)?;
        if let Some(generator) = &mut numpy {
            let mut drawn = generator.choice(elements, kept as u32)?;
            drawn.sort_unstable();
            indices.push(drawn);
            continue;
        }
        let mut counter = Counter::new(seed, &format!("mask/{}", tensor.name), &[]);
        indices.push(sample(elements, kept as u32, &mut counter));
    }
    non_empty(Mask::new(tensors.to_vec(), indices)?, sparsity)
}

/// Floyd's algorithm over a bitmap: `kept` distinct values below `elements`, ascending.
fn sample(elements: u32, kept: u32, counter: &mut Counter) -> Vec<u32> {
    let mut taken = vec![0u64; (elements as usize).div_ceil(64)];
    for top in elements - kept..elements {
        let draw = counter.below(u64::from(top) + 1) as u32;
        let bit = |value: u32| (value as usize / 64, 1u64 << (value % 64));
        let (word, flag) = bit(draw);
        let (word, flag) = if taken[word] & flag == 0 { (word, flag) } else { bit(top) };
        taken[word] |= flag;
    }
    let mut chosen = Vec::with_capacity(kept as usize);
    for (word, mut bits) in taken.into_iter().enumerate() {
        while bits != 0 {
            chosen.push(word as u32 * 64 + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
    chosen
}

/// The `kept_count` entries of highest score over all tensors together.
///
/// Order of selection: score descending, then tensor order, then flat index ascending. `scores[i]` belongs to
/// `tensors[i]`.
///
/// # Errors
/// When a score is not finite, lengths disagree, or nothing at all is kept.
pub fn top_k(
    tensors: &[TensorSize],
    scores: &[Vec<f32>],
    sparsity: f64,
    rounding: Rounding,
) -> Result<Mask, SparsityError> {
    if tensors.len() != scores.len() {
        return Err(SparsityError::TensorCount { expected: tensors.len(), got: scores.len() });
    }
    for (tensor, values) in tensors.iter().zip(scores) {
        if tensor.elements() != values.len() {
            return Err(SparsityError::ScoreCount {
                tensor: tensor.name.clone(),
                expected: tensor.elements(),
                got: values.len(),
            });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(SparsityError::NonFiniteScore { tensor: tensor.name.clone(), index });
        }
    }
    let total = tensors.iter().map(TensorSize::elements).sum();
    let kept = kept_count(total, sparsity, rounding)?;
    if kept == 0 {
        return Err(SparsityError::NothingKept { sparsity });
    }
    // The k-th largest value splits the entries into surely kept, ties, and dropped; ties are taken in order.
    let mut all: Vec<f32> = scores.iter().flatten().copied().collect();
    let (_, &mut threshold, _) = all.select_nth_unstable_by(kept - 1, |a, b| b.total_cmp(a));
    drop(all);
    let above = scores.iter().flatten().filter(|score| score.total_cmp(&threshold).is_gt()).count();
    let mut ties = kept - above;
    let indices = scores
        .iter()
        .map(|values| {
            let mut chosen = Vec::new();
            for (index, value) in values.iter().enumerate() {
                let order = value.total_cmp(&threshold);
                if order.is_gt() || (order.is_eq() && ties > 0) {
                    ties -= usize::from(order.is_eq());
                    chosen.push(index as u32);
                }
            }
            chosen
        })
        .collect();
    Mask::new(tensors.to_vec(), indices)
}

fn non_empty(mask: Mask, sparsity: f64) -> Result<Mask, SparsityError> {
    if mask.active() == 0 { Err(SparsityError::NothingKept { sparsity }) } else { Ok(mask) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(sizes: &[usize]) -> Vec<TensorSize> {
        sizes
            .iter()
            .enumerate()
            .map(|(i, &elements)| TensorSize { name: format!("t{i}"), shape: vec![elements] })
            .collect()
    }

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

    #[test]
    fn random_masks_have_exact_counts_and_depend_on_seed_and_name_alone() {
        let sizes = tensors(&[1000, 50, 8]);
        let mask = random(&sizes, 0.9, 3, MaskRng::Chacha).unwrap();
        assert_eq!(mask.indices().iter().map(Vec::len).collect::<Vec<_>>(), vec![100, 5, 0]);
        assert_eq!(mask, random(&sizes, 0.9, 3, MaskRng::Chacha).unwrap());
        assert_ne!(mask, random(&sizes, 0.9, 4, MaskRng::Chacha).unwrap());
        let alone = random(&sizes[1..2], 0.9, 3, MaskRng::Chacha).unwrap();
        assert_eq!(alone.indices()[0], mask.indices()[1]);
    }

    #[test]
    fn random_masks_are_uniform() {
        // Ten entries, three kept, 3000 seeds: each entry is kept 900 times on average, deviation 25.
        let sizes = tensors(&[10]);
        let mut counts = [0u32; 10];
        for seed in 0..3000 {
            for &index in &random(&sizes, 0.7, seed, MaskRng::Chacha).unwrap().indices()[0] {
                counts[index as usize] += 1;
            }
        }
        assert!(counts.iter().all(|&n| (750..=1050).contains(&n)), "{counts:?}");
    }

    #[test]
    fn independent_masks_overlap_at_chance() {
        let sizes = tensors(&[1_000_000]);
        let masks: Vec<Mask> = (0..2).map(|s| random(&sizes, 0.99, s, MaskRng::Chacha).unwrap()).collect();
        let jaccard = masks[0].overlap(&masks[1]).unwrap().jaccard().unwrap();
        // Chance 0.0050251; the intersection of 10,000 with 10,000 has mean 100 and deviation 10.
        assert!((jaccard - super::super::chance_jaccard(0.01, 0.01)).abs() < 0.003, "{jaccard}");
    }

    #[test]
    fn top_k_takes_ties_in_tensor_then_index_order() {
        let sizes = tensors(&[4, 4]);
        let scores = vec![vec![1.0, 5.0, 2.0, 1.0], vec![2.0, 2.0, 9.0, 0.0]];
        // Kept: 9, 5, then of the three 2s the first (t0[2]) and the second (t1[0]).
        let mask = top_k(&sizes, &scores, 0.5, Rounding::Floor).unwrap();
        assert_eq!(mask.indices(), &[vec![1, 2], vec![0, 2]]);
    }

    #[test]
    fn top_k_of_all_equal_scores_is_a_prefix() {
        let mask = top_k(&tensors(&[3, 3]), &[vec![0.0; 3], vec![0.0; 3]], 0.4, Rounding::Ceil).unwrap();
        // ceil(6 * 0.6) = 4.
        assert_eq!(mask.indices(), &[vec![0, 1, 2], vec![0]]);
    }

    #[test]
    fn top_k_refuses_bad_scores() {
        let sizes = tensors(&[2]);
        let not_finite = top_k(&sizes, &[vec![0.0, f32::NAN]], 0.5, Rounding::Floor);
        assert!(matches!(not_finite, Err(SparsityError::NonFiniteScore { index: 1, .. })));
        let short = top_k(&sizes, &[vec![0.0]], 0.5, Rounding::Floor);
        assert!(matches!(short, Err(SparsityError::ScoreCount { .. })));
        let nothing = top_k(&sizes, &[vec![0.0, 1.0]], 0.9, Rounding::Floor);
        assert!(matches!(nothing, Err(SparsityError::NothingKept { .. })));
    }
}
