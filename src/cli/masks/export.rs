//! `tickets masks export FILE`: a mask as booleans, one tensor of each parameter's shape, for PyTorch.
//!
//! Memory: the mask and a MiB; the file has a byte per entry of the model.

use std::path::PathBuf;

use clap::Args;

use super::import::kept_recipe;
use super::inputs::{Input, ModelArg};
use super::outputs::OutArgs;
use crate::exit::Failure;
use crate::masks::Form;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The mask
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Its model
    #[command(flatten)]
    pub model: ModelArg,
    /// The new file
    #[command(flatten)]
    pub out: OutArgs,
}

/// The command.
pub fn export(args: &ExportArgs) -> Result<String, Failure> {
    args.out.free()?;
    let input = Input::read(&args.file, args.model.sizes()?.as_deref())?;
    let notes: Vec<String> = input.notes().collect();
    args.out.write(
        &input.file.mask,
        Form::Booleans,
        kept_recipe(&input),
        &notes,
        "it would be false everywhere",
    )
}
