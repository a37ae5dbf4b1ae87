//! Overrides that would take a grid apart: of a key that a block sweeps, or that blocks give different values; and overrides
//! of evaluations that do not exist.

use std::collections::BTreeSet;

use super::block::Block;
use super::keys::{self, Key};
use super::source::{Issue, nearest};
use super::value::Value;
use super::{MOST_ISSUES, Manifest, named, variant};

const HELP: &str = "edit the block, or drop the override";

/// Overrides of keys that the block sweeps.
pub(super) fn of_axes(manifest: &Manifest, block: &Block) -> Vec<Issue> {
    let mut issues = Vec::new();
    for (layer, setting) in manifest.override_settings() {
        let path = setting.key.path;
        if block.entry(path).is_some_and(|entry| entry.swept) {
            let text = format!("`{path}` is swept by {}, so it cannot be overridden", block.title());
            issues.push(Issue::new(&layer.source, &setting.span, text).help(HELP));
        }
    }
    issues
}

/// Overrides of keys that blocks write and that the runs of several blocks have different values of: what the blocks tell
/// apart would be one. A block that does not write the key has the value of the files, or the default; one without a use for
/// it has none.
pub(super) fn of_blocks(manifest: &Manifest, issues: &mut Vec<Issue>) {
    for (layer, setting) in manifest.override_settings() {
        let path = setting.key.path;
        if issues.len() >= MOST_ISSUES || !manifest.blocks.iter().any(|block| block.entry(path).is_some()) {
            continue;
        }
        let value = |block: &'_ Block| {
            if block.entry(path).is_some_and(|entry| entry.swept) || !may_apply(manifest, block, path) {
                return None;
            }
            beneath(manifest, block, setting.key).map(|value| (block.title(), value.to_string()))
        };
        let mut values = manifest.blocks.iter().filter_map(value);
        let Some((one, first)) = values.next() else { continue };
        let Some((other, _)) = values.find(|(_, value)| *value != first) else { continue };
        let text = format!("`{path}` has different values in {one} and {other}, so it cannot be overridden");
        issues.push(Issue::new(&layer.source, &setting.span, text).help(HELP));
    }
}

/// The value of a key for a block, before overrides.
fn beneath(manifest: &Manifest, block: &Block, key: &Key) -> Option<Value> {
    let own = block.entry(key.path).and_then(|entry| entry.values.first()).map(|(value, _)| value.clone());
    let files =
        || manifest.files.iter().rev().find_map(|file| file.get(key.path)).map(|found| found.value.clone());
    own.or_else(files).or_else(|| key.preset())
}

/// Whether some run of a block may have a use for a key.
fn may_apply(manifest: &Manifest, block: &Block, path: &str) -> bool {
    let Some(need) = variant::condition(path) else { return true };
    let Some(chooser) = keys::find(need.chooser) else { return true };
    let overridden = manifest.overrides.iter().rev().find_map(|layer| layer.get(chooser.path));
    let chosen = match (overridden, block.entry(chooser.path)) {
        (Some(setting), _) => vec![setting.value.clone()],
        (None, Some(entry)) => entry.values.iter().map(|(value, _)| value.clone()).collect(),
        (None, None) => beneath(manifest, block, chooser).into_iter().collect(),
    };
    chosen.iter().any(|value| matches!(value, Value::Text(word) if need.choices.contains(&word.as_str())))
}

/// Overrides of evaluations that no file and no block names: a slip of the pen would be one more evaluation of every run.
pub(super) fn of_evaluations(manifest: &Manifest, issues: &mut Vec<Issue>) {
    let settings = manifest.files.iter().flat_map(|file| &file.settings).map(|setting| setting.key.path);
    let entries = manifest.blocks.iter().flat_map(|block| &block.entries).map(|entry| entry.key.path);
    let names =
        settings.chain(entries).filter_map(|path| Some(named::split(path)?.0)).collect::<BTreeSet<_>>();
    for (layer, setting) in manifest.override_settings() {
        let Some((name, _)) = named::split(setting.key.path).filter(|(name, _)| !names.contains(name)) else {
            continue;
        };
        let help = match nearest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean `eval.{meant}`?"),
            None if names.is_empty() => {
                format!("an evaluation is made in a manifest, by a table [eval.{name}]")
            }
            None => format!("there are {}", names.iter().copied().collect::<Vec<_>>().join(", ")),
        };
        let text = format!("no evaluation is called `{name}`");
        issues.push(Issue::new(&layer.source, &setting.span, text).help(help));
    }
}
