//! Arguments that several commands share.

use std::path::PathBuf;

use crate::manifest::Overrides;

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
