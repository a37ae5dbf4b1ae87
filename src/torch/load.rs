//! Numbers from a file into tensors, some MiB at a time.
//!
//! Invariant: beside the tensor, one block is held. A model of half a billion float32 numbers loads in little more than
//! its own 2 GB.

use std::fs::File;
use std::os::unix::fs::FileExt;

use tch::{Device, Kind, Tensor};

use crate::data::{DataError, Place, Stored};

use super::TorchError;

/// Numbers that are read at a time.
const BLOCK: usize = 1 << 18;

/// A tensor's numbers, converted to `kind` on `device`.
///
/// # Errors
/// When the file cannot be read, or a number is NaN or infinite, after conversion too.
pub(super) fn tensor(place: &Place, kind: Kind, device: Device) -> Result<Tensor, TorchError> {
    let shape: Vec<i64> = place.parameter.shape.iter().map(|&n| n as i64).collect();
    let made = Tensor::f_empty(shape.as_slice(), (kind, device))?;
    let flat = made.f_view([-1])?;
    let mut reader = Reader::new(place)?;
    let (mut wrong, mut first) = (0, None);
    while let Some((at, block)) = reader.next()? {
        let mut part = flat.f_narrow(0, at as i64, block.numel() as i64)?;
        part.f_copy_(&block)?;
        // NaN is passed on by `max`, so a finite one vouches for the block.
        if !f64::try_from(part.f_abs()?.f_max()?.f_to_kind(Kind::Double)?)?.is_finite() {
            let bad = part.f_isfinite()?.f_logical_not()?;
            wrong += i64::try_from(bad.f_sum(Kind::Int64)?)?;
            let index = i64::try_from(bad.f_to_kind(Kind::Int)?.f_argmax(0, false)?)?;
            first.get_or_insert(at as i64 + index);
        }
    }
    if let Some(first) = first {
        let what =
            format!("{wrong} of its {} numbers are NaN or infinite, the first at {first}", made.numel());
        let hint = if kind == Kind::Float || place.stored == Stored::Bf16 {
            "the model was saved after it diverged, or the file is damaged: take an earlier state of it, or fetch it again"
        } else {
            "they may be too large for this type: try `model.dtype` = \"float32\"; otherwise the file is damaged"
        };
        return Err(unfit(place, what, hint));
    }
    Ok(made)
}

/// Hands a tensor's numbers on in blocks, in `kind`, each with the flat index of its first.
///
/// # Errors
/// When the file cannot be read, and those of `take`.
pub(super) fn each_block(
    place: &Place,
    kind: Kind,
    take: &mut dyn FnMut(i64, &Tensor) -> Result<(), TorchError>,
) -> Result<(), TorchError> {
    let mut reader = Reader::new(place)?;
    while let Some((at, block)) = reader.next()? {
        take(at as i64, &block.f_to_kind(kind)?)?;
    }
    Ok(())
}

/// Checks that a head that should be the embedding is the embedding.
///
/// # Errors
/// When a number differs or a file cannot be read.
pub(super) fn same(embedding: &Place, head: &Place) -> Result<(), TorchError> {
    let (mut left, mut right) = (Reader::new(embedding)?, Reader::new(head)?);
    let mut differing = 0;
    while let (Some((_, a)), Some((_, b))) = (left.next()?, right.next()?) {
        let unequal = a.f_to_kind(Kind::Float)?.f_ne_tensor(&b.f_to_kind(Kind::Float)?)?;
        differing += i64::try_from(unequal.f_sum(Kind::Int64)?)?;
    }
    if differing == 0 {
        return Ok(());
    }
    // Old transformers drop this head, new ones do not tie it: what the model computes would depend on the reader.
    let what = format!(
        "config.json says `tie_word_embeddings` = true, but {differing} of its {} numbers differ from {}",
        head.parameter.elements(),
        embedding.parameter.name
    );
    let hint =
        "for a head of its own, say false in config.json; for the embedding as head, remove this tensor";
    Err(unfit(head, what, hint))
}

fn unfit(place: &Place, what: String, hint: &str) -> TorchError {
    let (path, tensor) = (place.file.clone(), place.parameter.name.clone());
    TorchError::Data(DataError::Tensor { path, tensor, what, hint: hint.into() })
}

/// A tensor's numbers in blocks, in the type of the file.
struct Reader<'a> {
    place: &'a Place,
    file: File,
    next: usize,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(place: &'a Place) -> Result<Self, TorchError> {
        let file =
            File::open(&place.file).map_err(|source| DataError::Read { path: place.file.clone(), source })?;
        Ok(Self { place, file, next: 0, bytes: Vec::new() })
    }

    /// Flat index of a block's first number, and the block.
    fn next(&mut self) -> Result<Option<(usize, Tensor)>, TorchError> {
        let (at, width) = (self.next, self.place.stored.width());
        let length = BLOCK.min(self.place.parameter.elements() - at);
        if length == 0 {
            return Ok(None);
        }
        self.bytes.resize(length * width, 0);
        self.file
            .read_exact_at(&mut self.bytes, self.place.start + (at * width) as u64)
            .map_err(|source| DataError::Read { path: self.place.file.clone(), source })?;
        self.next += length;
        let kind = match self.place.stored {
            Stored::F32 => Kind::Float,
            Stored::Bf16 => Kind::BFloat16,
            Stored::F16 => Kind::Half,
        };
        Ok(Some((at, Tensor::f_from_data_size(&self.bytes, &[length as i64], kind)?)))
    }
}
