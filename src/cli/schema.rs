//! `tickets schema`: the JSON Schema of manifests, for editors. It writes nothing but its output.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Code, Failure};
use crate::manifest::schema_text;

/// Arguments of `tickets schema`.
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Print nothing, and fail when FILE is not the schema
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// The command.
///
/// # Errors
/// When the file to check cannot be read or is not the schema.
pub fn schema(args: &SchemaArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let text = schema_text();
    let Some(path) = &args.check else {
        // A reader that went away, as `| head` does, is no error.
        let _ = out.write_all(text.as_bytes());
        return Ok(Code::Ok);
    };
    let file = path.display();
    let hint = format!("make it anew: tickets schema > {file}");
    let found = std::fs::read(path)
        .map_err(|error| Failure::new(Code::Manifest, format!("read {file}: {error}"), Some(hint.clone())))?;
    if found == text.as_bytes() {
        return Ok(Code::Ok);
    }
    let lines = String::from_utf8_lossy(&found);
    let same = lines.lines().zip(text.lines()).take_while(|(found, wanted)| found == wanted).count();
    let error =
        format!("{file} is not the schema of this program's manifests: it differs from line {} on", same + 1);
    Err(Failure::new(Code::Manifest, error, Some(hint)))
}
