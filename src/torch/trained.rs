//! What a run made of its base, tensor by tensor: which entries changed, and to what, in the type that the files have.
//!
//! An entry counts as changed when its float32 value is no longer the one that training began with *and* its bytes in the
//! file's type differ from the base's. So an entry that never moved keeps the base's bytes, whatever type it was trained in.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::data::{Change, TensorEntry, TensorFile, width};
use crate::sparsity::Mask;

use super::weights::raw;
use super::{TorchError, Weights};

/// The final values of a run, read from its final state tensor by tensor.
pub struct Trained {
    state: TensorFile,
    /// Sorted flat indices by tensor; `None` when every entry is active.
    active: Option<BTreeMap<String, Vec<i64>>>,
    /// The type that the run computed in.
    kind: Kind,
}

impl Trained {
    /// Of a final state, the mask that it belongs to, and the type that the run computed in.
    pub fn new(state: TensorFile, mask: Option<&Mask>, kind: Kind) -> Self {
        let active = mask.map(|mask| {
            let lists =
                mask.indices().iter().map(|list| list.iter().map(|&index| i64::from(index)).collect());
            mask.tensors().iter().map(|tensor| tensor.name.clone()).zip(lists).collect()
        });
        Self { state, active, kind }
    }

    /// What became of a tensor whose bytes in the base are `base`; `None`: nothing that its type can show.
    ///
    /// # Errors
    /// When the state has another tensor, or memory runs out.
    pub fn change(&self, entry: &TensorEntry, base: &[u8]) -> Result<Option<Change>, TorchError> {
        let _guard = tch::no_grad_guard();
        let kind = kind_of(entry)?;
        let before = Tensor::f_from_data_size(base, &[elements(entry)], kind)?;
        let after = self.values(&entry.name)?;
        let index = match &self.active {
            Some(active) => {
                let list = active.get(&entry.name).ok_or_else(|| unknown(&entry.name))?;
                Some(Tensor::f_from_slice(list)?)
            }
            None => None,
        };
        let chosen = match &index {
            Some(index) => before.f_index_select(0, index)?,
            None => before.shallow_clone(),
        };
        if chosen.numel() != after.numel() {
            return Err(unknown(&entry.name));
        }
        let start = chosen.f_to_kind(self.kind)?.f_to_kind(Kind::Float)?;
        let stored = after.f_to_kind(kind)?;
        if stored.f_isfinite()?.f_all()?.int64_value(&[]) == 0 {
            return Err(TorchError::Overflow {
                what: format!("{}: a trained value in {}", entry.name, entry.dtype),
            });
        }
        let differs = bits(&after)?
            .f_ne_tensor(&bits(&start)?)?
            .f_logical_and(&bits(&stored)?.f_ne_tensor(&bits(&chosen)?)?)?;
        let count = i64::try_from(differs.f_sum(Kind::Int64)?)? as usize;
        if count == 0 {
            return Ok(None);
        }
        let width = width(&entry.dtype).unwrap_or(1);
        if count * (4 + width) >= base.len() {
            let values = stored.f_where_self(&differs, &chosen)?;
            let whole = match &index {
                Some(index) => before.f_index_copy(0, index, &values)?,
                None => values,
            };
            return Ok(Some(Change::Whole(raw(&entry.name, &[], &whole)?.bytes)));
        }
        let at = differs.f_nonzero()?.f_squeeze_dim(1)?;
        let places = match &index {
            Some(index) => index.f_index_select(0, &at)?,
            None => at.shallow_clone(),
        };
        let indices = Vec::<i64>::try_from(&places)?.into_iter().map(|index| index as u32).collect();
        let values = raw(&entry.name, &[], &stored.f_index_select(0, &at)?)?.bytes;
        Ok(Some(Change::Entries { indices, values }))
    }

    /// Puts the final values into the base's weights.
    ///
    /// # Errors
    /// When the state has other tensors, or memory runs out.
    pub fn put_into(&self, weights: &mut Weights) -> Result<(), TorchError> {
        let _guard = tch::no_grad_guard();
        for (parameter, tensor) in weights.parameters.iter().zip(&mut weights.tensors) {
            let values =
                self.values(&parameter.name)?.f_to_kind(tensor.kind())?.f_to_device(tensor.device())?;
            let mut flat = tensor.f_view([-1])?;
            match &self.active {
                Some(active) => {
                    let list = active.get(&parameter.name).ok_or_else(|| unknown(&parameter.name))?;
                    let index = Tensor::f_from_slice(list)?.f_to_device(tensor.device())?;
                    let _ = flat.f_index_copy_(0, &index, &values)?;
                }
                None => flat.f_copy_(&values)?,
            }
        }
        Ok(())
    }

    /// The final float32 values of a tensor's active entries.
    fn values(&self, name: &str) -> Result<Tensor, TorchError> {
        let entry = self.state.entry(&format!("value/{name}")).filter(|entry| entry.dtype == "F32");
        let bytes = self.state.read(entry.ok_or_else(|| unknown(name))?)?;
        Ok(Tensor::f_from_data_size(&bytes, &[(bytes.len() / 4) as i64], Kind::Float)?)
    }
}

/// A tensor's bytes in another type, and the entry that describes them.
///
/// # Errors
/// When its type is none that weights have.
pub fn converted(
    entry: &TensorEntry,
    bytes: Vec<u8>,
    dtype: &str,
) -> Result<(TensorEntry, Vec<u8>), TorchError> {
    if dtype == entry.dtype {
        return Ok((entry.clone(), bytes));
    }
    let other = TensorEntry { dtype: dtype.to_owned(), length: bytes.len(), ..entry.clone() };
    let tensor = Tensor::f_from_data_size(&bytes, &[elements(entry)], kind_of(entry)?)?;
    let bytes = raw(&entry.name, &[], &tensor.f_to_kind(kind_of(&other)?)?)?.bytes;
    Ok((TensorEntry { length: bytes.len(), ..other }, bytes))
}

fn elements(entry: &TensorEntry) -> i64 {
    entry.elements() as i64
}

fn kind_of(entry: &TensorEntry) -> Result<Kind, TorchError> {
    match entry.dtype.as_str() {
        "F32" => Ok(Kind::Float),
        "F16" => Ok(Kind::Half),
        "BF16" => Ok(Kind::BFloat16),
        other => {
            let what = format!("{}: type {other} is not supported, only F32, BF16 and F16", entry.name);
            Err(TorchError::Restore { what })
        }
    }
}

/// The same bits as integers: comparing floats would take -0 for 0.
/// The numbers as integers of their width: what is compared bit by bit.
pub(super) fn bits(tensor: &Tensor) -> Result<Tensor, TorchError> {
    let kind = if tensor.kind() == Kind::Float { Kind::Int } else { Kind::Int16 };
    Ok(tensor.f_view_dtype(kind)?)
}

fn unknown(name: &str) -> TorchError {
    TorchError::Restore { what: format!("{name}: the final state of the run is not of this model") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::safetensors::{RawTensor, to_bytes};
    use crate::sparsity::TensorSize;
    use crate::store::write_file;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn state(values: &[f32]) -> TensorFile {
        let tensor = RawTensor {
            name: "value/w".into(),
            dtype: "F32",
            shape: vec![values.len()],
            bytes: f32s(values),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_file(&path, &to_bytes(&[tensor], &BTreeMap::new())).unwrap();
        TensorFile::open(&path).unwrap()
    }

    fn mask(indices: &[u32], elements: usize) -> Mask {
        Mask::new(vec![TensorSize { name: "w".into(), shape: vec![elements] }], vec![indices.to_vec()])
            .unwrap()
    }

    fn entry(dtype: &str, elements: usize) -> TensorEntry {
        TensorEntry {
            name: "w".into(),
            dtype: dtype.into(),
            shape: vec![elements],
            start: 0,
            length: elements * width(dtype).unwrap(),
        }
    }

    /// Bits of numbers that bfloat16 holds exactly.
    fn bf16(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()).collect()
    }

    #[test]
    fn only_what_moved_and_shows_is_a_change() {
        // Entries 1, 3 and 5 are active. 1 did not move; 3 moved by less than bfloat16 shows; 5 moved.
        let base = bf16(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let trained = Trained::new(state(&[2.0, 4.001, 8.0]), Some(&mask(&[1, 3, 5], 6)), Kind::BFloat16);
        let change = trained.change(&entry("BF16", 6), &base).unwrap().unwrap();
        assert_eq!(change, Change::Entries { indices: vec![5], values: bf16(&[8.0]) });
        // In float32 files the small move shows.
        let base = f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let change = trained.change(&entry("F32", 6), &base).unwrap().unwrap();
        assert_eq!(change, Change::Entries { indices: vec![3, 5], values: f32s(&[4.001, 8.0]) });
    }

    #[test]
    fn an_entry_that_never_moved_keeps_the_bytes_that_bfloat16_cannot_hold() {
        // The run saw 1.001 as bfloat16, 1.0, and left it there.
        let base = f32s(&[1.001, 2.0, 3.0]);
        let trained = Trained::new(state(&[1.0, 2.5]), Some(&mask(&[0, 1], 3)), Kind::BFloat16);
        let change = trained.change(&entry("F32", 3), &base).unwrap().unwrap();
        assert_eq!(change, Change::Entries { indices: vec![1], values: f32s(&[2.5]) });
        // Where a list of entries would be longer than the tensor, it comes whole, with the same bytes in it.
        let base = f32s(&[1.001, 2.0]);
        let trained = Trained::new(state(&[1.0, 2.5]), Some(&mask(&[0, 1], 2)), Kind::BFloat16);
        let change = trained.change(&entry("F32", 2), &base).unwrap().unwrap();
        assert_eq!(change, Change::Whole(f32s(&[1.001, 2.5])));
        // What half precision cannot hold is not written as infinity.
        let trained = Trained::new(state(&[1e6]), None, Kind::Float);
        assert!(matches!(
            trained.change(&entry("F16", 1), &[0, 0]).unwrap_err(),
            TorchError::Overflow { .. }
        ));
    }

    #[test]
    fn a_full_run_changes_tensors_whole_and_zeros_keep_their_sign() {
        let base = f32s(&[1.0, 0.0, 3.0]);
        let trained = Trained::new(state(&[2.0, -0.0, 3.0]), None, Kind::Float);
        let change = trained.change(&entry("F32", 3), &base).unwrap().unwrap();
        assert_eq!(change, Change::Whole(f32s(&[2.0, -0.0, 3.0])));
        let unmoved = Trained::new(state(&[1.0, 0.0, 3.0]), None, Kind::Float);
        assert_eq!(unmoved.change(&entry("F32", 3), &base).unwrap(), None);
    }

    #[test]
    fn types_are_converted_and_other_models_refused() {
        let (other, bytes) = converted(&entry("BF16", 2), bf16(&[1.5, -2.0]), "F32").unwrap();
        assert_eq!((other.dtype.as_str(), other.length, bytes), ("F32", 8, f32s(&[1.5, -2.0])));
        let trained = Trained::new(state(&[1.0]), None, Kind::Float);
        let message = trained.change(&entry("F32", 2), &f32s(&[1.0, 2.0])).unwrap_err().to_string();
        assert!(message.contains("not of this model"), "{message}");
    }
}
