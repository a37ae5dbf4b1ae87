//! `tickets verify`: whether what is on the disk is what was computed.

use std::io::Write;

use clap::Subcommand;

use crate::exit::{Code, Failure};

pub mod store;

/// What to verify.
#[derive(Clone, Debug, Subcommand)]
pub enum VerifyCommand {
    /// Read every byte of the store and say what is damaged
    Store(store::StoreArgs),
}

/// Carries the command out.
///
/// # Errors
/// As the command says.
pub fn run(command: &VerifyCommand, out: &mut dyn Write) -> Result<Code, Failure> {
    match command {
        VerifyCommand::Store(args) => store::store(args, out),
    }
}
