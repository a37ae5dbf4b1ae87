//! `tickets work MANIFEST`: one more worker on a grid, beside a sweep or others like it.
//!
//! In: a manifest and a results folder that several machines may share. Out: finished runs; no report, which `sweep` or
//! `report` writes. It does whatever nobody else is at, and ends when nothing of that kind is left. Exit codes: those of
//! `sweep`; 0 also when the rest is under way elsewhere.

use std::io::Write;

use clap::Args;

use super::args::ManifestArgs;
use super::sweep::{Gpus, GridArgs, work_through};
use crate::exit::{Code, Failure};

/// Arguments of `tickets work`.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// Manifest, overrides, results
    #[command(flatten)]
    pub common: ManifestArgs,
    /// How the grid is worked through
    #[command(flatten)]
    pub grid: GridArgs,
    /// Stay until the whole grid is done, and take over what other workers abandon
    #[arg(long)]
    pub wait: bool,
}

/// The command.
///
/// # Errors
/// As `sweep`.
pub fn work(args: &WorkArgs, gpus: Gpus, out: &mut dyn Write) -> Result<Code, Failure> {
    let worked = work_through(&args.common, &args.grid, gpus, args.wait, out)?;
    let summary = &worked.summary;
    if summary.is_complete() {
        let _ =
            writeln!(out, "the grid is done: `tickets report {}` writes its report", args.common.manifest);
    }
    let others_do_the_rest = summary.failed.is_empty() && summary.left.len() + summary.paused.len() == 0;
    Ok(if worked.code == Code::RunsFailed && others_do_the_rest { Code::Ok } else { worked.code })
}
