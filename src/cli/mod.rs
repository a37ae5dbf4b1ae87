//! The command line: arguments in, output and exit codes out.

pub mod doctor;
