//! `tickets masks union A B ...` and `tickets masks intersect A B ...`: several masks of a model to one.
//!
//! Memory: the mask so far, the next one and the result of the two.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::inputs::{Input, ModelArg, unlike};
use super::outputs::OutArgs;
use crate::exit::{Code, Failure};
use crate::masks::Form;
use crate::sparsity::{Mask, SparsityError};

/// Arguments of both.
#[derive(Args, Clone, Debug)]
pub struct CombineArgs {
    /// The masks: files of one model
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    pub files: Vec<PathBuf>,
    /// Their model
    #[command(flatten)]
    pub model: ModelArg,
    /// The new mask
    #[command(flatten)]
    pub out: OutArgs,
}

/// The union.
pub fn union(args: &CombineArgs) -> Result<String, Failure> {
    let (mask, recipe, notes) = folded(args, "union", Mask::union)?;
    args.out.write(&mask, Form::Indices, recipe, &notes, "every one of the masks is empty")
}

/// The intersection.
pub fn intersect(args: &CombineArgs) -> Result<String, Failure> {
    let (mask, recipe, notes) = folded(args, "intersection", Mask::intersection)?;
    let why =
        "no entry is in all of the masks; `tickets masks jaccard` says which of them have entries in common";
    args.out.write(&mask, Form::Indices, recipe, &notes, why)
}

type Pair = fn(&Mask, &Mask) -> Result<Mask, SparsityError>;

fn folded(args: &CombineArgs, kind: &str, pair: Pair) -> Result<(Mask, Value, Vec<String>), Failure> {
    args.out.free()?;
    let model = args.model.sizes()?;
    let (mut so_far, mut cited, mut notes) = (None::<Mask>, Vec::new(), Vec::new());
    for path in &args.files {
        let input = Input::read(path, model.as_deref())?;
        cited.push(input.cited());
        notes.extend(input.notes());
        so_far = Some(match so_far {
            None => input.file.mask,
            Some(mask) => pair(&mask, &input.file.mask)
                .map_err(|error| unlike("combine", &args.files[0], path, &error))?,
        });
    }
    let mask = so_far.ok_or_else(|| Failure::new(Code::Usage, "name two masks or more", None))?;
    Ok((mask, json!({ "type": kind, "of": cited }), notes))
}
