//! NumPy's `default_rng(seed)`, bit for bit, as far as the study used it: `choice(n, k, replace=False)` drew its masks, and
//! `permutation(n)` the order of its training episodes.
//!
//! In: a 64-bit seed, then sizes and counts in the order of the draws. Out: distinct indices in NumPy's raw order.
//! Invariant: the same calls give the same values as NumPy (`tests/oracles/numpy_cases.py` says which version).
//!
//! Sources: the seed is spread by NumPy's `SeedSequence` (after M. E. O'Neill's design of seed sequences); the bits are
//! PCG64 in its XSL-RR variant (M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
//! Algorithms for Random Number Generation", 2014); draws below a bound are by D. Lemire, "Fast Random Integer
//! Generation in an Interval", 2019; the choice is that of NumPy's `Generator.choice`.

use std::collections::HashSet;

use super::TooMany;

/// Multiplier of the 128-bit linear congruential generator.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
/// NumPy shuffles a list of all elements when there are more than these ...
const SMALL: u64 = 10_000;
/// ... and more than one in so many is chosen; else it draws with Floyd's algorithm.
const CUTOFF: u64 = 50;
/// A bitmap of so many words (128 MiB, and only pages that are touched count) is always affordable.
const AFFORDABLE_WORDS: u64 = 1 << 24;

/// NumPy's `default_rng(seed)`.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u128,
    increment: u128,
    /// The high half of a 64-bit draw whose low half has been used; it stays over calls.
    half: Option<u32>,
}

impl Generator {
    /// The generator of a seed. Seeds of more than 32 bits are those of NumPy's integer of the same value.
    pub fn new(seed: u64) -> Self {
        let [high, low, stream_high, stream_low] = seed_words(seed);
        let stream = u128::from(stream_high) << 64 | u128::from(stream_low);
        let mut generator = Self { state: 0, increment: stream << 1 | 1, half: None };
        generator.step();
        generator.state = generator.state.wrapping_add(u128::from(high) << 64 | u128::from(low));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    /// The next 64 bits. They leave a kept half alone.
    pub fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// The next 32 bits: the low half of a 64-bit draw, then its high half.
    pub fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let both = self.next_u64();
        self.half = Some((both >> 32) as u32);
        both as u32
    }

    /// A uniform integer in `[0, last]`, both ends included, of as few bits as NumPy takes: none when `last` is 0.
    pub fn up_to(&mut self, last: u64) -> u64 {
        const NARROW: u64 = u32::MAX as u64;
        match last {
            0 => 0,
            1..NARROW => self.up_to_narrow(last as u32).into(),
            NARROW => self.next_u32().into(),
            u64::MAX => self.next_u64(),
            _ => self.up_to_wide(last),
        }
    }

    fn up_to_narrow(&mut self, last: u32) -> u32 {
        let bound = last + 1;
        let mut product = u64::from(self.next_u32()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = (u32::MAX - last) % bound;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }

    fn up_to_wide(&mut self, last: u64) -> u64 {
        let bound = last + 1;
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            let threshold = (u64::MAX - last) % bound;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
    }

    /// `kept` distinct indices below `elements`, in NumPy's raw order: that of `choice(elements, kept, replace=False)`.
    ///
    /// Takes 4 bytes per element where more than a fiftieth of more than 10,000 is kept, else 4 bytes per kept index and
    /// at most a bit per element.
    ///
    /// # Errors
    /// When more are kept than there are.
    pub fn choice(&mut self, elements: u32, kept: u32) -> Result<Vec<u32>, TooMany> {
        self.draw(elements.into(), kept.into())
    }

    /// As [`Generator::choice`], with indices of 64 bits and twice the memory.
    ///
    /// # Errors
    /// When more are kept than there are.
    pub fn choice_wide(&mut self, elements: u64, kept: u64) -> Result<Vec<u64>, TooMany> {
        self.draw(elements, kept)
    }

    /// All indices below `elements` in the order of `permutation(elements)`.
    ///
    /// Its draws are not those of a choice: bits beyond the last index are cut off, and what is still too large is drawn again.
    pub fn permutation(&mut self, elements: u64) -> Vec<u64> {
        let mut all: Vec<u64> = (0..elements).collect();
        for at in (1..all.len()).rev() {
            let other = self.masked(at as u64) as usize;
            all.swap(at, other);
        }
        all
    }

    /// A uniform integer in `[0, last]` by rejection; `last` is not 0.
    fn masked(&mut self, last: u64) -> u64 {
        let mask = u64::MAX >> last.leading_zeros();
        loop {
            let drawn = if last > u32::MAX.into() { self.next_u64() } else { self.next_u32().into() };
            if drawn & mask <= last {
                return drawn & mask;
            }
        }
    }

    fn draw<T: Index>(&mut self, elements: u64, kept: u64) -> Result<Vec<T>, TooMany> {
        if kept > elements {
            return Err(TooMany { kept, elements });
        }
        if elements > SMALL && kept > elements / CUTOFF {
            Ok(self.tail_of_shuffled(elements, kept))
        } else {
            Ok(self.floyd(elements, kept))
        }
    }

    /// The end of a list of all elements, shuffled as far as it is taken.
    fn tail_of_shuffled<T: Index>(&mut self, elements: u64, kept: u64) -> Vec<T> {
        let dropped = (elements - kept) as usize;
        let mut all: Vec<T> = (0..elements).map(T::of).collect();
        self.shuffle(&mut all, dropped);
        // In place, so that there is never a second list.
        all.drain(..dropped);
        all.shrink_to_fit();
        all
    }

    /// Floyd's algorithm (Bentley and Floyd, CACM 1987), and a shuffle of what it chose.
    fn floyd<T: Index>(&mut self, elements: u64, kept: u64) -> Vec<T> {
        let mut taken = Taken::new(elements, kept);
        let mut chosen = Vec::with_capacity(kept as usize);
        for top in elements - kept..elements {
            let drawn = self.up_to(top);
            let index = if taken.insert(drawn) { drawn } else { top };
            if index == top {
                taken.insert(top);
            }
            chosen.push(T::of(index));
        }
        self.shuffle(&mut chosen, 0);
        chosen
    }

    /// Fisher-Yates from the end down to `first`.
    fn shuffle<T>(&mut self, items: &mut [T], first: usize) {
        for at in (first.max(1)..items.len()).rev() {
            let other = self.up_to(at as u64) as usize;
            items.swap(at, other);
        }
    }
}

/// A type of index.
trait Index: Copy {
    /// An index that is known to fit.
    fn of(index: u64) -> Self;
}

impl Index for u32 {
    fn of(index: u64) -> Self {
        index as Self
    }
}

impl Index for u64 {
    fn of(index: u64) -> Self {
        index
    }
}

/// What Floyd's algorithm has taken: a bitmap where that is no larger than what it returns, or small.
enum Taken {
    Bits(Vec<u64>),
    Set(HashSet<u64>),
}

impl Taken {
    fn new(elements: u64, kept: u64) -> Self {
        let words = elements.div_ceil(64);
        if words <= AFFORDABLE_WORDS.max(kept) {
            Self::Bits(vec![0; words as usize])
        } else {
            Self::Set(HashSet::with_capacity(kept as usize))
        }
    }

    /// Whether the index is new; now it is taken.
    fn insert(&mut self, index: u64) -> bool {
        match self {
            Self::Bits(words) => {
                let word = &mut words[(index / 64) as usize];
                let before = *word;
                *word |= 1 << (index % 64);
                before != *word
            }
            Self::Set(set) => set.insert(index),
        }
    }
}

/// The four 64-bit words that `SeedSequence(seed)` gives PCG64: two of the state, two of the stream, high word first.
fn seed_words(seed: u64) -> [u64; 4] {
    let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
    // A seed of 32 bits or less has one word; absent words are hashed as 0, and so is a high half of 0.
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(|word| hash.of(word));
    for source in 0..4 {
        for target in (0..4).filter(|target| *target != source) {
            pool[target] = mix(pool[target], hash.of(pool[source]));
        }
    }
    let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
    let halves: [u32; 8] = std::array::from_fn(|at| hash.of(pool[at % 4]));
    std::array::from_fn(|at| u64::from(halves[2 * at + 1]) << 32 | u64::from(halves[2 * at]))
}

/// A hash whose constant moves on with every word.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn of(&mut self, word: u32) -> u32 {
        let word = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let word = word.wrapping_mul(self.constant);
        word ^ word >> 16
    }
}

fn mix(x: u32, y: u32) -> u32 {
    let mixed = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
    mixed ^ mixed >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_spread_as_those_of_numpy() {
        // SeedSequence(seed).generate_state(4, uint64).
        for (seed, words) in [
            (0, [0xdb2c_d7e7_b0f4_78be, 0xabf4_641a_2c71_ba49, 0x20c6_ed6d_9d7b_8d41, 0x2c40_99de_223c_39d4]),
            (
                42,
                [0x9f1e_2e6d_cd54_0ab7, 0xd578_73dc_79fb_94b6, 0x7d28_2a1b_64d4_20b7, 0x3365_7971_4692_d5ff],
            ),
            (
                2001,
                [0xefbf_a666_f3ef_3e7b, 0x5610_b4c4_4c08_08f1, 0x17d0_3549_17ac_51c8, 0xbf55_fdb1_5c3b_d582],
            ),
        ] {
            assert_eq!(seed_words(seed), words, "{seed}");
        }
    }

    #[test]
    fn no_entries_take_no_draw_and_too_many_are_refused() {
        let mut generator = Generator::new(7);
        let untouched = generator.clone();
        assert!(generator.choice(0, 0).unwrap().is_empty());
        assert!(generator.choice(20_000, 0).unwrap().is_empty());
        assert_eq!(generator.choice(1, 1).unwrap(), [0]);
        let refused = generator.choice(3, 4).unwrap_err();
        assert_eq!(refused, TooMany { kept: 4, elements: 3 });
        assert_eq!(refused.to_string(), "draw 4 distinct items: there are 3");
        assert_eq!((generator.state, generator.half), (untouched.state, untouched.half));
    }

    #[test]
    fn narrow_and_wide_indices_are_the_same() {
        for (elements, kept) in [(9_999, 5_000), (50_000, 1_000), (50_000, 1_001), (50_000, 50_000)] {
            let (mut narrow, mut wide) = (Generator::new(5), Generator::new(5));
            let narrow = narrow.choice(elements, kept).unwrap();
            let wide = wide.choice_wide(elements.into(), kept.into()).unwrap();
            assert!(narrow.iter().map(|index| u64::from(*index)).eq(wide), "{kept} of {elements}");
        }
    }

    #[test]
    fn a_set_and_a_bitmap_take_the_same() {
        let (mut bits, mut set) = (Taken::new(1 << 20, 10), Taken::new(1 << 40, 10));
        assert!(matches!((&bits, &set), (Taken::Bits(_), Taken::Set(_))));
        for index in [63, 64, 63, 1 << 19, 0, 64] {
            assert_eq!(bits.insert(index), set.insert(index), "{index}");
        }
    }
}
