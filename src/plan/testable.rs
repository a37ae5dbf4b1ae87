//! Claims and figures that no result could ever decide or draw, given the runs: a best rate where one rate is swept, an
//! overlap where there is one mask.

use std::collections::BTreeSet;

use serde_json::Value;

use super::identity::settings;
use super::run_spec::RunSpec;
use crate::manifest::{Claim, ClaimTest, Figure, FigureKind, Issue, Selector};
use crate::sparsity::MaskSpec;

/// What a figure needs of the runs that it shows.
pub(super) fn figure(figure: &Figure, of: &[&RunSpec]) -> Option<Issue> {
    let (text, help) = match figure.kind {
        FigureKind::Density if densities(of) < 2 => (ONE_DENSITY, "a figure over the density needs several"),
        FigureKind::Jaccard if masks(of).len() < 2 => {
            (FEW_MASKS, "an overlap is of two masks; a full run has none")
        }
        FigureKind::LrSweep if values(of, "optimizer.lr") < 2 => {
            ("the runs have one learning rate", "a figure over the rate needs several: sweep `optimizer.lr`")
        }
        _ => return None,
    };
    Some(Issue::new(&figure.source, &figure.span, format!("figure \"{}\": {text}", figure.id)).help(help))
}

const ONE_DENSITY: &str = "the runs have one density";
const FEW_MASKS: &str = "the runs have fewer than two masks";

/// What a claim needs of the runs that it is about.
pub(super) fn claim(claim: &Claim, of: impl Fn(&Selector) -> Vec<usize>, runs: &[RunSpec]) -> Option<Issue> {
    let chosen = |selector: &Selector| of(selector).into_iter().map(|run| &runs[run]).collect::<Vec<_>>();
    let (selector, text, help) = match &claim.test {
        ClaimTest::Value { .. } => return None,
        ClaimTest::Equivalence { left, right, .. } | ClaimTest::Greater { left, right, .. } => {
            if of(left) != of(right) {
                return None;
            }
            (right, "both sides are the same runs".to_owned(), "a comparison needs two sets of runs")
        }
        ClaimTest::Optimum { of, over, .. } => {
            if values(&chosen(of), over.path) >= 2 {
                return None;
            }
            (
                of,
                format!("the runs have one value of `{}`", over.path),
                "a best value is one of several: sweep the key",
            )
        }
        ClaimTest::Slope { of, .. } => {
            if densities(&chosen(of)) >= 2 {
                return None;
            }
            (of, ONE_DENSITY.to_owned(), "a slope over the density needs several")
        }
        ClaimTest::Overlap { left, right, .. } => {
            let (ours, theirs) = (chosen(left), chosen(right));
            let (ours, theirs) = (masks(&ours), masks(&theirs));
            if !ours.is_empty() && !theirs.is_empty() && ours.union(&theirs).count() >= 2 {
                return None;
            }
            // The side that has no mask is the one to look at.
            if ours.is_empty() || theirs.is_empty() {
                let side = if ours.is_empty() { left } else { right };
                let text = format!("claim \"{}\" cannot be tested: one side has no mask", claim.id);
                let help = "an overlap is of two masks; a full run has none";
                return Some(Issue::new(&side.source, &side.span, text).help(help));
            }
            (right, FEW_MASKS.to_owned(), "an overlap is of two masks; a full run has none")
        }
        ClaimTest::Count { of, .. } => {
            if !masks(&chosen(of)).is_empty() {
                return None;
            }
            (of, "the runs have no mask".to_owned(), "a full run trains every entry: select runs with a mask")
        }
    };
    let text = format!("claim \"{}\" cannot be tested: {text}", claim.id);
    Some(Issue::new(&selector.source, &selector.span, text).help(help))
}

fn masks<'r>(of: &[&'r RunSpec]) -> BTreeSet<&'r str> {
    of.iter().filter_map(|run| run.stages.mask.as_deref()).collect()
}

/// Different values of a key.
fn values(of: &[&RunSpec], key: &str) -> usize {
    let value = |run: &&RunSpec| settings(&run.config).into_iter().find(|(known, _)| known == key);
    of.iter().filter_map(value).map(|(_, value): (_, Value)| value.to_string()).collect::<BTreeSet<_>>().len()
}

/// Different densities; a full run has that of 1, and layers one of their own for each number of them.
fn densities(of: &[&RunSpec]) -> usize {
    let density = |run: &&RunSpec| match (&run.config.mask, run.config.mask.choice()) {
        (MaskSpec::Full, _) => "1".to_owned(),
        (_, Some(choice)) => format!("{}", 1.0 - choice.sparsity),
        // One of its own for each part of the model.
        (MaskSpec::Sparse(sparse), None) => format!("{:?} {}", sparse.criterion, sparse.modules.text()),
    };
    of.iter().map(density).collect::<BTreeSet<_>>().len()
}
