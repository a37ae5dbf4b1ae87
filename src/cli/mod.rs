//! Commands.

pub mod args;
pub mod plan;
