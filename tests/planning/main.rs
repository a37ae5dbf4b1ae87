//! What `plan` says before a GPU hour is spent, and `diff` afterwards: through the real program, on stores in which runs
//! were finished by hand.

#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

#[path = "../common/mod.rs"]
mod common;

mod costs;
mod locks;
mod states;
mod support;
mod told;
