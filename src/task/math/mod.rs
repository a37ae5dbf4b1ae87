//! Mathematics: the final answer of a text, and whether it is the right one.
//!
//! In: what the model wrote and the reference answer. Out: right or wrong, a pure function of the two, for any input in
//! bounded time. [`boxed`] finds the answer, [`gsm8k_correct`] asks for the very text, [`equivalent`] for the same
//! mathematical object: text to tokens (`lex`), tokens to what the answer is (`structure`, `brackets`, `relation`, `units`), formulas to
//! sums of terms with rational coefficients (`syntax`, `evaluate`, `polynomial`), and those are compared (`compare`).

mod boxed;
mod brackets;
mod compare;
mod equivalent;
mod evaluate;
mod exact;
mod lex;
mod polynomial;
mod rational;
mod relation;
mod render;
mod structure;
mod syntax;
mod things;
mod units;
mod words;

#[cfg(test)]
mod pairs_tests;

pub use boxed::boxed;
pub use equivalent::equivalent;
pub use exact::{gsm8k_correct, gsm8k_truth};
