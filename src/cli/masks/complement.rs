//! `tickets masks complement FILE`: what a mask leaves out.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::inputs::{Input, ModelArg};
use super::outputs::OutArgs;
use crate::exit::Failure;
use crate::masks::Form;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct ComplementArgs {
    /// The mask
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Its model
    #[command(flatten)]
    pub model: ModelArg,
    /// The new mask
    #[command(flatten)]
    pub out: OutArgs,
}

/// The command.
pub fn complement(args: &ComplementArgs) -> Result<String, Failure> {
    args.out.free()?;
    let input = Input::read(&args.file, args.model.sizes()?.as_deref())?;
    let recipe = json!({ "type": "complement", "of": [input.cited()] });
    let notes: Vec<String> = input.notes().collect();
    args.out.write(
        &input.file.mask.complement(),
        Form::Indices,
        recipe,
        &notes,
        "the mask has every entry of its model",
    )
}
