//! `tickets masks` as a user meets it: masks looked at, combined, taken to PyTorch and back, and everything that can be
//! wrong with a file. Through the real program, which need not have the feature `torch` for it.

#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../numerics/table.rs"]
mod table;

mod build;
mod describe;
mod disk;
mod exchange;
mod jaccard;
mod memory;
mod pytorch;
mod refusals;
mod sets;
mod support;
