//! `tickets plan`: the runs of a manifest before anything is run. Without `--lock` it writes nothing.

mod costs;
mod json;
mod lock;
mod survey;
mod table;
mod why;

pub use costs::{Cost, Costs, duration};
pub use survey::{ReuseView, StageView, StateView, Survey};

use super::args::ManifestArgs;
use crate::exit::{Code, Failure};
use crate::plan::Plan;
use crate::store::Store;

/// Arguments of `plan`.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct PlanArgs {
    /// Which manifest
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Say where every value that is not a default comes from
    #[arg(long)]
    pub origins: bool,
    /// Explain one run (its label, id or the beginning of either): why it will be executed, or which result it equals
    #[arg(long, value_name = "RUN", conflicts_with_all = ["lock", "check", "origins"])]
    pub why: Option<String>,
    /// Write the ids and labels of the runs to results/MANIFEST/plan.lock
    #[arg(long, conflicts_with_all = ["check", "origins"])]
    pub lock: bool,
    /// Fail when plan.lock is not that of the manifest as it is now
    #[arg(long, conflicts_with = "origins")]
    pub check: bool,
}

/// The whole output of the command.
pub fn print(plan: &Plan, survey: &Survey, json: bool, origins: bool) -> String {
    if json { json::print(plan, survey) } else { table::print(plan, survey, origins) }
}

/// The command.
///
/// # Errors
/// When the manifest, the plan or the results folder cannot be used, or, with `--check`, when the lock is out of date.
pub fn plan(args: &PlanArgs, out: &mut dyn std::io::Write) -> Result<Code, Failure> {
    let common = &args.manifest;
    let plan = crate::plan::expand(crate::manifest::load(&common.manifest, &common.overrides())?)?;
    let mut code = Code::Ok;
    let text = if args.lock {
        lock::write(&plan, &common.results, args.json)?
    } else if args.check {
        let (text, found) = lock::check(&plan, &common.results, args.json)?;
        code = found;
        text
    } else {
        let store = Store::open_read_only(&common.results)?;
        let survey = Survey::of(&plan, &store)?;
        match &args.why {
            Some(wanted) => why::explain(&plan, plan.find(wanted)?, &survey, &store, args.json)?,
            None => print(&plan, &survey, args.json, args.origins),
        }
    };
    // A reader that closed the pipe has seen enough.
    let _ = out.write_all(text.as_bytes());
    Ok(code)
}

/// Appends a line. Writing to a String cannot fail.
fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    use std::fmt::Write;
    writeln!(out, "{line}").expect("a String takes everything");
}

/// `1 run`, `2 runs`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
