//! `tickets export`: a base model, or the model that a run trained, as a Hugging Face directory.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::args::ManifestArgs;
use crate::exit::{Code, Failure};
use crate::store::{Store, write_folder};
use crate::torch::export_files;
use crate::{manifest, plan};

/// Arguments of `tickets export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Which manifest
    #[command(flatten)]
    pub common: ManifestArgs,
    /// The run whose trained model is written: a label, or a prefix of its id
    #[arg(long, value_name = "RUN", required_unless_present = "base")]
    pub run: Option<String>,
    /// Write the base model that the manifest's first run starts from
    #[arg(long, conflicts_with = "run")]
    pub base: bool,
    /// The folder to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// The command.
///
/// # Errors
/// When the run or the base is not finished, or the folder cannot be written.
pub fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.common.manifest, &args.common.overrides())?)?;
    let store = Store::open_read_only(&args.common.results)?;
    let run = match &args.run {
        Some(run) => plan.find(run)?,
        None => plan.runs.first().ok_or_else(|| Failure::new(Code::Plan, "the manifest has no run", None))?,
    };
    let files = export_files(run, &store, !args.base).map_err(|error| {
        let hint = error.hint().or_else(|| Some("finish it first: tickets sweep MANIFEST".into()));
        Failure::new(Code::Environment, error, hint)
    })?;
    write_folder(&args.out, &files)?;
    let _ = writeln!(out, "{}: {} files", args.out.display(), files.len());
    Ok(Code::Ok)
}
