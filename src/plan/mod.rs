//! The plan: every run of a manifest, with its label, configuration and ids.
//!
//! In: a [`Manifest`]. Out: a [`Plan`] in the order of the file; equal runs are one run and counted.
//! Invariant: total and deterministic, and nothing outside `identity.rs` computes an id.

mod built;
mod canon;
mod compare;
mod error;
mod identity;
mod label;
mod lock;
mod outside;
mod put;
mod put_mask;
mod run_spec;
mod select;
mod testable;

use std::collections::BTreeMap;

pub use compare::{Difference, differences};
pub use error::PlanError;
pub use identity::{gradient_settings, identify, settings};
pub use lock::{LOCK, Lock, LockChanges, lock_changes, lock_text, read_lock};
pub use outside::outside;
pub use run_spec::{RunId, RunSpec, StageIds};
pub use select::{matches, selects};

use crate::manifest::{
    self, BlockResolver, Issue, Key, MOST_ISSUES, Manifest, ManifestError, Resolver, Selection, Value, grid,
    nearest,
};
use label::Values;
use serde_json::{Map, Value as Json};

/// The most points that are multiplied out to see what is left of them: `exec.max_runs` cannot be larger.
const MOST_POINTS: u128 = 1_000_000;

/// All runs of a manifest.
#[derive(Debug)]
pub struct Plan {
    /// The manifest.
    pub manifest: Manifest,
    /// The runs, in the order of the blocks, the first axis of a block slowest.
    pub runs: Vec<RunSpec>,
    /// How many points of the grid were equal to an earlier one.
    pub merged: usize,
    /// Each of them: the number of its `[[grid]]` block, and the run that it equals, as an index into `runs`.
    pub merges: Vec<(usize, usize)>,
    /// The dotted keys that vary, in the order of the runs' `axes`.
    pub axes: Vec<String>,
    /// What keeps figures and claims from being drawn and tested under the overrides in force. Without overrides it would be
    /// an error: then they were written for other runs than the manifest has.
    pub undecided: Vec<String>,
}

/// Runs while they are collected.
#[derive(Default)]
struct Collected {
    runs: Vec<RunSpec>,
    values: Vec<Values>,
    seen: BTreeMap<RunId, usize>,
    merges: Vec<(usize, usize)>,
}

/// Expands a manifest into its runs. Everything that is wrong is said at once.
pub fn expand(manifest: Manifest) -> Result<Plan, PlanError> {
    let mut grids = Vec::new();
    let mut issues = Vec::new();
    let sizes = manifest.blocks.iter().map(grid::size);
    let points = sizes.fold(0, u128::saturating_add);
    let most = manifest.max_runs();
    if points > MOST_POINTS {
        return Err(PlanError::TooLarge { manifest: manifest.name, points, most });
    }
    for block in &manifest.blocks {
        match grid::expand(block) {
            Ok(points) => grids.push((block, points)),
            Err(found) => issues.extend(found),
        }
    }
    let of_grid = issues.len();

    let declared = declared(&manifest);
    let mut resolver = Resolver::new(&manifest);
    let mut collected = Collected::default();
    if manifest.blocks.is_empty() {
        let found =
            resolver.block(None).and_then(|mut block| collect(&mut block, 0, &[], &declared, &mut collected));
        keep(found, &mut issues)?;
    }
    'blocks: for (block, found) in &grids {
        let mut resolved = match resolver.block(Some(block)) {
            Ok(resolved) => resolved,
            Err(error) => {
                keep(Err(error), &mut issues)?;
                continue;
            }
        };
        for point in &found.points {
            let point = found.at(point);
            keep(collect(&mut resolved, block.number, &point, &declared, &mut collected), &mut issues)?;
            if issues.len() > MOST_ISSUES {
                break 'blocks;
            }
            if collected.runs.len() > most as usize {
                let points = grids.iter().map(|(_, found)| found.points.len() as u128).sum();
                return Err(PlanError::TooLarge { manifest: manifest.name, points, most });
            }
        }
    }
    issues = resolver.finish(issues);
    let Collected { mut runs, values, merges, .. } = collected;
    let axes = name(&mut runs, &values, &declared);
    let mut undecided = Vec::new();
    if issues.is_empty() {
        issues = select::check(&manifest, &runs);
        // Who shortens a run by an override does not want the figures that the manifest draws of long ones. What is wrong
        // with the manifest as it is written stays wrong.
        let overridden = manifest.overridden().iter().any(|found| !found.key.starts_with("exec."));
        if overridden && !issues.is_empty() {
            let written = manifest::load_with(&manifest.path.display().to_string(), &[], &[])?;
            expand(written)?;
            undecided = issues.drain(..).map(|issue| issue.text).collect();
        }
    }
    if issues.is_empty() {
        return Ok(Plan { manifest, runs, merged: merges.len(), merges, axes, undecided });
    }
    let only_the_grid = of_grid > 0 && of_grid == issues.len();
    let issues = manifest.in_order(issues);
    Err(if only_the_grid { PlanError::Grid(issues) } else { ManifestError::Invalid(issues).into() })
}

/// Keeps what is wrong with a point, and goes on; anything else ends the planning.
fn keep(found: Result<(), ManifestError>, issues: &mut Vec<Issue>) -> Result<(), PlanError> {
    match found {
        Err(ManifestError::Invalid(found)) => {
            issues.extend(found.into_iter().filter(|issue| !issues.contains(issue)).collect::<Vec<_>>());
            Ok(())
        }
        other => Ok(other?),
    }
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
    number: usize,
    point: &[(&'static Key, &Value)],
    declared: &[&'static Key],
    collected: &mut Collected,
) -> Result<(), ManifestError> {
    let config = block.run(point)?;
    let (id, stages) = identify(&config);
    if let Some(&earlier) = collected.seen.get(&id) {
        collected.merges.push((number, earlier));
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
    let provisional = built::unpinned(&config);
    let (label, axes) = (String::new(), Vec::new());
    collected.runs.push(RunSpec { id, label, axes, block: number, config, stages, provisional });
    Ok(())
}

/// Gives runs their axes and labels; the keys that vary.
fn name(runs: &mut [RunSpec], values: &[Values], declared: &[&'static Key]) -> Vec<String> {
    let keys = label::varying(declared, values);
    let ids = runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    let rounded = label::rounded(&keys, values);
    let mut labels = Vec::with_capacity(runs.len());
    for ((run, values), id) in runs.iter_mut().zip(values).zip(&ids) {
        run.axes =
            keys.iter().filter_map(|key| Some((key.path.to_owned(), values.get(key.path)?.json()))).collect();
        let bare = Selection::of(&run.config).mask;
        labels.push((label::label(&keys, values, &rounded, bare), id.as_str()));
    }
    label::settle(&mut labels);
    for (run, (label, _)) in runs.iter_mut().zip(labels) {
        run.label = label;
    }
    keys.iter().map(|key| key.path.to_owned()).collect()
}

/// What a run is, as it is written down beside its results: label, manifest, stages, settings.
pub fn record(run: &RunSpec, manifest: &str) -> Map<String, Json> {
    let stages = run.stages.named().into_iter().map(|(name, id)| (name.to_owned(), id.into()));
    Map::from_iter([
        ("label".to_owned(), run.label.as_str().into()),
        ("manifest".to_owned(), manifest.into()),
        ("stages".to_owned(), Json::Object(stages.collect())),
        ("settings".to_owned(), Json::Object(settings(&run.config).into_iter().collect())),
    ])
}

impl Plan {
    /// Whether a key has a meaning for any of the runs.
    pub fn uses(&self, key: &str) -> bool {
        self.runs.iter().any(|run| Selection::of(&run.config).applies(key))
    }

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
