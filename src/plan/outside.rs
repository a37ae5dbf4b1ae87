//! The files that a plan reads outside of its project: allowed, and shown.

use std::path::{Path, PathBuf};

use super::Plan;
use crate::manifest::{MANIFESTS, ModelSource, RunConfig};

/// Parents and inputs outside the project of the manifest, each with the key that names it, sorted.
///
/// The project is the folder that holds the nearest `manifests`; of a manifest elsewhere it is the manifest's own folder.
pub fn outside(plan: &Plan) -> Vec<(&'static str, PathBuf)> {
    let path = &plan.manifest.path;
    let holder = path.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == MANIFESTS));
    let Some(project) = holder.or(Some(path.as_path())).and_then(Path::parent) else { return Vec::new() };
    let parents = plan.manifest.files.iter().map(|file| ("extends", PathBuf::from(&file.source.name)));
    let mut named = parents.collect::<Vec<_>>();
    for run in &plan.runs {
        // Runs of a grid mostly share their inputs.
        for found in inputs(&run.config) {
            if !named.contains(&found) {
                named.push(found);
            }
        }
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mut found = named.into_iter().map(|(key, path)| (key, real(&path))).collect::<Vec<_>>();
    found.retain(|(_, path)| !path.starts_with(project));
    found.sort();
    found.dedup();
    found
}

fn inputs(config: &RunConfig) -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    if let ModelSource::Directory { path, digest: _ } = &config.model.source {
        found.push(("model.path", path.clone()));
    }
    for task in std::iter::once(&config.task).chain(config.evals.iter().map(|eval| &eval.task)) {
        found.extend(task.file().map(|(key, path)| (key, path.to_path_buf())));
    }
    found
}
