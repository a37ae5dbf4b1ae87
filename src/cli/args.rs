//! Arguments that several commands share.

use std::path::PathBuf;

use crate::exit::Failure;
use crate::manifest::{ManifestError, Overrides};
use crate::plan::PlanError;

/// Which manifest, under which overrides, with which results.
#[derive(Clone, Debug, clap::Args)]
pub struct ManifestArgs {
    /// A path, or a name under manifests/
    #[arg(value_name = "MANIFEST")]
    pub manifest: String,
    /// Override a setting, such as optimizer.lr=1e-4 (may be given several times)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Ignore TICKETS_* environment variables
    #[arg(long)]
    pub no_env: bool,
    /// The folder of results and artifacts
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
}

impl ManifestArgs {
    /// The overrides that the arguments ask for.
    pub fn overrides(&self) -> Overrides {
        Overrides { set: self.set.clone(), env: !self.no_env }
    }
}

/// How a command that looks at runs finds and prints them.
#[derive(Clone, Debug, clap::Args)]
pub struct LookArgs {
    /// Where results are
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Set a value of the manifest, as in optimizer.lr=1e-4
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Ignore TICKETS_* overrides in the environment
    #[arg(long)]
    pub no_env: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl LookArgs {
    /// The overrides that the arguments ask for.
    pub fn overrides(&self) -> Overrides {
        Overrides { set: self.set.clone(), env: !self.no_env }
    }
}

/// A failure drawn with its source underlined, when it points into a manifest or an override.
pub fn drawn(failure: &Failure, color: bool) -> Option<String> {
    let manifest = failure.error.downcast_ref::<ManifestError>().and_then(|error| error.render(color));
    manifest.or_else(|| failure.error.downcast_ref::<PlanError>()?.render(color))
}
