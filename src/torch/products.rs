//! Products of matrices, in the type of the weights; sums are float32 and rounded once.
//!
//! A CPU without instructions for bfloat16 multiplies it far below its float32 rate, in some layouts at a hundredth of it. There both
//! sides are widened, a block at a time, and the result is rounded: what bfloat16 with float32 sums gives anyway.
//!
//! Shape legend: n tokens, a inputs, b outputs of a matrix `[b, a]`.

use tch::{Device, Kind, Tensor};

use super::TorchError;

/// Entries of a widened matrix that exist at the same time, and tokens that go with them.
const ENTRIES: i64 = 1 << 20;
const TOKENS: i64 = 2048;

/// Chooses how products are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Products {
    /// Whether both sides are widened to float32.
    pub widened: bool,
}

impl Products {
    /// For tensors of `kind` on `device`, on this processor.
    pub fn of(kind: Kind, device: Device) -> Self {
        Self { widened: device == Device::Cpu && kind != Kind::Float && !has_bfloat16() }
    }

    /// `out [n, b] = x [n, a] matrix^T`, and `onto` added: `[n, b]`, or `[b]` for every token.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn forward(
        self,
        x: &Tensor,
        matrix: &Tensor,
        onto: Option<&Tensor>,
        out: &Tensor,
    ) -> Result<(), TorchError> {
        if !self.widened {
            let matrix = matrix.f_tr()?;
            let _ = match onto {
                Some(onto) => onto.f_addmm_out(out, x, &matrix)?,
                None => x.f_mm_out(out, &matrix)?,
            };
            return Ok(());
        }
        for (row, rows) in blocks(matrix.size()[0], ENTRIES / matrix.size()[1]) {
            let matrix = matrix.f_narrow(0, row, rows)?.f_to_kind(Kind::Float)?.f_tr()?;
            let columns = |tensor: &Tensor| tensor.f_narrow(-1, row, rows);
            for (from, count) in blocks(x.size()[0], TOKENS) {
                let tokens = |tensor: &Tensor| tensor.f_narrow(0, from, count);
                let x = tokens(x)?.f_to_kind(Kind::Float)?;
                let product = match onto {
                    Some(onto) if onto.dim() == 2 => {
                        columns(&tokens(onto)?)?.f_to_kind(Kind::Float)?.f_addmm_(&x, &matrix)?
                    }
                    Some(onto) => columns(onto)?.f_to_kind(Kind::Float)?.f_addmm(&x, &matrix)?,
                    None => x.f_mm(&matrix)?,
                };
                columns(&tokens(out)?)?.f_copy_(&product)?;
            }
        }
        Ok(())
    }

    /// `x [n, a] matrix^T` in float32, `[n, b]`.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn forward_wide(self, x: &Tensor, matrix: &Tensor) -> Result<Tensor, TorchError> {
        if !self.widened {
            return Ok(x.f_mm(&matrix.f_tr()?)?.f_to_kind(Kind::Float)?);
        }
        let out = Tensor::f_empty([x.size()[0], matrix.size()[0]], (Kind::Float, x.device()))?;
        self.forward(x, matrix, None, &out)?;
        Ok(out)
    }

    /// `out [n, a] = dy [n, b] matrix`, or added to it. `out` may be float32.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn back(self, dy: &Tensor, matrix: &Tensor, add: bool, out: &Tensor) -> Result<(), TorchError> {
        if !self.widened {
            if out.kind() != dy.kind() {
                let product = dy.f_mm(matrix)?;
                let _ = if add {
                    out.shallow_clone().f_add_(&product)?
                } else {
                    out.shallow_clone().f_copy_(&product)?;
                    out.shallow_clone()
                };
                return Ok(());
            }
            let _ = if add { out.shallow_clone().f_addmm_(dy, matrix)? } else { dy.f_mm_out(out, matrix)? };
            return Ok(());
        }
        for (from, count) in blocks(dy.size()[0], TOKENS) {
            let dy = dy.f_narrow(0, from, count)?;
            let mut out = out.f_narrow(0, from, count)?;
            let mut sum = if add {
                out.f_to_kind(Kind::Float)?
            } else {
                Tensor::f_zeros(out.size(), (Kind::Float, dy.device()))?
            };
            for (row, rows) in blocks(matrix.size()[0], ENTRIES / matrix.size()[1]) {
                let dy = dy.f_narrow(1, row, rows)?.f_to_kind(Kind::Float)?;
                let _ = sum.f_addmm_(&dy, &matrix.f_narrow(0, row, rows)?.f_to_kind(Kind::Float)?)?;
            }
            out.f_copy_(&sum)?;
        }
        Ok(())
    }

    /// `sum [a, b] += left^T right`, in float32; `left [n, a]`, `right [n, b]`.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn add_outer(self, sum: &mut Tensor, left: &Tensor, right: &Tensor) -> Result<(), TorchError> {
        if left.kind() == Kind::Float {
            let _ = sum.f_addmm_(&left.f_tr()?, right)?;
            return Ok(());
        }
        if !self.widened {
            let _ = sum.f_add_(&left.f_tr()?.f_mm(right)?)?;
            return Ok(());
        }
        for (from, count) in blocks(left.size()[0], TOKENS) {
            let tokens = |tensor: &Tensor| tensor.f_narrow(0, from, count)?.f_to_kind(Kind::Float);
            let _ = sum.f_addmm_(&tokens(left)?.f_tr()?, &tokens(right)?)?;
        }
        Ok(())
    }
}

/// Parts of `n` that are at most `step` long: where they begin, how long they are.
pub(super) fn blocks(n: i64, step: i64) -> impl Iterator<Item = (i64, i64)> {
    let step = step.max(1);
    (0..n).step_by(step as usize).map(move |from| (from, step.min(n - from)))
}

/// Whether the processor has products of bfloat16.
fn has_bfloat16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted numbers that no rounding of the type changes much, of mixed signs.
    fn numbers(rows: i64, columns: i64, kind: Kind) -> Tensor {
        let flat = Tensor::arange(rows * columns, (Kind::Float, Device::Cpu));
        ((flat * 0.37).sin()).view([rows, columns]).to_kind(kind)
    }

    fn apart(left: &Tensor, right: &Tensor) -> f64 {
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        assert_eq!(left.size(), right.size());
        ((wide(left) - wide(right)).abs().max() / wide(right).abs().max()).double_value(&[])
    }

    #[test]
    fn widened_products_are_the_rounded_ones_of_float64() {
        let (products, kind) = (Products { widened: true }, Kind::BFloat16);
        // More tokens than a block, and a matrix of more than one.
        let (n, a, b) = (TOKENS + 3, 1030, ENTRIES / 1030 + 5);
        let (x, matrix) = (numbers(n, a, kind), numbers(b, a, kind));
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let exact = wide(&x).mm(&wide(&matrix).tr());
        let out = Tensor::empty([n, b], (kind, Device::Cpu));
        products.forward(&x, &matrix, None, &out).unwrap();
        // A rounding to bfloat16 is off by 2^-8 of a number at most.
        assert!(apart(&out, &exact) < 4e-3);
        assert!(apart(&products.forward_wide(&x, &matrix).unwrap(), &exact) < 1e-5);
        let onto = numbers(n, b, kind);
        products.forward(&x, &matrix, Some(&onto), &out).unwrap();
        assert!(apart(&out, &(&exact + wide(&onto))) < 4e-3);
        let bias = numbers(1, b, kind).view([b]);
        products.forward(&x, &matrix, Some(&bias), &out).unwrap();
        assert!(apart(&out, &(&exact + wide(&bias))) < 4e-3);

        let dy = numbers(n, b, kind);
        let exact = wide(&dy).mm(&wide(&matrix));
        for kind in [kind, Kind::Float] {
            let out = Tensor::empty([n, a], (kind, Device::Cpu));
            products.back(&dy, &matrix, false, &out).unwrap();
            assert!(apart(&out, &exact) < if kind == Kind::Float { 1e-5 } else { 4e-3 });
            products.back(&dy, &matrix, true, &out).unwrap();
            assert!(apart(&out, &(&exact * 2.0)) < if kind == Kind::Float { 1e-5 } else { 8e-3 });
        }
        let mut sum = Tensor::ones([b, a], (Kind::Float, Device::Cpu));
        products.add_outer(&mut sum, &dy, &x).unwrap();
        assert!(apart(&sum, &(wide(&dy).tr().mm(&wide(&x)) + 1.0)) < 1e-5);
    }

    #[test]
    fn float32_is_multiplied_as_it_is() {
        let products = Products::of(Kind::Float, Device::Cpu);
        assert!(!products.widened);
        let (x, matrix) = (numbers(5, 4, Kind::Float), numbers(3, 4, Kind::Float));
        let out = Tensor::empty([5, 3], (Kind::Float, Device::Cpu));
        products.forward(&x, &matrix, None, &out).unwrap();
        assert_eq!(out, x.mm(&matrix.tr()));
        assert_eq!(products.forward_wide(&x, &matrix).unwrap(), out);
    }
}
