//! Seeded draws for tests, and how many of them.
//!
//! In: a seed. Out: the same numbers every time (SplitMix64). `TICKETS_TORTURE_ROUNDS` multiplies the random rounds;
//! `TICKETS_TORTURE_SEED` begins them elsewhere, so that every night can try others.

/// A source of numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(
            seed.wrapping_add(
                setting("TICKETS_TORTURE_SEED").unwrap_or(0).wrapping_mul(0x5851_F42D_4C95_7F2D),
            ),
        )
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// How many random rounds there are, for a test that does `few` of them by default.
pub fn rounds(few: u64) -> u64 {
    few * setting("TICKETS_TORTURE_ROUNDS").unwrap_or(1)
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")))
}
