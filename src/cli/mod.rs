//! The command line: arguments in, output and exit codes out.

pub mod args;
pub mod doctor;
pub mod plan;
#[cfg(feature = "tables")]
pub mod report;
