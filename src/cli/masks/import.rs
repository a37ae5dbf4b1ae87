//! `tickets masks import FILE`: a mask from PyTorch, or an older file of indices, as a file that describes itself.
//!
//! Invariant: what was exported comes back as it was, byte for byte when this program made it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::inputs::{Input, ModelArg};
use super::outputs::{OutArgs, word};
use crate::exit::Failure;
use crate::masks::{self, Form};

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// A safetensors file: booleans of the parameters' shapes, or flat indices (int32 or int64), by the parameters' names
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
pub fn import(args: &ImportArgs) -> Result<String, Failure> {
    args.out.free()?;
    let input = Input::read(&args.file, args.model.sizes()?.as_deref())?;
    let notes: Vec<String> = input.notes().collect();
    args.out.write(&input.file.mask, Form::Indices, kept_recipe(&input), &notes, "it is false everywhere")
}

/// The recipe that a file has, or one that says where the mask comes from.
pub fn kept_recipe(input: &Input) -> Value {
    let mut recipe = match &input.file.recipe {
        Some(Value::Object(recipe)) => return recipe.clone().into(),
        Some(other) => json!({ "type": "imported", "recipe": other }),
        None => json!({ "type": "imported" }),
    };
    recipe["file"] = masks::name(&input.path).into();
    recipe["digest"] = input.digest.as_str().into();
    recipe["form"] = word(input.file.form).into();
    recipe
}
