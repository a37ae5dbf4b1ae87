//! The way back through a decoder layer, without autograd: see `layer.rs` for the way there.
//!
//! On the CPU in float32 what surrounds attention is back.cpp's; elsewhere, operator by operator. Both go over some tokens at a time, so
//! that inner vectors exist for no more than those.
//!
//! Shape legend: n tokens, h hidden, i inner, q query heads * head width, k key heads * head width.

use tch::{Kind, Tensor};

use crate::data::BACK_TOKENS;

use super::kernels::back::{InputBack, MlpBack, to_rows, to_tiles};
use super::layer::{Saved, Turned, by_head};
use super::products::blocks;
use super::{Model, TorchError};

/// Tokens of a backward pass whose inner vectors exist at the same time; in back.cpp fewer do.
const BLOCK: i64 = 2048;

/// Gradients by queries, keys and values from that by what attention gave.
pub type AttendBack<'a> = &'a dyn Fn(&Saved, &Tensor) -> Result<[Tensor; 3], TorchError>;

/// Gradients of a layer's parameters, float32, in the order of its slots.
pub type Gradients = Vec<Tensor>;

impl Model {
    /// Zeros for the gradients of a layer's parameters.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn layer_zeros(&self, layer: usize) -> Result<Gradients, TorchError> {
        let zeros = |slot| Tensor::f_zeros(self.weight(layer, slot).size(), (Kind::Float, self.device()));
        Ok((0..self.slots.count).map(zeros).collect::<Result<_, _>>()?)
    }

    /// `dx`, the gradient by the layer's output as [`Model::dx_of`] has it, becomes that by its input; those by its parameters are added
    /// to `sums`.
    ///
    /// # Errors
    /// When memory runs out.
    #[expect(clippy::too_many_arguments, reason = "what went in, what was kept, what comes back")]
    pub(super) fn layer_back(
        &self,
        layer: usize,
        x: &Tensor,
        saved: &Saved,
        turned: Turned<'_>,
        attend_back: AttendBack<'_>,
        dx: &Tensor,
        sums: &mut Gradients,
    ) -> Result<(), TorchError> {
        let (slots, ops, d) = (self.slots, self.ops, self.architecture().head_dim as i64);
        let dattended = Tensor::f_empty_like(&saved.attended)?;
        if ops.fused {
            self.mlp_back_fused(layer, saved, dx, &dattended, sums)?;
        } else {
            self.mlp_back(layer, saved, dx, &dattended, sums)?;
        }
        let [dq, dk, dv] = attend_back(saved, &dattended)?;
        drop(dattended);
        ops.rotate(&dq, d, turned.positions, turned.tables, -1.0)?;
        ops.rotate(&dk, d, turned.positions, turned.tables, -1.0)?;
        let eps = self.architecture().rms_eps;
        if let (Some(norms), Some((q, k))) = (slots.head_norms, &saved.raw) {
            for (slot, raw, gradient) in [(norms, q, &dq), (norms + 1, k, &dk)] {
                let gradient = by_head(gradient, d)?;
                let kept = gradient.f_detach_copy()?;
                let (raw, sum) = (by_head(raw, d)?, &mut sums[slot]);
                ops.norm_back(&kept, &raw, self.weight(layer, slot), eps, &gradient, false, sum)?;
            }
        }
        if ops.fused {
            self.input_back_fused(layer, x, [&dq, &dk, &dv], dx, sums)
        } else {
            self.input_back(layer, x, [&dq, &dk, &dv], dx, sums)
        }
    }

    /// From behind the layer to what attention gave, operator by operator.
    fn mlp_back(
        &self,
        layer: usize,
        saved: &Saved,
        dx: &Tensor,
        dattended: &Tensor,
        sums: &mut Gradients,
    ) -> Result<(), TorchError> {
        let (shape, slots, ops, products) = (self.architecture(), self.slots, self.ops, self.ops.products);
        let eps = shape.rms_eps;
        let weight = |slot: usize| self.weight(layer, slot);
        for (from, count) in blocks(dx.size()[0], BLOCK) {
            let part = |tensor: &Tensor| tensor.f_narrow(0, from, count);
            let (dx, middle) = (part(dx)?, part(&saved.middle)?);
            let (gate, up) = (part(&saved.gate)?, part(&saved.up)?);
            let dinner = gate.f_empty_like()?;
            products.back(&dx, weight(slots.down), false, &dinner)?;
            let (inner, dgate, dup) = (gate.f_empty_like()?, gate.f_empty_like()?, gate.f_empty_like()?);
            swiglu_back(&dinner, (&gate, &up), &inner, (&dgate, &dup))?;
            products.add_outer(&mut sums[slots.down], &dx, &inner)?;
            let normed = Tensor::f_empty_like(&middle)?;
            ops.norm(&middle, weight(slots.mlp_norm), eps, &normed)?;
            products.add_outer(&mut sums[slots.gate], &dgate, &normed)?;
            products.add_outer(&mut sums[slots.up], &dup, &normed)?;
            let dnormed = normed;
            products.back(&dgate, weight(slots.gate), false, &dnormed)?;
            products.back(&dup, weight(slots.up), true, &dnormed)?;
            ops.norm_back(
                &dnormed,
                &middle,
                weight(slots.mlp_norm),
                eps,
                &dx,
                true,
                &mut sums[slots.mlp_norm],
            )?;
            let attended = part(&saved.attended)?;
            products.add_outer(&mut sums[slots.output], &dx, &attended)?;
            if shape.output_bias() {
                add_columns(&mut sums[slots.output + 1], &dx)?;
            }
            products.back(&dx, weight(slots.output), false, &part(dattended)?)?;
        }
        Ok(())
    }

    /// From queries, keys and values to the layer's input, operator by operator.
    fn input_back(
        &self,
        layer: usize,
        x: &Tensor,
        [dq, dk, dv]: [&Tensor; 3],
        dx: &Tensor,
        sums: &mut Gradients,
    ) -> Result<(), TorchError> {
        let (shape, slots, ops, products) = (self.architecture(), self.slots, self.ops, self.ops.products);
        let eps = shape.rms_eps;
        let weight = |slot: usize| self.weight(layer, slot);
        for (from, count) in blocks(x.size()[0], BLOCK) {
            let part = |tensor: &Tensor| tensor.f_narrow(0, from, count);
            let (dx, x) = (part(dx)?, part(x)?);
            let normed = Tensor::f_empty_like(&x)?;
            ops.norm(&x, weight(slots.attention_norm), eps, &normed)?;
            let (dnormed, mut add) = (Tensor::f_empty_like(&x)?, false);
            for (slot, gradient) in [(slots.query, dq), (slots.key, dk), (slots.value, dv)] {
                let gradient = part(gradient)?;
                products.add_outer(&mut sums[slot], &gradient, &normed)?;
                if shape.attention_bias {
                    add_columns(&mut sums[slot + 1], &gradient)?;
                }
                products.back(&gradient, weight(slot), add, &dnormed)?;
                add = true;
            }
            let sum = &mut sums[slots.attention_norm];
            ops.norm_back(&dnormed, &x, weight(slots.attention_norm), eps, &dx, true, sum)?;
        }
        Ok(())
    }

    /// [`Model::mlp_back`] by back.cpp.
    fn mlp_back_fused(
        &self,
        layer: usize,
        saved: &Saved,
        dx: &Tensor,
        dattended: &Tensor,
        sums: &mut Gradients,
    ) -> Result<(), TorchError> {
        let (shape, slots) = (self.architecture(), self.slots);
        let transpose = |slot: usize| self.weight(layer, slot).f_tr()?.f_contiguous();
        let (gate_t, up_t, down_t, output_t) =
            (transpose(slots.gate)?, transpose(slots.up)?, transpose(slots.down)?, transpose(slots.output)?);
        MlpBack {
            eps: shape.rms_eps,
            middle: &saved.middle,
            gate: &saved.gate,
            up: &saved.up,
            attended: &saved.attended,
            norm: self.weight(layer, slots.mlp_norm),
            gate_t: &gate_t,
            up_t: &up_t,
            down_t: &down_t,
            output_t: &output_t,
            dx,
            dattended,
            sums: [slots.mlp_norm, slots.gate, slots.up, slots.down, slots.output].map(|slot| &sums[slot]),
        }
        .run()?;
        if shape.output_bias() {
            let rows = to_rows(dx, saved.middle.size()[0])?;
            for (from, count) in blocks(rows.size()[0], BACK_TOKENS as i64) {
                add_columns(&mut sums[slots.output + 1], &rows.f_narrow(0, from, count)?)?;
            }
        }
        Ok(())
    }

    /// A gradient by a layer's output as the layers pass it on: rows, or tiles where back.cpp takes it.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn dx_of(&self, rows: Tensor) -> Result<Tensor, TorchError> {
        if self.ops.fused { to_tiles(&rows) } else { Ok(rows) }
    }

    /// The rows of one, of n tokens.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn rows_of(&self, dx: Tensor, n: i64) -> Result<Tensor, TorchError> {
        if self.ops.fused { to_rows(&dx, n) } else { Ok(dx) }
    }

    /// [`Model::input_back`] by back.cpp.
    fn input_back_fused(
        &self,
        layer: usize,
        x: &Tensor,
        gradients: [&Tensor; 3],
        dx: &Tensor,
        sums: &mut Gradients,
    ) -> Result<(), TorchError> {
        let (shape, slots) = (self.architecture(), self.slots);
        let own = [slots.query, slots.key, slots.value];
        let transpose = |slot: usize| self.weight(layer, slot).f_tr()?.f_contiguous();
        let (query_t, key_t, value_t) =
            (transpose(slots.query)?, transpose(slots.key)?, transpose(slots.value)?);
        let [dq, dk, dv] = gradients;
        InputBack {
            eps: shape.rms_eps,
            x,
            dq,
            dk,
            dv,
            norm: self.weight(layer, slots.attention_norm),
            query_t: &query_t,
            key_t: &key_t,
            value_t: &value_t,
            dx,
            sums: [slots.attention_norm, own[0], own[1], own[2]].map(|slot| &sums[slot]),
        }
        .run()?;
        if shape.attention_bias {
            for (slot, gradient) in own.into_iter().zip(gradients) {
                add_columns(&mut sums[slot + 1], gradient)?;
            }
        }
        Ok(())
    }
}

/// `out = silu(gate) * up` again, and the gradients by both.
fn swiglu_back(
    dout: &Tensor,
    (gate, up): (&Tensor, &Tensor),
    out: &Tensor,
    (dgate, dup): (&Tensor, &Tensor),
) -> Result<(), TorchError> {
    let silu = gate.f_silu()?;
    let _ = silu.f_mul_out(out, up)?;
    let _ = dout.f_mul_out(dup, &silu)?;
    dgate.shallow_clone().f_copy_(&gate.f_silu_backward(&dout.f_mul(up)?)?)?;
    Ok(())
}

fn add_columns(sum: &mut Tensor, rows: &Tensor) -> Result<(), TorchError> {
    let _ = sum.f_add_(&rows.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?)?;
    Ok(())
}
