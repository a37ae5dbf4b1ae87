//! The command line: arguments in, output and exit codes out. One file per command.

pub mod args;
#[cfg(feature = "torch")]
pub mod doctor;
pub mod plan;
pub mod show;
pub mod status;
pub mod sweep;
pub mod work;
