//! `tickets export [MANIFEST] RUN`: what a run made of its base, for other programs.
//!
//! In: a finished run. Out: a Hugging Face directory (`--format hf`), or a small file that `tickets apply` turns into the
//! same directory, given the base (`--format delta`). Both are written whole or not at all.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::args::LookArgs;
use super::chosen::chosen;
use super::logprobs::DtypeArg;
use super::output::{must_be_free, placed, taken};
use crate::exit::{Code, Failure};
use crate::plan::RunSpec;
use crate::store::fs::publish_file;
use crate::store::{RunState, Store, human_bytes};
use crate::torch::{Exported, RunError, export_delta, export_model};
use crate::{manifest, plan};

/// Arguments of `tickets export`.
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "tickets export [OPTIONS] [MANIFEST] RUN\n       tickets export [OPTIONS] MANIFEST --base"
)]
pub struct ExportArgs {
    /// The manifest, when the run is named by its label, or with --base; else the run itself
    #[arg(value_name = "MANIFEST|RUN")]
    pub first: String,
    /// The run: the beginning of its id, or its label in the manifest
    #[arg(value_name = "RUN")]
    pub second: Option<String>,
    /// The same as the second argument, beside a manifest
    #[arg(long, value_name = "RUN", conflicts_with_all = ["second", "base"])]
    pub run: Option<String>,
    /// Write the base model that the manifest's first run starts from
    #[arg(long, conflicts_with = "second")]
    pub base: bool,
    /// A Hugging Face directory, or the difference from the base in one file
    #[arg(long, value_enum, default_value_t = Format::Hf)]
    pub format: Format,
    /// What to write, which must not exist yet: a folder, or a file for a delta. Absent: a name made of the run's id
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// The type of the weights in a directory; absent: the base's
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArg>,
    /// Results, overrides, JSON
    #[command(flatten)]
    pub look: LookArgs,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A directory that transformers loads.
    Hf,
    /// A file with the entries that changed.
    Delta,
}

/// The command.
///
/// # Errors
/// When the run or the base is not finished, or what is asked for exists or cannot be written.
pub fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    if args.format == Format::Delta && (args.base || args.dtype.is_some()) {
        let flag = if args.base { "--base" } else { "--dtype" };
        let hint = "a delta is the difference of a run from its base, in the base's type";
        return Err(Failure::new(Code::Usage, format!("--format delta with {flag}"), Some(hint.into())));
    }
    let store = Store::open_read_only(&args.look.results)?;
    let run = if args.base {
        let first =
            plan::expand(manifest::load(&args.first, &args.look.overrides())?)?.runs.into_iter().next();
        first.ok_or_else(|| Failure::new(Code::Plan, "the manifest has no run", None))?
    } else {
        let wanted = args.run.as_deref().or(args.second.as_deref());
        chosen("export", &args.first, wanted, &args.look, &store)?
    };
    let name: String = run.id.as_str().chars().take(12).collect();
    let (path, exported) = match args.format {
        Format::Hf => {
            let path =
                args.out.clone().unwrap_or_else(|| if args.base { "base".into() } else { name.into() });
            must_be_free(&path)?;
            let dtype = args.dtype.map(Into::into);
            let exported = export_model(&run, &store, !args.base, dtype, &path, &note)
                .map_err(|error| placed(explained(error, &run, &store), &path))?;
            (path, exported)
        }
        Format::Delta => {
            let path = args.out.clone().unwrap_or_else(|| format!("{name}.delta.safetensors").into());
            (path.clone(), delta(&run, &store, &path)?)
        }
    };
    let text = if args.look.json { as_json(&path, &exported) } else { told(&path, &exported, args.base) };
    let _ = out.write_all(text.as_bytes());
    Ok(Code::Ok)
}

fn delta(run: &RunSpec, store: &Store, path: &Path) -> Result<Exported, Failure> {
    must_be_free(path)?;
    let (bytes, mut exported) =
        export_delta(run, store, &note).map_err(|error| explained(error, run, store))?;
    // Another may have written it in the meantime: the first one stays.
    if !publish_file(path, &bytes).map_err(|error| placed(error.into(), path))? {
        return Err(taken(path));
    }
    exported.files = vec![format!("{} ({})", path.display(), human_bytes(bytes.len() as u64))];
    Ok(exported)
}

/// A label may have come to mean another run than the one that is finished: after a change of the manifest, or of what it names.
fn explained(error: RunError, run: &RunSpec, store: &Store) -> Failure {
    let unfinished = matches!(error, RunError::NotFinished { .. } | RunError::NoArtifact { .. });
    let failure = Failure::from(error);
    if !unfinished {
        return failure;
    }
    let finished = |id: &&String| matches!(store.run_state(id), Ok(RunState::Done));
    let records = store.records().unwrap_or_default();
    let alike = records
        .iter()
        .filter(|(id, record)| record["label"] == run.label.as_str() && **id != run.id.as_str());
    let others: Vec<&str> = alike.map(|(id, _)| id).filter(finished).filter_map(|id| id.get(..12)).collect();
    if others.is_empty() {
        return failure;
    }
    let hint = format!(
        "{} is run {:.12} now; finished runs of this label are {}: the manifest, or what it names, was changed since",
        run.label,
        run.id.as_str(),
        others.join(", ")
    );
    Failure { hint: Some(hint), ..failure }
}

/// What takes a while is said, beside the result.
fn note(text: &str) {
    eprintln!("{text}");
}

/// The run that the arguments name.
fn as_json(path: &Path, exported: &Exported) -> String {
    let Exported { files, digest, changed, total, rounded } = exported;
    let value = json!({ "out": path, "files": files, "digest": digest, "changed": changed, "total": total, "rounded": rounded });
    format!("{value}\n")
}

fn told(path: &Path, exported: &Exported, base: bool) -> String {
    let mut text = match exported.files.as_slice() {
        [file] => format!("{file}\n"),
        files => format!("{}: {} files\n", path.display(), files.len()),
    };
    if !base {
        let _ = writeln!(text, "{} of {} entries differ from the base", exported.changed, exported.total);
    }
    if exported.rounded {
        text.push_str("values were rounded from float32 to the base's type; --dtype float32 keeps them\n");
    }
    text
}
