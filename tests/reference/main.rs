//! What other languages say, to the bit: NumPy and CPython as generators of random numbers, CPython as the original
//! environment of alphabet-sort. The fixtures are printed by the scripts in tests/oracles; no Python is needed here.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

#[expect(dead_code, reason = "here all is equal or not, and nothing is folded")]
#[path = "../numerics/table.rs"]
mod table;

mod alphabet_sort;
mod episodes;
mod numpy;
mod random;
mod similarity;
mod transcripts;
