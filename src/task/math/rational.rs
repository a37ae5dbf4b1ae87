//! Fractions of two integers of 128 bits: exact, or nothing.
//!
//! Invariant: the bottom is positive and has no factor in common with the top. Every operation that would leave the range
//! gives `None`, never a rounded or wrapped number. The derived order is one of representations, not of values.

/// A rational number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio {
    top: i128,
    bottom: i128,
}

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self { top: 0, bottom: 1 };
    /// One.
    pub const ONE: Self = Self { top: 1, bottom: 1 };

    /// An integer.
    pub fn whole(value: i64) -> Self {
        Self { top: i128::from(value), bottom: 1 }
    }

    /// `top / bottom`; `None` by zero or out of range.
    pub fn new(top: i128, bottom: i128) -> Option<Self> {
        if bottom == 0 || top == i128::MIN || bottom == i128::MIN {
            return None;
        }
        let common = gcd(top.unsigned_abs(), bottom.unsigned_abs());
        // Both divide numbers below 2^127.
        let common = i128::try_from(common).ok()?;
        let sign = if bottom < 0 { -1 } else { 1 };
        Some(Self { top: sign * (top / common), bottom: sign * (bottom / common) })
    }

    /// The number of a decimal: digits before the point, after it, and those that repeat for ever.
    pub fn decimal(before: &str, after: &str, repeating: &str) -> Option<Self> {
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
        let ten = |count: usize| 10_i128.checked_pow(u32::try_from(count).ok()?);
        let shift = ten(after.len())?;
        let fixed = Self::new(digits(&format!("{before}{after}"))?, shift)?;
        if repeating.is_empty() {
            return Some(fixed);
        }
        let nines = ten(repeating.len())?.checked_sub(1)?;
        fixed.plus(Self::new(digits(repeating)?, nines.checked_mul(shift)?)?)
    }

    /// The integer above.
    pub fn top(self) -> i128 {
        self.top
    }

    /// The integer below, positive.
    pub fn bottom(self) -> i128 {
        self.bottom
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.top == 0
    }

    /// Whether it is below 0.
    pub fn is_negative(self) -> bool {
        self.top < 0
    }

    /// Whether it is an integer.
    pub fn is_whole(self) -> bool {
        self.bottom == 1
    }

    /// The integer that it is, if it is a small one.
    pub fn as_small(self) -> Option<i64> {
        if self.is_whole() { i64::try_from(self.top).ok() } else { None }
    }

    /// The greatest integer that is not above it.
    pub fn floor(self) -> i128 {
        self.top.div_euclid(self.bottom)
    }

    /// The number with the other sign.
    #[must_use]
    pub fn negated(self) -> Self {
        Self { top: -self.top, bottom: self.bottom }
    }

    /// `1 / self`; `None` of zero.
    pub fn inverse(self) -> Option<Self> {
        Self::new(self.bottom, self.top)
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        let left = self.top.checked_mul(other.bottom)?;
        let right = other.top.checked_mul(self.bottom)?;
        Self::new(left.checked_add(right)?, self.bottom.checked_mul(other.bottom)?)
    }

    /// The product.
    pub fn times(self, other: Self) -> Option<Self> {
        Self::new(self.top.checked_mul(other.top)?, self.bottom.checked_mul(other.bottom)?)
    }

    /// The power with an integer exponent.
    pub fn power(self, exponent: i64) -> Option<Self> {
        let size = u32::try_from(exponent.unsigned_abs()).ok()?;
        let base = if exponent < 0 { self.inverse()? } else { self };
        Self::new(base.top.checked_pow(size)?, base.bottom.checked_pow(size)?)
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_whole() { write!(f, "{}", self.top) } else { write!(f, "{}/{}", self.top, self.bottom) }
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// The prime factors of `number` with their exponents.
///
/// Division is tried up to 10,000. What is left is taken for a prime after its square and cube roots were tried: that can
/// only make two forms of a number look different, never two numbers look alike.
pub fn factors(number: u128) -> Vec<(u128, i64)> {
    const LARGEST: u128 = 10_000;
    let mut found = Vec::new();
    let mut rest = number.max(1);
    let mut prime = 2;
    while prime <= LARGEST && prime * prime <= rest {
        let mut times = 0;
        while rest.is_multiple_of(prime) {
            rest /= prime;
            times += 1;
        }
        if times > 0 {
            found.push((prime, times));
        }
        prime += if prime == 2 { 1 } else { 2 };
    }
    if rest > 1 {
        let root = |index: u32| whole_root(rest, index).map(|root| (root, i64::from(index)));
        found.push(root(2).or_else(|| root(3)).unwrap_or((rest, 1)));
    }
    found
}

/// The integer whose power is `number`, if there is one.
fn whole_root(number: u128, index: u32) -> Option<u128> {
    let guess = (number as f64).powf(1.0 / f64::from(index)).round() as u128;
    (guess.saturating_sub(2)..=guess + 2)
        .find(|root| *root > 1 && root.checked_pow(index).is_some_and(|power| power == number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(top: i128, bottom: i128) -> Ratio {
        Ratio::new(top, bottom).expect("in range")
    }

    #[test]
    fn fractions_are_reduced_and_their_bottom_is_positive() {
        assert_eq!(ratio(6, -4), ratio(-3, 2));
        assert_eq!(ratio(0, -7), Ratio::ZERO);
        assert_eq!(Ratio::new(1, 0), None);
        assert_eq!(ratio(-7, 2).floor(), -4);
        assert_eq!(ratio(1, 2).plus(ratio(1, 3)), Some(ratio(5, 6)));
        assert_eq!(ratio(2, 3).power(-3), Some(ratio(27, 8)));
        assert_eq!(Ratio::ZERO.inverse(), None);
        assert_eq!(ratio(-3, 2).to_string(), "-3/2");
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Ratio::decimal("", "5", ""), Some(ratio(1, 2)));
        assert_eq!(Ratio::decimal("007", "250", ""), Some(ratio(29, 4)));
        assert_eq!(Ratio::decimal("0", "", "3"), Some(ratio(1, 3)));
        assert_eq!(Ratio::decimal("0", "1", "6"), Some(ratio(1, 6)));
        assert_eq!(Ratio::decimal("0", "", "9"), Some(Ratio::ONE));
    }

    #[test]
    fn what_leaves_the_range_is_nothing() {
        let large = Ratio::new(i128::MAX, 1).expect("in range");
        assert_eq!(large.plus(Ratio::ONE), None);
        assert_eq!(large.times(Ratio::whole(2)), None);
        assert_eq!(Ratio::whole(10).power(40), None);
        assert_eq!(Ratio::whole(2).power(i64::MIN), None);
        assert_eq!(Ratio::new(i128::MIN, 1), None);
        assert_eq!(Ratio::decimal(&"9".repeat(50), "", ""), None);
    }

    #[test]
    fn numbers_are_taken_apart() {
        assert_eq!(factors(1), []);
        assert_eq!(factors(360), [(2, 3), (3, 2), (5, 1)]);
        assert_eq!(factors(10_007), [(10_007, 1)]);
        assert_eq!(factors(10_007 * 10_007), [(10_007, 2)]);
        assert_eq!(factors(10_009_u128.pow(3) * 2), [(2, 1), (10_009, 3)]);
    }
}
