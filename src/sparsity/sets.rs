//! Masks as sets: union, intersection, complement.
//!
//! Invariant: lists stay sorted, and the memory taken is that of the result.

use super::{Mask, SparsityError};

impl Mask {
    /// The entries of either.
    ///
    /// # Errors
    /// When the masks are of different models.
    pub fn union(&self, other: &Self) -> Result<Self, SparsityError> {
        self.joined(other, |a, b| {
            let mut both = Vec::with_capacity(a.len().max(b.len()));
            let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
            loop {
                let next = match (a.peek(), b.peek()) {
                    (Some(left), Some(right)) => *left.min(right),
                    (Some(only), None) | (None, Some(only)) => *only,
                    (None, None) => return both,
                };
                let _ = (a.next_if_eq(&next), b.next_if_eq(&next));
                both.push(next);
            }
        })
    }

    /// The entries of both.
    ///
    /// # Errors
    /// When the masks are of different models.
    pub fn intersection(&self, other: &Self) -> Result<Self, SparsityError> {
        self.joined(other, |a, b| {
            let mut rest = b;
            let common = a.iter().filter(|index| {
                rest = &rest[rest.partition_point(|other| other < index)..];
                rest.first() == Some(index)
            });
            common.copied().collect()
        })
    }

    /// All other entries.
    #[must_use]
    pub fn complement(&self) -> Self {
        let others = self.tensors().iter().zip(self.indices()).map(|(tensor, indices)| {
            let mut taken = indices.iter().peekable();
            let mut others = Vec::with_capacity(tensor.elements() - indices.len());
            others.extend((0..tensor.elements() as u32).filter(|index| taken.next_if_eq(&index).is_none()));
            others
        });
        Self { indices: others.collect(), tensors: self.tensors.clone() }
    }

    /// Empties all tensors but these.
    pub(super) fn retain(&mut self, kept: &[usize]) {
        for (i, indices) in self.indices.iter_mut().enumerate() {
            if !kept.contains(&i) {
                *indices = Vec::new();
            }
        }
    }

    fn joined(
        &self,
        other: &Self,
        join: impl Fn(&[u32], &[u32]) -> Vec<u32>,
    ) -> Result<Self, SparsityError> {
        if self.tensors != other.tensors {
            return Err(SparsityError::DifferentModels);
        }
        let indices = self.indices.iter().zip(&other.indices).map(|(a, b)| join(a, b)).collect();
        Ok(Self { indices, tensors: self.tensors.clone() })
    }
}
