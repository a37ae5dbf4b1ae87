//! The algebra of `[[grid]]` blocks: products, zips, exclusions.
//!
//! In: a [`Block`]. Out: its points, as indices into the values of its axes, the first axis slowest.
//! Invariant: total and deterministic; a grid is never sampled or cut.

use std::collections::BTreeSet;

use super::block::{Block, Entry};
use super::document::MOST_ISSUES;
use super::keys::Key;
use super::selector::Selector;
use super::source::{Issue, counted, grouped};
use super::value::Value;

/// The points of one block.
#[derive(Debug)]
pub struct Points<'b> {
    /// The swept entries, in the order of the block.
    pub axes: Vec<&'b Entry>,
    /// For every point the index of its value on every axis.
    pub points: Vec<Vec<usize>>,
}

impl<'b> Points<'b> {
    /// The values at a point.
    pub fn at(&self, point: &[usize]) -> Vec<(&'static Key, &'b Value)> {
        self.axes.iter().zip(point).map(|(axis, &index)| (axis.key, &axis.values[index].0)).collect()
    }
}

/// How many points a block has before exclusion.
pub fn size(block: &Block) -> u128 {
    let Ok(groups) = groups(block, false) else { return 0 };
    groups.iter().fold(1, |product: u128, group| product.saturating_mul(group.len as u128))
}

/// Axes that advance together: one of them, or those of a zip.
struct Group {
    /// Positions among the swept entries.
    axes: Vec<usize>,
    len: usize,
}

/// The most pairs of a point and an exclusion that are looked at.
const MOST_COMPARISONS: usize = 100_000_000;

/// The points of a block, in order.
pub fn expand(block: &Block) -> Result<Points<'_>, Vec<Issue>> {
    let axes = block.entries.iter().filter(|entry| entry.swept).collect::<Vec<_>>();
    let groups = groups(block, true)?;
    let count = groups.iter().map(|group| group.len).product::<usize>();
    if count.saturating_mul(block.exclude.len()) > MOST_COMPARISONS {
        let (exclusions, points) = (block.exclude.len() as u128, count as u128);
        let text = format!("{} stand against {}", counted(exclusions, "exclusion"), counted(points, "point"));
        let at = block.exclude.first().map_or(&block.span, |exclude| &exclude.span);
        let help = format!(
            "together they make at most {} pairs: split the block",
            grouped(MOST_COMPARISONS as u128)
        );
        return Err(vec![Issue::new(&block.source, at, text).help(help)]);
    }
    let mut points = Vec::with_capacity(count);
    let mut excluded = vec![0_usize; block.exclude.len()];
    for number in 0..count {
        let mut point = vec![0; axes.len()];
        let mut rest = number;
        for group in groups.iter().rev() {
            for &axis in &group.axes {
                point[axis] = rest % group.len;
            }
            rest /= group.len;
        }
        let mut keep = true;
        for (hits, exclude) in excluded.iter_mut().zip(&block.exclude) {
            if matches(block, &axes, &point, exclude) {
                *hits += 1;
                keep = false;
            }
        }
        if keep {
            points.push(point);
        }
    }
    check_excludes(block, &excluded, points.len())?;
    Ok(Points { axes, points })
}

/// Whether a point has everything that an exclusion wants.
fn matches(block: &Block, axes: &[&Entry], point: &[usize], exclude: &Selector) -> bool {
    exclude.wanted.iter().all(|(key, wanted, _)| {
        let axis = axes.iter().zip(point).find(|(axis, _)| axis.key.path == key.path);
        let value = match axis {
            Some((axis, &index)) => Some(&axis.values[index].0),
            None => block.entry(key.path).and_then(|entry| entry.values.first()).map(|(value, _)| value),
        };
        value == Some(wanted)
    })
}

fn check_excludes(block: &Block, excluded: &[usize], left: usize) -> Result<(), Vec<Issue>> {
    let mut issues = Vec::new();
    for (exclude, _) in block.exclude.iter().zip(excluded).filter(|(_, hits)| **hits == 0) {
        let mut reasons = Vec::new();
        for (key, wanted, _) in &exclude.wanted {
            match block.entry(key.path) {
                None => reasons.push(format!("the block does not set `{}`", key.path)),
                Some(entry) if !entry.values.iter().any(|(value, _)| value == wanted) => {
                    let values = entry.values.iter().map(|(value, _)| value.to_string()).collect::<Vec<_>>();
                    reasons.push(format!("`{}` is {}", key.path, values.join(", ")));
                }
                Some(_) => (),
            }
        }
        if reasons.is_empty() {
            reasons.push("its values never meet at one point".into());
        }
        let written = block.source.excerpt(&exclude.span);
        let issue =
            Issue::new(&block.source, &exclude.span, format!("the exclusion {written} matches no point"));
        let keys = exclude.wanted.iter().map(|(key, _, _)| key.path).collect::<Vec<_>>();
        issues.push(issue.help(reasons.join("; ")).about(&keys));
    }
    if issues.is_empty() && left == 0 {
        let text = format!("the exclusions leave nothing of {}", block.title());
        issues.push(Issue::new(&block.source, &block.span, text).help("remove the block, or exclude less"));
    }
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

/// What tells the values of an axis apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Same {
    Number(u64),
    Other(String),
}

impl Same {
    fn of(value: &Value) -> Self {
        match value {
            Value::Integer(x) => Self::Number(x.cast_unsigned()),
            Value::Number(x) => Self::Number(x.to_bits()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// The groups of a block, in the order of their first axes. Whether values stand twice is a longer question.
fn groups(block: &Block, twins_too: bool) -> Result<Vec<Group>, Vec<Issue>> {
    let axes = block.entries.iter().filter(|entry| entry.swept).collect::<Vec<_>>();
    let mut issues = Vec::new();
    let mut owner: Vec<Option<usize>> = vec![None; axes.len()];
    for (number, zip) in block.zip.iter().enumerate() {
        if issues.len() >= MOST_ISSUES {
            break;
        }
        let mut lengths = Vec::new();
        for (key, span) in &zip.keys {
            let issue = |text: String, help: &str| {
                Issue::new(&block.source, span, text).help(help).about(&[key.path])
            };
            match axes.iter().position(|axis| axis.key.path == key.path) {
                None => {
                    let text = format!("zip names `{}`, which is not an axis of the block", key.path);
                    issues.push(issue(text, "a zipped key has a list of values in the same block"));
                }
                Some(axis) if owner[axis].is_some() => {
                    let text = format!("`{}` is zipped twice", key.path);
                    issues.push(issue(text, "an axis belongs to one zip"));
                }
                Some(axis) => {
                    owner[axis] = Some(number);
                    lengths.push((key.path, axes[axis].values.len()));
                }
            }
        }
        if lengths.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            let parts = lengths.iter().map(|(key, len)| format!("`{key}` has {len}")).collect::<Vec<_>>();
            let issue = Issue::new(
                &block.source,
                &zip.span,
                format!("zipped axes differ in length: {}", parts.join(", ")),
            );
            let keys = lengths.iter().map(|(key, _)| *key).collect::<Vec<_>>();
            let help = "zipped axes advance together, so they have the same number of values";
            issues.push(issue.help(help).about(&keys));
        }
    }
    let single = axes.iter().zip(&owner).filter(|(_, owner)| owner.is_none()).map(|(axis, _)| axis);
    for axis in single.filter(|_| twins_too) {
        let mut seen = BTreeSet::new();
        for (value, span) in &axis.values {
            if issues.len() >= MOST_ISSUES {
                break;
            }
            if !seen.insert(Same::of(value)) {
                let text = format!("the axis `{}` has the value {value} twice", axis.key.path);
                let issue = Issue::new(&block.source, span, text);
                let help = "remove one: equal runs are one run (a zipped axis may repeat values)";
                issues.push(issue.help(help).about(&[axis.key.path]));
            }
        }
    }
    if !issues.is_empty() {
        return Err(issues);
    }
    let mut groups = Vec::new();
    let mut done = BTreeSet::new();
    for (axis, owned) in owner.iter().enumerate() {
        match owned {
            Some(zip) if !done.insert(*zip) => (),
            Some(_) => {
                let members = (0..axes.len()).filter(|&other| owner[other] == *owned).collect();
                groups.push(Group { axes: members, len: axes[axis].values.len() });
            }
            None => groups.push(Group { axes: vec![axis], len: axes[axis].values.len() }),
        }
    }
    Ok(groups)
}
