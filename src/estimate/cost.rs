//! What a piece of computation takes: products, memory traffic, operations. Plain numbers that add up.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

/// The three things that take a device's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of matrix products; a multiply-add counts as two.
    pub flops: f64,
    /// Bytes read and written by all operations, as if nothing stayed in a cache.
    pub bytes: f64,
    /// Tensor operations begun.
    pub calls: f64,
}

impl Cost {
    /// Traffic alone.
    pub(super) fn traffic(bytes: f64) -> Self {
        Self { bytes, ..Self::default() }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            bytes: self.bytes + other.bytes,
            calls: self.calls + other.calls,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<f64> for Cost {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self { flops: self.flops * times, bytes: self.bytes * times, calls: self.calls * times }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}
