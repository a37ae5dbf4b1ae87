//! What else is wrong with a manifest that could not be read whole, so that everything is said at once.

use std::collections::BTreeSet;

use super::Manifest;
use super::block::Block;
use super::document::MOST_ISSUES;
use super::error::ManifestError;
use super::grid;
use super::keys::Key;
use super::resolve::Resolver;
use super::source::Issue;
use super::value::Value;

/// What else is wrong with a manifest that could not be read whole, but for what may only follow from `known`.
///
/// # Errors
/// When the layers cannot be merged at all.
pub(super) fn further_issues(manifest: &Manifest, known: &[Issue]) -> Result<Vec<Issue>, ManifestError> {
    let mut resolver = Resolver::new(manifest);
    let mut issues = Vec::new();
    let blocks = manifest.blocks.iter().map(Some);
    let alone = manifest.blocks.is_empty().then_some(None);
    for block in blocks.chain(alone) {
        let points = match block.map(points) {
            None => vec![Vec::new()],
            Some((points, found)) => {
                issues.extend(found);
                points
            }
        };
        let found = resolver.block(block).and_then(|mut resolved| {
            for point in points {
                match resolved.run(&point) {
                    Err(ManifestError::Invalid(found)) => issues.extend(found),
                    other => drop(other?),
                }
            }
            Ok(())
        });
        match found {
            Err(ManifestError::Invalid(found)) => issues.extend(found),
            other => other?,
        }
        if issues.len() > MOST_ISSUES {
            break;
        }
    }
    issues.extend(resolver.contradictions);
    // What stands nowhere may be what could not be read; and a misspelt or unreadable key has no other faults.
    let suspect = known.iter().flat_map(|issue| &issue.keys).collect::<BTreeSet<_>>();
    issues.retain(|issue| !issue.span.is_empty() && !issue.keys.iter().any(|key| suspect.contains(key)));
    Ok(issues)
}

/// A value for every axis of a block.
type Point<'b> = Vec<(&'static Key, &'b Value)>;

/// The points of a block that are looked at for further issues, and the issues of its axes. Of a large block, or one
/// that contradicts itself, it is the first point.
fn points(block: &Block) -> (Vec<Point<'_>>, Vec<Issue>) {
    let first = || {
        let swept = block.entries.iter().filter(|entry| entry.swept);
        let values = swept.filter_map(|entry| Some((entry.key, &entry.values.first()?.0)));
        vec![values.collect::<Vec<_>>()]
    };
    if grid::size(block) > MOST_TRIED {
        return (first(), Vec::new());
    }
    match grid::expand(block) {
        Ok(found) => (found.points.iter().map(|point| found.at(point)).collect(), Vec::new()),
        Err(issues) => (first(), issues),
    }
}

/// The most points of a block that are tried for further issues.
const MOST_TRIED: u128 = 1000;
