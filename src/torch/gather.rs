//! From dense gradients to those of the trained entries: whole tensors, rows of one, listed rows of one.

use tch::{Device, Kind, Tensor};

use super::sparse_adamw::Span;
use super::{SparseAdamW, TorchError};

impl SparseAdamW {
    /// Zeros for the gathered gradients of all tensors, float32, made at once, and each tensor's part of them: small blocks that stay
    /// among large ones that go would leave holes in the heap that no large one fits in.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn room(&self, device: Device) -> Result<(Tensor, Vec<Tensor>), TorchError> {
        let all = self.spans.iter().map(|span| span.count).sum::<i64>();
        let flat = Tensor::f_zeros([all], (Kind::Float, device))?;
        let mut from = 0;
        let cut = |span: &Span| {
            from += span.count;
            Ok(flat.f_narrow(0, from - span.count, span.count)?)
        };
        let parts = self.spans.iter().map(cut).collect::<Result<_, TorchError>>()?;
        Ok((flat, parts))
    }

    /// [`SparseAdamW::gather_one`] into `out`.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn gather_into(&self, i: usize, gradient: &Tensor, out: &Tensor) -> Result<(), TorchError> {
        let flat = gradient.f_reshape([-1])?;
        match &self.spans[i].index {
            Some(index) => drop(flat.f_index_select_out(out, 0, index)?),
            None => out.shallow_clone().f_copy_(&flat)?,
        }
        Ok(())
    }

    /// The active entries of dense gradients, float32, as [`SparseAdamW::step`] takes them: with a mask in one vector.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn gather(&self, gradients: &[Tensor]) -> Result<Vec<Tensor>, TorchError> {
        let list = (0..gradients.len()).map(|i| self.gather_one(i, &gradients[i]));
        let list = list.collect::<Result<Vec<_>, TorchError>>()?;
        Ok(if self.masked() { vec![Tensor::f_cat(&list, 0)?] } else { list })
    }

    /// The active entries of the dense gradient of tensor `i`, float32; the gradient itself where all are active.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn gather_one(&self, i: usize, gradient: &Tensor) -> Result<Tensor, TorchError> {
        let flat = gradient.f_reshape([-1])?;
        let chosen = match &self.spans[i].index {
            Some(index) => flat.f_index_select(0, index)?,
            None => flat,
        };
        Ok(chosen.f_to_kind(Kind::Float)?)
    }

    /// The active entries of the rows from `row` on of the gradient of tensor `i`, a matrix, put where they belong among `all` of them.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn gather_rows(
        &self,
        i: usize,
        row: i64,
        rows: &Tensor,
        all: &mut Tensor,
    ) -> Result<(), TorchError> {
        let (from, length) = (row * rows.size()[1], rows.numel() as i64);
        let Some(index) = &self.spans[i].index else {
            all.f_narrow(0, from, length)?.f_copy_(&rows.f_reshape([-1])?)?;
            return Ok(());
        };
        // A tensor has no more entries than int32 counts.
        let end = i32::try_from(from + length).unwrap_or(i32::MAX);
        let begin = i32::try_from(from).unwrap_or(i32::MAX);
        let bounds = Tensor::f_from_slice(&[begin, end])?.f_to_device(index.device())?;
        let bounds = bounds.f_searchsorted(index, false, false, "left", None::<Tensor>)?;
        let bounds = Vec::<i64>::try_from(&bounds)?;
        let (at, count) = (bounds[0], bounds[1] - bounds[0]);
        let own = index.f_narrow(0, at, count)?.f_sub_scalar(from)?;
        all.f_narrow(0, at, count)?.f_copy_(&rows.f_reshape([-1])?.f_index_select(0, &own)?)?;
        Ok(())
    }

    /// The same of the rows that `ids`, int64, name.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn gather_listed(
        &self,
        i: usize,
        shape: &[i64],
        ids: &Tensor,
        rows: &Tensor,
        all: &mut Tensor,
    ) -> Result<(), TorchError> {
        let width = shape[1];
        let Some(index) = &self.spans[i].index else {
            let _ = all.f_view(shape)?.f_index_copy_(0, ids, rows)?;
            return Ok(());
        };
        // Which of the rows each row of the tensor is: none, but for those of `ids`.
        let options = (Kind::Int, index.device());
        let mut which = Tensor::f_full([shape[0]], -1, options)?;
        let _ = which.f_index_copy_(0, ids, &Tensor::f_arange(ids.numel() as i64, options)?)?;
        let of_entry = which.f_index_select(0, &index.f_divide_scalar_mode(width, "floor")?)?;
        let places = of_entry.f_ge(0)?.f_nonzero()?.f_view([-1])?;
        let column = index.f_index_select(0, &places)?.f_remainder(width)?;
        let own = of_entry.f_index_select(0, &places)?.f_to_kind(Kind::Int64)?;
        let own = own.f_mul_scalar(width)?.f_add(&column)?;
        let _ = all.f_index_copy_(0, &places, &rows.f_reshape([-1])?.f_index_select(0, &own)?)?;
        Ok(())
    }
}
