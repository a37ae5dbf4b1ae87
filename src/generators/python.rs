//! CPython's `random.Random(seed)`, bit for bit: what drew the episodes of the original alphabet-sort environment.
//!
//! In: a seed that is a whole number, then calls in order. Out: what CPython's methods of the same names return.
//! Invariant: the same calls give the same values as CPython 3.11 to 3.13 (`tests/oracles/random_cases.py`).
//!
//! Source: the bits are MT19937 (M. Matsumoto and T. Nishimura, "Mersenne Twister: A 623-Dimensionally Equidistributed
//! Uniform Pseudo-Random Number Generator", ACM TOMACS 8, 1998), seeded by arrays as its authors revised it in 2002; how
//! draws below a bound, shuffles and samples are made of them is that of Python's module `random` since 3.2.
//!
//! Departures: bounds and draws have at most 64 bits, and an impossible draw panics, but for `sample`, which fails with a
//! value.

use std::collections::BTreeSet;

use super::TooMany;

/// Words of the state.
const WORDS: usize = 624;
/// A new word is made of two neighbours and of the one that is so far on.
const AHEAD: usize = 397;
const HIGH_BIT: u32 = 0x8000_0000;

/// A Mersenne Twister with the methods of Python's `random.Random`.
#[derive(Clone, PartialEq, Eq)]
pub struct Random {
    state: Box<[u32; WORDS]>,
    /// Words of the state that have been given out.
    used: usize,
}

impl std::fmt::Debug for Random {
    /// Without its 624 words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Random").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Random {
    /// `random.seed(seed)`.
    pub fn new(seed: u64) -> Self {
        Self::of_digits(&[seed as u32, (seed >> 32) as u32])
    }

    /// `random.seed(seed)` for a whole number of any size: the digits of its absolute value to the base 2^32, lowest first.
    pub fn of_digits(digits: &[u32]) -> Self {
        // Zeros in front are no digits, but 0 has one.
        let length = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        let digits = if length == 0 { &[0] } else { &digits[..length] };

        let mut state = Seeding { words: Box::new(by_recurrence(19_650_218)), at: 1 };
        for (number, digit) in (0..).zip(digits).cycle().take(WORDS.max(digits.len())) {
            state.mix(1_664_525, |_| digit.wrapping_add(number));
        }
        for _ in 1..WORDS {
            state.mix(1_566_083_941, |at| (at as u32).wrapping_neg());
        }
        state.words[0] = HIGH_BIT;
        Self { state: state.words, used: WORDS }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == WORDS {
            self.turn();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// All words anew.
    fn turn(&mut self) {
        for at in 0..WORDS {
            let joined = self.state[at] & HIGH_BIT | self.state[(at + 1) % WORDS] & !HIGH_BIT;
            let twist = if joined & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[at] = self.state[(at + AHEAD) % WORDS] ^ joined >> 1 ^ twist;
        }
        self.used = 0;
    }

    /// `random.random()`: a uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn random(&mut self) -> f64 {
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `random.getrandbits(bits)`, of at most 64.
    ///
    /// # Panics
    /// When more than 64 are asked for.
    pub fn getrandbits(&mut self, bits: u32) -> u64 {
        assert!(bits <= 64, "{bits} bits at once, 64 at most");
        match bits {
            0 => 0,
            1..=32 => u64::from(self.next_u32() >> (32 - bits)),
            // Words of 32 bits, the lowest first; the last gives its high bits.
            _ => u64::from(self.next_u32()) | u64::from(self.next_u32() >> (64 - bits)) << 32,
        }
    }

    /// `random.randrange(bound)`: a uniform in `[0, bound)`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn randbelow(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw below zero has no value");
        let bits = u64::BITS - bound.leading_zeros();
        loop {
            let drawn = self.getrandbits(bits);
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// `random.randint(low, high)`, both ends included.
    ///
    /// # Panics
    /// When there is no such number, or there are 2^64.
    pub fn randint(&mut self, low: u64, high: u64) -> u64 {
        low + self.randbelow(high - low + 1)
    }

    /// `random.choice(items)`.
    ///
    /// # Panics
    /// When there are none.
    pub fn choice<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.randbelow(items.len() as u64) as usize]
    }

    /// `random.shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.randbelow(at as u64 + 1) as usize;
            items.swap(at, other);
        }
    }

    /// `random.sample(range(elements), kept)`: distinct indices in the order of the draws.
    ///
    /// # Errors
    /// When more are kept than there are.
    pub fn sample(&mut self, elements: usize, kept: usize) -> Result<Vec<usize>, TooMany> {
        if kept > elements {
            return Err(TooMany { kept: kept as u64, elements: elements as u64 });
        }
        if elements > set_from(kept) {
            let (mut taken, mut drawn) = (BTreeSet::new(), Vec::with_capacity(kept));
            while drawn.len() < kept {
                let index = self.randbelow(elements as u64) as usize;
                if taken.insert(index) {
                    drawn.push(index);
                }
            }
            return Ok(drawn);
        }
        // What was drawn is filled up from the end.
        let mut left: Vec<usize> = (0..elements).collect();
        let draw = |_| left.swap_remove(self.randbelow(left.len() as u64) as usize);
        Ok((0..kept).map(draw).collect())
    }
}

/// Python keeps a set of what was sampled, and no list of what is left, where there are more items than this: about what the
/// set would take in words.
fn set_from(kept: usize) -> usize {
    let table = if kept > 5 { power_of_four(kept.saturating_mul(3)) } else { 0 };
    table.saturating_add(21)
}

/// The smallest power of 4 that is at least `least`, or the largest number.
fn power_of_four(least: usize) -> usize {
    let mut power: usize = 1;
    while power < least {
        power = power.saturating_mul(4);
    }
    power
}

/// The state while digits are mixed into it.
struct Seeding {
    words: Box<[u32; WORDS]>,
    /// The word whose turn it is, never 0.
    at: usize,
}

impl Seeding {
    fn mix(&mut self, multiplier: u32, plus: impl FnOnce(usize) -> u32) {
        let (at, before) = (self.at, self.words[self.at - 1]);
        let mixed = self.words[at] ^ (before ^ before >> 30).wrapping_mul(multiplier);
        self.words[at] = mixed.wrapping_add(plus(at));
        self.at += 1;
        if self.at == WORDS {
            self.words[0] = self.words[WORDS - 1];
            self.at = 1;
        }
    }
}

/// The words that a plain seed of 32 bits gives.
fn by_recurrence(seed: u32) -> [u32; WORDS] {
    let mut words = [seed; WORDS];
    for at in 1..WORDS {
        let before = words[at - 1];
        words[at] = (before ^ before >> 30).wrapping_mul(1_812_433_253).wrapping_add(at as u32);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_that_the_authors_of_the_twister_print() {
        // Their program seeds with the array 0x123, 0x234, 0x345, 0x456 and prints 1067595299 955945823 477289528 ...
        let mut random = Random::of_digits(&[0x123, 0x234, 0x345, 0x456]);
        let drawn: Vec<u32> = (0..5).map(|_| random.next_u32()).collect();
        assert_eq!(drawn, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
    }

    #[test]
    fn zeros_in_front_are_no_digits() {
        assert_eq!(Random::of_digits(&[]), Random::new(0));
        assert_eq!(Random::of_digits(&[7, 0, 0]), Random::new(7));
        assert_ne!(Random::of_digits(&[0, 7]), Random::new(7));
    }

    #[test]
    fn draws_of_one_value_cost_what_they_cost_in_python() {
        let mut random = Random::new(1);
        let before = random.clone();
        assert_eq!((random.getrandbits(0), &random), (0, &before));
        random.shuffle(&mut [7]);
        assert_eq!(random.sample(5, 0), Ok(Vec::new()));
        assert_eq!(random, before);
        // A single choice takes one bit until it is 0.
        assert_eq!(random.randint(3, 3), 3);
        assert_ne!(random, before);
    }

    #[test]
    fn more_than_there_are_cannot_be_sampled() {
        let error = Random::new(1).sample(3, 4).expect_err("too many");
        assert_eq!(error.to_string(), "draw 4 distinct items: there are 3");
    }

    #[test]
    fn the_size_of_the_set_is_a_power_of_four() {
        let sizes = [0, 5, 6, 21, 22, 85, 86].map(set_from);
        assert_eq!(sizes, [21, 21, 85, 85, 277, 277, 1045]);
        assert_eq!(set_from(usize::MAX), usize::MAX);
    }
}
