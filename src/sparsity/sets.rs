//! Masks as sets of entries: union, intersection, complement.
//!
//! Memory: the masks given and the result, whose lists have no spare room.

use super::{Mask, SparsityError, TensorSize, common};

/// Whether two lists are the tensors of one model, in the same order.
///
/// # Errors
/// [`SparsityError::DifferentModels`] with the first difference.
pub fn same_model(first: &[TensorSize], second: &[TensorSize]) -> Result<(), SparsityError> {
    match first_difference(first, second) {
        None => Ok(()),
        Some(difference) => Err(SparsityError::DifferentModels { difference }),
    }
}

impl Mask {
    /// The entries that are in either mask.
    ///
    /// # Errors
    /// When the masks are of different models.
    pub fn union(&self, other: &Self) -> Result<Self, SparsityError> {
        self.combined(other, united)
    }

    /// The entries that are in both masks. There may be none.
    ///
    /// # Errors
    /// When the masks are of different models.
    pub fn intersection(&self, other: &Self) -> Result<Self, SparsityError> {
        self.combined(other, shared)
    }

    /// The entries that are not in the mask.
    #[must_use]
    pub fn complement(&self) -> Self {
        let lists = self.tensors.iter().zip(&self.indices);
        let indices = lists.map(|(tensor, list)| rest(list, tensor.elements())).collect();
        Self { tensors: self.tensors.clone(), indices }
    }

    fn combined(&self, other: &Self, of: fn(&[u32], &[u32]) -> Vec<u32>) -> Result<Self, SparsityError> {
        same_model(&self.tensors, &other.tensors)?;
        let indices = self.indices.iter().zip(&other.indices).map(|(a, b)| of(a, b)).collect();
        Ok(Self { tensors: self.tensors.clone(), indices })
    }
}

/// What the first two lists of tensors do not have in common, for people.
fn first_difference(first: &[TensorSize], second: &[TensorSize]) -> Option<String> {
    let at = first.iter().zip(second).position(|(a, b)| a != b);
    if let Some(at) = at {
        let (a, b) = (&first[at], &second[at]);
        let number = at + 1;
        return Some(if a.name == b.name {
            format!("{} has the shape {:?} in the first and {:?} in the second", a.name, a.shape, b.shape)
        } else {
            format!("tensor {number} is {} in the first and {} in the second", a.name, b.name)
        });
    }
    let (which, extra) = match first.len().cmp(&second.len()) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Less => ("second", &second[first.len()]),
        std::cmp::Ordering::Greater => ("first", &first[second.len()]),
    };
    Some(format!("only the {which} has {}", extra.name))
}

/// Both lists are sorted, and so is what comes out; here and below.
fn united(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut list = Vec::with_capacity(a.len() + b.len() - common(a, b) as usize);
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let next = a[i].min(b[j]);
        i += usize::from(a[i] == next);
        j += usize::from(b[j] == next);
        list.push(next);
    }
    list.extend_from_slice(&a[i..]);
    list.extend_from_slice(&b[j..]);
    list
}

fn shared(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut list = Vec::with_capacity(common(a, b) as usize);
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            list.push(a[i]);
        }
        let next = a[i].min(b[j]);
        i += usize::from(a[i] == next);
        j += usize::from(b[j] == next);
    }
    list
}

fn rest(list: &[u32], elements: usize) -> Vec<u32> {
    let mut rest = Vec::with_capacity(elements - list.len());
    let mut next = 0;
    for &index in list {
        rest.extend(next..index);
        next = index + 1;
    }
    rest.extend(next..elements as u32);
    rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Entries = BTreeSet<(usize, u32)>;

    fn size(name: &str, shape: &[usize]) -> TensorSize {
        TensorSize { name: name.into(), shape: shape.into() }
    }

    fn tensors() -> Vec<TensorSize> {
        vec![size("a", &[3, 5]), size("b", &[1]), size("empty", &[0]), size("c", &[9])]
    }

    fn mask(entries: &Entries) -> Mask {
        let lists = (0..tensors().len())
            .map(|tensor| entries.iter().filter(|(of, _)| *of == tensor).map(|(_, index)| *index).collect());
        Mask::new(tensors(), lists.collect()).unwrap()
    }

    fn entries(mask: &Mask) -> Entries {
        // As any reader would: through the checks.
        let mask = Mask::new(mask.tensors().to_vec(), mask.indices().to_vec()).unwrap();
        let lists = mask.indices().iter().enumerate();
        lists.flat_map(|(tensor, list)| list.iter().map(move |index| (tensor, *index))).collect()
    }

    fn universe() -> Entries {
        let sizes = tensors();
        let of = |tensor: usize| (0..sizes[tensor].elements() as u32).map(move |index| (tensor, index));
        (0..sizes.len()).flat_map(of).collect()
    }

    fn any_entries() -> impl Strategy<Value = Entries> {
        let all: Vec<_> = universe().into_iter().collect();
        prop::sample::subsequence(all.clone(), 0..=all.len()).prop_map(|list| list.into_iter().collect())
    }

    proptest! {
        #[test]
        fn masks_are_sets(a in any_entries(), b in any_entries()) {
            let (left, right) = (mask(&a), mask(&b));
            let (union, intersection) = (left.union(&right).unwrap(), left.intersection(&right).unwrap());
            prop_assert_eq!(entries(&union), &a | &b);
            prop_assert_eq!(entries(&intersection), &a & &b);
            prop_assert_eq!(entries(&left.complement()), &universe() - &a);
            // No list has room to spare: at half a billion entries that would be gigabytes.
            for made in [union, intersection, left.complement()] {
                prop_assert!(made.indices().iter().all(|list| list.capacity() == list.len()));
            }
        }
    }

    #[test]
    fn full_and_empty_are_each_others_complement() {
        let (full, empty) = (mask(&universe()), mask(&Entries::new()));
        assert_eq!((full.complement(), empty.complement()), (empty, full));
    }

    #[test]
    fn masks_of_other_models_are_not_combined() {
        let of = |tensors: Vec<TensorSize>| {
            let lists = vec![vec![]; tensors.len()];
            Mask::new(tensors, lists).unwrap()
        };
        let known = of(vec![size("a", &[2, 3]), size("b", &[4])]);
        for (other, what) in [
            (
                vec![size("a", &[3, 2]), size("b", &[4])],
                "a has the shape [2, 3] in the first and [3, 2] in the second",
            ),
            (vec![size("a", &[2, 3]), size("c", &[4])], "tensor 2 is b in the first and c in the second"),
            (vec![size("a", &[2, 3])], "only the first has b"),
            (vec![size("a", &[2, 3]), size("b", &[4]), size("d", &[1])], "only the second has d"),
        ] {
            let other = of(other);
            for error in [known.union(&other).unwrap_err(), known.intersection(&other).unwrap_err()] {
                assert!(error.to_string().ends_with(what), "{error}");
            }
        }
        assert!(same_model(known.tensors(), known.tensors()).is_ok());
    }
}
