//! The plan: every run of a manifest, with its label, configuration and ids.
//!
//! In: a [`Manifest`]. Out: a [`Plan`] in the order of the file; equal runs are one run and counted.
//! Invariant: total and deterministic, and nothing outside `identity.rs` computes an id.

mod canon;
mod error;
mod grid;
mod identity;
mod label;
mod run_spec;

use std::collections::BTreeMap;

pub use error::PlanError;
pub use identity::{identify, settings};
pub use run_spec::{RunId, RunSpec, StageIds};

use crate::manifest::{BlockResolver, Key, Manifest, Resolver, Selection, Value, nearest};
use label::Values;

/// The most points of a grid.
pub const MOST_POINTS: usize = 100_000;

/// All runs of a manifest.
#[derive(Debug)]
pub struct Plan {
    /// The manifest.
    pub manifest: Manifest,
    /// The runs, in the order of the blocks, the first axis of a block slowest.
    pub runs: Vec<RunSpec>,
    /// How many points of the grid were equal to an earlier one.
    pub merged: usize,
    /// The dotted keys that vary, in the order of the runs' `axes`.
    pub axes: Vec<String>,
}

/// Runs while they are collected.
#[derive(Default)]
struct Collected {
    runs: Vec<RunSpec>,
    values: Vec<Values>,
    seen: BTreeMap<RunId, usize>,
    merged: usize,
}

/// Expands a manifest into its runs.
pub fn expand(manifest: Manifest) -> Result<Plan, PlanError> {
    let sizes = manifest.blocks.iter().map(grid::size);
    let points = sizes.fold(0, u128::saturating_add);
    if points > MOST_POINTS as u128 {
        return Err(PlanError::TooLarge { manifest: manifest.name, points, most: MOST_POINTS });
    }
    let mut grids = Vec::new();
    let mut issues = Vec::new();
    for block in &manifest.blocks {
        match grid::expand(block) {
            Ok(points) => grids.push((block, points)),
            Err(found) => issues.extend(found),
        }
    }
    if !issues.is_empty() {
        return Err(PlanError::Grid(issues));
    }

    let declared = declared(&manifest);
    let mut resolver = Resolver::new(&manifest)?;
    let mut collected = Collected::default();
    if grids.is_empty() {
        collect(&mut resolver.block(None)?, &[], &declared, &mut collected)?;
    }
    for (block, points) in &grids {
        let mut resolved = resolver.block(Some(block))?;
        for point in &points.points {
            collect(&mut resolved, &points.at(point), &declared, &mut collected)?;
        }
    }
    resolver.finish()?;

    let Collected { mut runs, values, merged, .. } = collected;
    let axes = name(&mut runs, &values, &declared);
    Ok(Plan { manifest, runs, merged, axes })
}

/// The keys that blocks set, each once, in the order of the file.
fn declared(manifest: &Manifest) -> Vec<&'static Key> {
    let mut keys: Vec<&'static Key> = Vec::new();
    for entry in manifest.blocks.iter().flat_map(|block| &block.entries) {
        if !keys.iter().any(|key| key.path == entry.key.path) {
            keys.push(entry.key);
        }
    }
    keys
}

/// Resolves a point and keeps the run unless it equals an earlier one.
fn collect(
    block: &mut BlockResolver<'_, '_>,
    point: &[(&'static Key, &Value)],
    declared: &[&'static Key],
    collected: &mut Collected,
) -> Result<(), PlanError> {
    let config = block.run(point)?;
    let (id, stages) = identify(&config);
    if collected.seen.contains_key(&id) {
        collected.merged += 1;
        return Ok(());
    }
    let selection = Selection::of(&config);
    let mut values = Values::new();
    for key in declared.iter().filter(|key| selection.applies(key.path)) {
        let chosen = point.iter().find(|(axis, _)| axis.path == key.path);
        if let Some(value) = chosen.map(|(_, value)| (*value).clone()).or_else(|| block.settled(key)) {
            values.insert(key.path, value);
        }
    }
    collected.seen.insert(id.clone(), collected.runs.len());
    collected.values.push(values);
    collected.runs.push(RunSpec { id, label: String::new(), axes: Vec::new(), config, stages });
    Ok(())
}

/// Gives runs their axes and labels; the keys that vary.
fn name(runs: &mut [RunSpec], values: &[Values], declared: &[&'static Key]) -> Vec<String> {
    let keys = label::varying(declared, values);
    let ids = runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    let mut labels = Vec::with_capacity(runs.len());
    for ((run, values), id) in runs.iter_mut().zip(values).zip(&ids) {
        run.axes =
            keys.iter().filter_map(|key| Some((key.path.to_owned(), values.get(key.path)?.json()))).collect();
        let bare = Selection::of(&run.config).mask;
        labels.push((label::label(&keys, values, bare), id.as_str()));
    }
    label::settle(&mut labels);
    for (run, (label, _)) in runs.iter_mut().zip(labels) {
        run.label = label;
    }
    keys.iter().map(|key| key.path.to_owned()).collect()
}

impl Plan {
    /// The run with this label or id, or the only one whose label or id begins like this.
    pub fn find(&self, wanted: &str) -> Result<&RunSpec, PlanError> {
        let exact = self.runs.iter().find(|run| run.label == wanted || run.id.as_str() == wanted);
        if let Some(run) = exact {
            return Ok(run);
        }
        let begins = |run: &&RunSpec| run.id.as_str().starts_with(wanted) || run.label.starts_with(wanted);
        let matching = self.runs.iter().filter(begins).collect::<Vec<_>>();
        let manifest = self.manifest.name.clone();
        let wanted = wanted.to_owned();
        match matching.as_slice() {
            [run] if !wanted.is_empty() => Ok(run),
            [] => {
                let mut labels = self.runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>();
                let mut near = Vec::new();
                while let Some(label) = nearest(&wanted, labels.iter().copied()).filter(|_| near.len() < 5) {
                    near.push(label.to_owned());
                    labels.retain(|other| *other != label);
                }
                Err(PlanError::NoSuchRun { manifest, wanted, near })
            }
            several => {
                let shown = several.iter().take(8).map(|run| format!("{} ({})", run.label, run.id.short()));
                let shown = shown.collect();
                Err(PlanError::Ambiguous { manifest, wanted, count: several.len(), shown })
            }
        }
    }
}
