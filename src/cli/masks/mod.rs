//! `tickets masks`: masks as files, looked at, combined, and taken to other programs and back. One file per command.
//!
//! In: mask files, and a model's shape where a file does not say it. Out: text or one JSON object; the commands that write
//! make one new file, whole or not at all.

mod build;
mod combine;
mod complement;
mod describe;
mod export;
mod import;
mod inputs;
mod jaccard;
mod outputs;

use std::io::Write;

use clap::Subcommand;

use crate::exit::{Code, Failure};

/// What to do with masks.
#[derive(Clone, Debug, Subcommand)]
pub enum MasksCommand {
    /// A mask of a model: by chance, by score, or by shape
    Build(Box<build::BuildArgs>),
    /// How many entries masks have, in which layers and modules, and how they were made
    Describe(describe::DescribeArgs),
    /// How much masks have in common, against chance: in all, by layer and by module
    Jaccard(jaccard::JaccardArgs),
    /// The entries that are in any of several masks, as a new one
    Union(combine::CombineArgs),
    /// The entries that are in all of several masks, as a new one
    Intersect(combine::CombineArgs),
    /// The entries that are not in a mask, as a new one
    Complement(complement::ComplementArgs),
    /// A mask as booleans of the parameters' shapes, for PyTorch
    Export(export::ExportArgs),
    /// A mask from PyTorch, or an older file, as a file that says what it is of
    Import(import::ImportArgs),
}

/// The command.
///
/// # Errors
/// When a file is wrong, masks do not fit each other or the model, or the new file cannot be written.
pub fn run(command: &MasksCommand, out: &mut dyn Write) -> Result<Code, Failure> {
    let text = match command {
        MasksCommand::Build(args) => build::build(args)?,
        MasksCommand::Describe(args) => describe::describe(args)?,
        MasksCommand::Jaccard(args) => jaccard::jaccard(args)?,
        MasksCommand::Union(args) => combine::union(args)?,
        MasksCommand::Intersect(args) => combine::intersect(args)?,
        MasksCommand::Complement(args) => complement::complement(args)?,
        MasksCommand::Export(args) => export::export(args)?,
        MasksCommand::Import(args) => import::import(args)?,
    };
    let _ = writeln!(out, "{}", text.trim_end());
    Ok(Code::Ok)
}
