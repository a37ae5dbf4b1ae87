//! A mask: the trained entries of every tensor, as sorted flat indices.
//!
//! Invariant: tensors stand in the model's order (study order, see `data::Architecture::parameters`), indices are
//! strictly ascending and below the tensor's element count. Flat index = row-major in the `[out, in]` layout.

use super::SparsityError;

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
    fn entries_are_counted() {
        let mask = Mask::new(tensors(), vec![vec![0, 2, 5], vec![1]]).unwrap();
        assert_eq!((mask.active(), mask.total()), (4, 10));
        assert!((mask.density() - 0.4).abs() < 1e-15);
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
    }
}
