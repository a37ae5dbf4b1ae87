//! STAND-IN: the lead's file. The command line.

pub mod args;
pub mod show;
pub mod status;
pub mod sweep;
pub mod work;
