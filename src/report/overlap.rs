//! How two masks overlap: counts by a linear merge of sorted index lists.
//!
//! In: masks as sorted flat indices per tensor. Out: an [`Overlap`]. Invariant: the result does not depend on the
//! order of the two masks but for the names, and no list is copied.

use std::collections::BTreeMap;

use super::result::Overlap;
use crate::sparsity::chance_jaccard;

/// The active entries of a mask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskIndices {
    /// A readable name, unique among the masks of a report.
    pub name: String,
    /// Sorted flat indices per tensor; an absent tensor has no active entry.
    pub tensors: BTreeMap<String, Vec<i32>>,
    /// Active entries.
    pub active: u64,
    /// Entries of the model.
    pub total: u64,
}

/// The number of common elements of two ascending lists.
pub fn intersection(a: &[i32], b: &[i32]) -> u64 {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                i += 1;
                j += 1;
            }
        }
    }
    common
}

/// The expected Jaccard index of two independent masks of densities `p` and `q`, empty ones included.
///
/// Departure: the ratio of expectations, not the expectation of the ratio; at the sizes of a model they agree to many
/// digits.
pub fn chance(p: f64, q: f64) -> f64 {
    if p + q > 0.0 { chance_jaccard(p, q) } else { 1.0 }
}

/// Counts one pair.
pub fn overlap(a: &MaskIndices, b: &MaskIndices) -> Overlap {
    let common: u64 = a
        .tensors
        .iter()
        .map(|(name, indices)| b.tensors.get(name).map_or(0, |other| intersection(indices, other)))
        .sum();
    let union = a.active + b.active - common;
    let total = a.total.max(b.total);
    let density = |active: u64| if total == 0 { 0.0 } else { active as f64 / total as f64 };
    Overlap {
        a: a.name.clone(),
        b: b.name.clone(),
        count_a: a.active,
        count_b: b.active,
        total,
        intersection: common,
        union,
        jaccard: if union == 0 { 1.0 } else { common as f64 / union as f64 },
        chance: chance(density(a.active), density(b.active)),
    }
}

/// Counts every pair, in the order given.
pub fn all_pairs(masks: &[MaskIndices]) -> Vec<Overlap> {
    let mut pairs = Vec::new();
    for (i, a) in masks.iter().enumerate() {
        for b in &masks[i + 1..] {
            pairs.push(overlap(a, b));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(name: &str, total: u64, tensors: &[(&str, &[i32])]) -> MaskIndices {
        MaskIndices {
            name: name.to_owned(),
            tensors: tensors.iter().map(|(name, indices)| ((*name).to_owned(), indices.to_vec())).collect(),
            active: tensors.iter().map(|(_, indices)| indices.len() as u64).sum(),
            total,
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-15
    }

    #[test]
    fn a_merge_counts_common_elements() {
        assert_eq!(intersection(&[1, 3, 5, 9], &[0, 3, 4, 9, 12]), 2);
        assert_eq!(intersection(&[], &[1]), 0);
        assert_eq!(intersection(&[7], &[7]), 1);
        assert_eq!(intersection(&[1, 2], &[3, 4]), 0);
    }

    #[test]
    fn pairs_count_per_tensor_and_ignore_absent_ones() {
        // Same flat indices in different tensors are different entries.
        let a = mask("a", 100, &[("w", &[0, 1, 2, 3]), ("x", &[5])]);
        let b = mask("b", 100, &[("v", &[0, 1]), ("w", &[2, 3, 8])]);
        let pair = overlap(&a, &b);
        // Common: w 2 and 3. Union: 5 + 5 - 2 = 8.
        assert_eq!((pair.count_a, pair.count_b, pair.intersection, pair.union), (5, 5, 2, 8));
        assert!(close(pair.jaccard, 0.25));
        // p = q = 0.05: 0.05 / 1.95.
        assert!((pair.chance - 0.05 / 1.95).abs() < 1e-15);
        let back = overlap(&b, &a);
        assert_eq!(back.intersection, 2);
        assert!(close(back.jaccard, 0.25) && close(back.chance, pair.chance));
    }

    #[test]
    fn chance_of_equal_and_unequal_densities() {
        // The study's value: p = 0.01 gives 0.0050251 (p / (2 - p)).
        assert!((chance(0.01, 0.01) - 0.005_025_125_628).abs() < 1e-12);
        // p = 0.5, q = 0.25: 0.125 / 0.625 = 0.2.
        assert!(close(chance(0.5, 0.25), 0.2));
        assert!(close(chance(0.0, 0.0), 1.0));
        assert!(close(chance(0.0, 0.5), 0.0));
    }

    #[test]
    fn degenerate_masks_have_an_overlap() {
        let empty = mask("e", 10, &[]);
        assert!(close(overlap(&empty, &empty).jaccard, 1.0));
        let one = mask("o", 10, &[("w", &[1])]);
        assert!(close(overlap(&empty, &one).jaccard, 0.0));
        assert!(close(overlap(&one, &one).jaccard, 1.0));
        assert_eq!(all_pairs(&[empty, one.clone(), one]).len(), 3);
    }
}
