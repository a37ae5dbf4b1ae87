//! The form with indices: one list of flat, ascending, row-major indices per parameter.

use super::MasksError;
use super::error::IndexFault;
use super::read::each_piece;
use crate::data::{TensorEntry, TensorFile};
use crate::sparsity::TensorSize;

/// The indices of a tensor, checked.
pub fn indices(file: &TensorFile, entry: &TensorEntry, size: &TensorSize) -> Result<Vec<u32>, MasksError> {
    if entry.shape.len() != 1 {
        let (path, tensor) = (file.path().into(), entry.name.clone());
        return Err(MasksError::NoList { path, tensor, shape: entry.shape.clone() });
    }
    let mut list = Ascending {
        elements: size.elements() as i64,
        before: -1,
        indices: Vec::with_capacity(entry.elements().min(size.elements())),
    };
    let wide = entry.dtype == "I64";
    each_piece(file, entry, |bytes| {
        let taken = if wide {
            list.take(bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)))
        } else {
            list.take(bytes.as_chunks::<4>().0.iter().map(|word| i64::from(i32::from_le_bytes(*word))))
        };
        taken.map_err(|(index, fault)| MasksError::Index {
            path: file.path().into(),
            tensor: entry.name.clone(),
            position: list.indices.len(),
            index,
            fault,
        })
    })?;
    Ok(list.indices)
}

/// A list in the making.
struct Ascending {
    elements: i64,
    before: i64,
    indices: Vec<u32>,
}

impl Ascending {
    /// Adds numbers up to the first that cannot be there.
    fn take(&mut self, numbers: impl Iterator<Item = i64>) -> Result<(), (i64, IndexFault)> {
        for number in numbers {
            if number <= self.before || number >= self.elements {
                return Err((number, self.fault(number)));
            }
            self.before = number;
            self.indices.push(number as u32);
        }
        Ok(())
    }

    fn fault(&self, number: i64) -> IndexFault {
        if number < 0 {
            IndexFault::Negative
        } else if number >= self.elements {
            IndexFault::OutOfRange { elements: self.elements as usize }
        } else if number == self.before {
            IndexFault::Twice
        } else {
            IndexFault::Unsorted { before: self.before }
        }
    }
}
