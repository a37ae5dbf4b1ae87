//! `tickets apply DELTA --base DIR`: a delta and its base to the model that was exported.
//!
//! In: a file that `tickets export --format delta` wrote and the base's directory, wherever it comes from. Out: a Hugging
//! Face directory with the bytes that `--format hf` would have written. The base and the result are checked by digest.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::{must_be_free, placed};
use crate::data::{ApplyError, Delta, ModelDir, apply_delta};
use crate::exit::{Code, Failure};

/// How files of deltas end.
const ENDING: &str = ".delta.safetensors";

/// Arguments of `tickets apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// A file that `tickets export RUN --format delta` wrote
    #[arg(value_name = "DELTA")]
    pub delta: PathBuf,
    /// The directory of the base model
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// The folder to write, which must not exist yet. Absent: the delta's name without its ending
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The command.
///
/// # Errors
/// When the delta is damaged, the base is another one, or the folder cannot be written; nothing is written then.
pub fn apply(args: &ApplyArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let delta = Delta::open(&args.delta)?;
    let dir = ModelDir::open(&args.base)?;
    let target = args.out.clone().unwrap_or_else(|| beside(&args.delta));
    must_be_free(&target)?;
    let files = apply_delta(&delta, &dir, &target).map_err(|error| placed(error.into(), &target))?;
    let (changed, digest) = (delta.changed(), &delta.head.result_digest);
    let text = if args.json {
        json!({ "out": target, "files": files, "digest": digest, "changed": changed, "run": delta.head.run })
            .to_string()
    } else {
        format!("{}: {} files, {changed} entries changed, digest {digest}", target.display(), files.len())
    };
    let _ = writeln!(out, "{text}");
    Ok(Code::Ok)
}

/// The delta's path without its ending.
fn beside(delta: &Path) -> PathBuf {
    let name = delta.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let short = name.strip_suffix(ENDING).map_or_else(|| format!("{name}-applied"), str::to_owned);
    delta.with_file_name(short)
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let hint = match &error {
            ApplyError::Data(error) => error.hint(),
            ApplyError::Store(error) => error.hint(),
            ApplyError::OtherFile { base, .. } => Some(format!(
                "take the whole directory of the base, which is called `{base}`: shape, tokenizer and template are part of it"
            )),
            ApplyError::OtherBase { base, .. } => Some(format!(
                "its base is called `{base}`; a copy in another type, or of another revision, does not serve"
            )),
            ApplyError::OtherResult { .. } => Some("export the run again".into()),
        };
        let code = if matches!(error, ApplyError::Store(_)) { Code::Store } else { Code::Environment };
        Self::new(code, error, hint)
    }
}
