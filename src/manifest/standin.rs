//! STAND-IN until the manifest room is merged: reads just enough for the executor's tests.
#![expect(missing_docs, reason = "a stand-in")]
use std::path::PathBuf;

use crate::exit::{Code, Failure};

#[derive(Clone, Debug)]
pub struct Manifest {
    pub path: PathBuf,
    pub name: String,
    pub title: String,
    pub question: String,
    pub table: toml::Table,
}

#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub set: Vec<String>,
    pub env: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read manifest {path:?}: {what}")]
pub struct ManifestError {
    path: String,
    what: String,
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(Code::Manifest, error, None)
    }
}

pub fn load(argument: &str, _overrides: &Overrides) -> Result<Manifest, ManifestError> {
    let fail = |what: String| ManifestError { path: argument.to_owned(), what };
    let path =
        crate::store::fs::canonical_path(std::path::Path::new(argument)).map_err(|e| fail(e.to_string()))?;
    let bytes = crate::store::fs::read(&path).map_err(|e| fail(e.to_string()))?;
    let table: toml::Table =
        String::from_utf8_lossy(&bytes).parse().map_err(|e: toml::de::Error| fail(e.to_string()))?;
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Manifest { path, title: name.clone(), question: String::new(), name, table })
}
