//! Overrides that would take a grid apart: of a key that a block sweeps, or that blocks give different values.

use super::block::{Block, Entry};
use super::source::Issue;
use super::{MOST_ISSUES, Manifest};

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

/// Overrides of keys that are fixed by several blocks at different values: what the blocks tell apart would be one.
pub(super) fn of_blocks(manifest: &Manifest, issues: &mut Vec<Issue>) {
    for (layer, setting) in manifest.override_settings() {
        let path = setting.key.path;
        let fixes =
            |block: &'_ Block| block.entries.iter().position(|entry| entry.key.path == path && !entry.swept);
        let value = |(block, index): &(&Block, usize)| first(&block.entries[*index]);
        let mut fixed = manifest.blocks.iter().filter_map(|block| Some((block, fixes(block)?)));
        let Some(one) = fixed.next() else { continue };
        let Some(other) = fixed.find(|other| value(other) != value(&one)) else { continue };
        if issues.len() >= MOST_ISSUES {
            return;
        }
        let text = format!(
            "`{path}` has different values in {} and {}, so it cannot be overridden",
            one.0.title(),
            other.0.title()
        );
        issues.push(Issue::new(&layer.source, &setting.span, text).help(HELP));
    }
}

fn first(entry: &Entry) -> Option<String> {
    entry.values.first().map(|(value, _)| value.to_string())
}
