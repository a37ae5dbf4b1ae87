//! The operators of a decoder: fused on the CPU in float32, libtorch's elsewhere; products of matrices are in `products.rs`. On the CPU in
//! float32 whole passes over a cache are `decode.rs`'s, and most of the way back is `kernels/back.rs`'s.
//!
//! Results go where the caller says, so that what is kept for a backward pass is written once. Both ways give the same numbers
//! within rounding (`tape_tests.rs`, `tests/numerics/families.rs`).
//!
//! Shape legend: n tokens, h hidden, i inner, d head width, v vocabulary.

use tch::{Device, Kind, Tensor};

use super::products::Products;
use super::{TorchError, kernels};

/// Elements of a table of sums up to which a dense gradient of a few rows is made and added; beyond it rows are added one by one.
const DENSE_ROWS: usize = 1 << 24;

/// Chooses between the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ops {
    /// Whether the kernels of `kernels/` are used: float32 on the CPU.
    pub fused: bool,
    /// Whether they take what is float32 in every model, and attention among sequences, for which other types are widened: on
    /// the CPU.
    pub cpu: bool,
    /// How matrices are multiplied.
    pub products: Products,
}

impl Ops {
    /// For tensors of `kind` on `device`.
    pub fn of(kind: Kind, device: Device) -> Self {
        let cpu = device == Device::Cpu;
        Self { fused: cpu && kind == Kind::Float, cpu, products: Products::of(kind, device) }
    }

    /// libtorch's operators alone.
    pub fn plain() -> Self {
        Self { fused: false, cpu: false, products: Products { widened: false } }
    }

    /// `y = x / sqrt(mean(x^2) + eps) * weight`, the quotient in float32; `x`, `y` `[n, h]`.
    pub fn norm(self, x: &Tensor, weight: &Tensor, eps: f64, y: &Tensor) -> Result<(), TorchError> {
        if self.fused {
            return kernels::rms_norm(x, weight, eps, y);
        }
        let scaled = unit(x, eps)?.0.f_to_kind(x.kind())?;
        let _ = scaled.f_mul_out(y, weight)?;
        Ok(())
    }

    /// Gradients of [`Ops::norm`]: `dx` is written, or added to; `dweight`, float32, is added to.
    #[expect(clippy::too_many_arguments, reason = "three inputs, two results, and how they are taken")]
    pub fn norm_back(
        self,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        eps: f64,
        dx: &Tensor,
        add: bool,
        dweight: &mut Tensor,
    ) -> Result<(), TorchError> {
        if self.fused {
            return kernels::rms_norm_back(dy, x, weight, eps, dx, add, dweight);
        }
        let (unit, scale) = unit(x, eps)?;
        let h = weight.numel() as i64;
        let sums = dy.f_mul(&unit.f_to_kind(x.kind())?)?.f_view([-1, h])?;
        let _ = dweight.f_add_(&sums.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?)?;
        let weighted = dy.f_mul(weight)?.f_to_kind(Kind::Float)?;
        let shared = weighted.f_mul(&unit)?.f_mean_dim([-1i64].as_slice(), true, Kind::Float)?;
        let value = weighted.f_sub(&unit.f_mul(&shared)?)?.f_mul(&scale)?.f_to_kind(x.kind())?;
        let mut dx = dx.shallow_clone();
        if add {
            let _ = dx.f_add_(&value)?;
        } else {
            dx.f_copy_(&value)?;
        }
        Ok(())
    }

    /// `out = silu(gate) * up`.
    pub fn swiglu(self, gate: &Tensor, up: &Tensor, out: &Tensor) -> Result<(), TorchError> {
        if self.fused {
            return kernels::swiglu(gate, up, out);
        }
        let _ = gate.f_silu()?.f_mul_out(out, up)?;
        Ok(())
    }

    /// Turns the heads of `x [n, heads * d]` in place by their positions, backwards for `sign` -1. See [`super::rotary`].
    pub fn rotate(
        self,
        x: &Tensor,
        d: i64,
        positions: &Tensor,
        tables: (&Tensor, &Tensor),
        sign: f32,
    ) -> Result<(), TorchError> {
        if self.fused {
            return kernels::rotate(x, d, positions, tables, sign);
        }
        let mut heads = x.f_view([positions.numel() as i64, -1, d])?;
        let cos = tables.0.f_index_select(0, positions)?.f_unsqueeze(1)?;
        let sin = tables.1.f_index_select(0, positions)?.f_unsqueeze(1)?;
        let turned = heads.f_roll(d / 2, 2)?.f_mul(&sin)?;
        let turned = if sign < 0.0 { turned.f_neg()? } else { turned };
        let result = heads.f_mul(&cos)?.f_add(&turned)?;
        heads.f_copy_(&result)?;
        Ok(())
    }

    /// Logprobs of `targets [n]` and entropies under float32 `logits [n, v]`, which are used up. With `gradient [n]` the gradient of
    /// the sum of gradient times logprob by the logits comes third.
    pub fn targets(
        self,
        logits: Tensor,
        temperature: f64,
        targets: &Tensor,
        gradient: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor, Option<Tensor>), TorchError> {
        if self.cpu {
            let found = Tensor::f_empty([2, targets.numel() as i64], (Kind::Float, logits.device()))?;
            let (logprobs, entropies) = (found.f_get(0)?, found.f_get(1)?);
            kernels::targets(&logits, temperature, targets, gradient, (&logprobs, &entropies))?;
            return Ok((logprobs, entropies, gradient.map(|_| logits)));
        }
        let scaled = if temperature == 1.0 { logits } else { logits.f_div_scalar(temperature)? };
        let all = scaled.f_log_softmax(-1, Kind::Float)?;
        drop(scaled);
        let column = targets.f_unsqueeze(1)?;
        let logprobs = all.f_gather(1, &column, false)?.f_squeeze_dim(1)?;
        let mut shares = all.f_exp()?;
        let entropies =
            all.f_mul(&shares)?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?.f_neg()?;
        drop(all);
        let Some(gradient) = gradient else { return Ok((logprobs, entropies, None)) };
        let slope = gradient.f_div_scalar(temperature)?.f_unsqueeze(1)?;
        let mut dlogits = shares.f_mul_(&slope.f_neg()?)?;
        // One target a row: written, not added, which has an order everywhere.
        let own = dlogits.f_gather(1, &column, false)?.f_add(&slope)?;
        let _ = dlogits.f_scatter_(1, &column, &own)?;
        Ok((logprobs, entropies, Some(dlogits)))
    }

    /// `sums[ids[n]] += rows[n]`, in an order that does not depend on threads; `sums` float32 `[v, h]`.
    pub fn add_rows(self, sums: &mut Tensor, ids: &Tensor, rows: &Tensor) -> Result<(), TorchError> {
        let wide = rows.f_to_kind(Kind::Float)?;
        if self.cpu {
            return kernels::add_rows(sums, ids, &wide);
        }
        if sums.numel() <= DENSE_ROWS {
            let v = sums.size()[0];
            let _ = sums.f_add_(&Tensor::f_embedding_dense_backward(&wide, ids, v, -1, false)?)?;
        } else {
            let _ = sums.f_index_add_(0, ids, &wide)?;
        }
        Ok(())
    }
}

/// `x / sqrt(mean(x^2) + eps)` and the factor, in float32.
fn unit(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor), TorchError> {
    let wide = x.f_to_kind(Kind::Float)?;
    let square = wide.f_mul(&wide)?.f_mean_dim([-1i64].as_slice(), true, Kind::Float)?;
    let scale = square.f_add_scalar(eps)?.f_rsqrt()?;
    Ok((wide.f_mul(&scale)?, scale))
}
