//! A mask: the trained entries of every tensor, as sorted flat indices.
//!
//! Invariant: tensors stand in the model's order (study order, see `data::Architecture::parameters`), indices are
//! strictly ascending and below the tensor's element count. Flat index = row-major in the `[out, in]` layout.

use super::{SparsityError, same_model};

/// Name and shape of a tensor that a mask speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSize {
    /// Parameter name, for example `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Shape, `[out, in]` for matrices.
    pub shape: Vec<usize>,
}

impl TensorSize {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The trained entries of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub(super) tensors: Vec<TensorSize>,
    pub(super) indices: Vec<Vec<u32>>,
}

/// How two masks overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// Entries in both.
    pub intersection: u64,
    /// Entries in either.
    pub union: u64,
}

impl Overlap {
    /// `|A and B| / |A or B|`; two empty masks have no Jaccard index.
    pub fn jaccard(&self) -> Option<f64> {
        (self.union > 0).then(|| self.intersection as f64 / self.union as f64)
    }
}

/// The Jaccard index expected of two independent uniform masks of densities `p` and `q`: `pq / (p + q - pq)`,
/// which is `p / (2 - p)` for equal densities.
pub fn chance_jaccard(p: f64, q: f64) -> f64 {
    p * q / (p + q - p * q)
}

impl Mask {
    /// Builds a mask and checks the invariant.
    ///
    /// # Errors
    /// When the lists have different lengths, a tensor has more than 2^31 entries, an index is out of range, or indices do not ascend strictly.
    pub fn new(tensors: Vec<TensorSize>, indices: Vec<Vec<u32>>) -> Result<Self, SparsityError> {
        if tensors.len() != indices.len() {
            return Err(SparsityError::TensorCount { expected: tensors.len(), got: indices.len() });
        }
        for (tensor, list) in tensors.iter().zip(&indices) {
            // Files hold indices as int32.
            if tensor.elements() > 1 << 31 {
                return Err(SparsityError::TooLarge { tensor: tensor.name.clone() });
            }
            if let Some(pair) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(SparsityError::Unsorted { tensor: tensor.name.clone(), index: pair[1] });
            }
            if let Some(&last) = list.last()
                && last as usize >= tensor.elements()
            {
                return Err(SparsityError::OutOfRange {
                    tensor: tensor.name.clone(),
                    index: last,
                    elements: tensor.elements(),
                });
            }
        }
        Ok(Self { tensors, indices })
    }

    /// The tensors, in the model's order.
    pub fn tensors(&self) -> &[TensorSize] {
        &self.tensors
    }

    /// The sorted flat indices of each tensor, in the same order.
    pub fn indices(&self) -> &[Vec<u32>] {
        &self.indices
    }

    /// Trained entries.
    pub fn active(&self) -> usize {
        self.indices.iter().map(Vec::len).sum()
    }

    /// All entries.
    pub fn total(&self) -> usize {
        self.tensors.iter().map(TensorSize::elements).sum()
    }

    /// Trained share, `active / total`.
    pub fn density(&self) -> f64 {
        self.active() as f64 / self.total() as f64
    }

    /// Counts common and united entries by merging the sorted lists.
    ///
    /// # Errors
    /// When the masks are of different models.
    pub fn overlap(&self, other: &Self) -> Result<Overlap, SparsityError> {
        same_model(&self.tensors, &other.tensors)?;
        let intersection = self.indices.iter().zip(&other.indices).map(|(a, b)| common(a, b)).sum::<u64>();
        let union = (self.active() + other.active()) as u64 - intersection;
        Ok(Overlap { intersection, union })
    }
}

/// How many numbers two ascending lists have in common.
pub(super) fn common(a: &[u32], b: &[u32]) -> u64 {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                count += 1;
                i += 1;
                j += 1;
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<TensorSize> {
        vec![
            TensorSize { name: "a".into(), shape: vec![2, 3] },
            TensorSize { name: "b".into(), shape: vec![4] },
        ]
    }

    #[test]
    fn overlap_counts_by_hand() {
        let left = Mask::new(tensors(), vec![vec![0, 2, 5], vec![1]]).unwrap();
        let right = Mask::new(tensors(), vec![vec![2, 3, 5], vec![0, 2]]).unwrap();
        // Common: a2, a5. United: a0 a2 a3 a5, b0 b1 b2.
        assert_eq!(left.overlap(&right).unwrap(), Overlap { intersection: 2, union: 7 });
        assert_eq!(left.overlap(&left).unwrap().jaccard(), Some(1.0));
        assert_eq!((left.active(), left.total()), (4, 10));
    }

    #[test]
    fn empty_masks_have_no_jaccard() {
        let empty = Mask::new(tensors(), vec![vec![], vec![]]).unwrap();
        assert_eq!(empty.overlap(&empty).unwrap().jaccard(), None);
    }

    #[test]
    fn the_invariant_is_checked() {
        assert!(matches!(
            Mask::new(tensors(), vec![vec![6], vec![]]),
            Err(SparsityError::OutOfRange { index: 6, elements: 6, .. })
        ));
        for bad in [vec![2, 2], vec![3, 1]] {
            assert!(matches!(Mask::new(tensors(), vec![bad, vec![]]), Err(SparsityError::Unsorted { .. })));
        }
        assert!(matches!(Mask::new(tensors(), vec![vec![]]), Err(SparsityError::TensorCount { .. })));
        let large = vec![TensorSize { name: "a".into(), shape: vec![1 << 31, 2] }];
        assert!(matches!(Mask::new(large, vec![vec![]]), Err(SparsityError::TooLarge { .. })));
        let other = vec![TensorSize { name: "a".into(), shape: vec![6] }];
        let (a, b) =
            (Mask::new(tensors(), vec![vec![], vec![]]).unwrap(), Mask::new(other, vec![vec![]]).unwrap());
        assert!(matches!(a.overlap(&b), Err(SparsityError::DifferentModels { .. })));
    }

    #[test]
    fn chance_is_the_closed_form() {
        assert!((chance_jaccard(0.01, 0.01) - 0.01 / 1.99).abs() < 1e-15);
        // 1 % against 0.1 %: 1e-5 / (0.011 - 1e-5) = 0.00090992.
        assert!((chance_jaccard(0.01, 0.001) - 1e-5 / 0.010_99).abs() < 1e-15);
    }
}
