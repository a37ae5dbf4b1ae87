//! Rotary positions: tables of cosines and sines, and the rotation.
//!
//! Shape legend: p positions, d head width. Source: transformers' `modeling_rope_utils` and `apply_rotary_pos_emb`.
//! Invariant: a row of the tables depends on its position alone, not on how long they are.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use crate::data::Architecture;

use super::TorchError;

/// Positions that are tabled together, so that a row comes out the same however long the table is.
const BLOCK: i64 = 4096;

/// The tables, as long as a run has needed so far: a model made for 131072 positions rarely sees the thousandth part.
#[derive(Debug)]
pub(super) struct Rotary {
    /// Angle per position of each plane, float32 `[d / 2]`.
    frequency: Tensor,
    max_positions: i64,
    kind: Kind,
    tables: RefCell<Tables>,
}

/// `[p, d]` each, in the model's type.
#[derive(Debug)]
struct Tables {
    cos_pd: Tensor,
    /// The first half of each row negated. The two halves `(a, b)` of each head form the planes that are turned, to
    /// `(a cos - b sin, b cos + a sin)`: halves are swapped, and the sign is in the table.
    sin_pd: Tensor,
}

impl Rotary {
    /// Tables of the first positions.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(shape: &Architecture, kind: Kind, device: Device) -> Result<Self, TorchError> {
        let frequency = frequencies(shape)?.f_to_device(device)?;
        let max_positions = shape.max_positions as i64;
        let tables = RefCell::new(block(&frequency, 0, max_positions.min(BLOCK), kind)?);
        Ok(Self { frequency, max_positions, kind, tables })
    }

    /// Cosines and signed sines, `[p, d]` each, of at least the first `count` positions.
    ///
    /// # Errors
    /// When the model does not have so many, or memory runs out.
    pub fn tables(&self, count: i64) -> Result<(Tensor, Tensor), TorchError> {
        if count > self.max_positions {
            return Err(TorchError::ContextTooLong {
                tokens: count as usize,
                limit: self.max_positions as usize,
            });
        }
        let length = || self.tables.borrow().cos_pd.size()[0];
        while length() < count {
            let from = length();
            let more = block(&self.frequency, from, (from + BLOCK).min(self.max_positions), self.kind)?;
            let grown = {
                let tables = self.tables.borrow();
                Tables {
                    cos_pd: Tensor::f_cat(&[&tables.cos_pd, &more.cos_pd], 0)?,
                    sin_pd: Tensor::f_cat(&[&tables.sin_pd, &more.sin_pd], 0)?,
                }
            };
            *self.tables.borrow_mut() = grown;
        }
        let tables = self.tables.borrow();
        Ok((tables.cos_pd.shallow_clone(), tables.sin_pd.shallow_clone()))
    }
}

/// Rows `from` up to `to` of the tables, computed in float32.
fn block(frequency: &Tensor, from: i64, to: i64, kind: Kind) -> Result<Tables, TorchError> {
    let position = Tensor::f_arange_start(from, to, (Kind::Float, frequency.device()))?;
    let angle = position.f_outer(frequency)?;
    let (cos, sin) = (angle.f_cos()?, angle.f_sin()?);
    Ok(Tables {
        cos_pd: Tensor::f_cat(&[&cos, &cos], 1)?.f_to_kind(kind)?,
        sin_pd: Tensor::f_cat(&[&sin.f_neg()?, &sin], 1)?.f_to_kind(kind)?,
    })
}

/// Angle per position of each plane. In float32 throughout, on the CPU: these are transformers' to the bit, so that far
/// positions agree.
fn frequencies(shape: &Architecture) -> Result<Tensor, TorchError> {
    let width = shape.head_dim as i64;
    let exponent =
        Tensor::f_arange_start_step(0, width, 2, (Kind::Float, Device::Cpu))?.f_div_scalar(width as f64)?;
    let plain = Tensor::f_pow_scalar(shape.rope_theta, &exponent)?.f_reciprocal()?;
    let Some(scaling) = &shape.rope_scaling else { return Ok(plain) };
    // Between the two wavelengths the factor comes in gradually (Llama 3.1).
    let original = scaling.original_positions as f64;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    let wave = plain.f_reciprocal()?.f_mul_scalar(std::f64::consts::TAU)?;
    let slowed = plain.f_div_scalar(scaling.factor)?;
    let smooth = wave.f_reciprocal()?.f_mul_scalar(original)?.f_sub_scalar(low)?.f_div_scalar(high - low)?;
    let mixed = smooth
        .f_neg()?
        .f_add_scalar(1.0)?
        .f_mul(&plain)?
        .f_div_scalar(scaling.factor)?
        .f_add(&smooth.f_mul(&plain)?)?;
    let long = wave.f_gt(original / low)?;
    let short = wave.f_lt(original / high)?;
    let between = long.f_logical_or(&short)?.f_logical_not()?;
    Ok(mixed.f_where_self(&between, &slowed.f_where_self(&long, &plain)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::weights::tests::tiny;

    #[test]
    fn a_row_depends_on_its_position_alone() {
        let shape = Architecture { max_positions: 10_000, ..tiny(true) };
        let device = Device::Cpu;
        let grown = Rotary::new(&shape, Kind::Float, device).unwrap();
        let first = grown.tables(60).unwrap().0.narrow(0, 0, 60);
        assert_eq!(grown.tables.borrow().cos_pd.size()[0], BLOCK);
        let (cos, sin) = grown.tables(10_000).unwrap();
        assert_eq!(cos.size()[0], 10_000);
        assert!(cos.narrow(0, 0, 60).equal(&first));
        let whole = block(&grown.frequency, 0, 10_000, Kind::Float).unwrap();
        assert!(cos.equal(&whole.cos_pd) && sin.equal(&whole.sin_pd));
        assert!(grown.tables(10_001).is_err());
    }
}
