//! Models and datasets of a hub, against a small one on loopback that can go wrong in every way: by the library and by the program.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod data_commands;
mod datasets;
mod faults;
mod fetching;
mod killed;
mod server;
mod support;
