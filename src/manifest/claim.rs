//! `[[claim]]` blocks: hypotheses that the report tests.

use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::fields::{self, Fields};
use super::figure::{Measure, read_measure, refuse_twins};
use super::keys::{self, Key, Kind};
use super::selector::Selector;
use super::source::{Issue, Source, Span};

/// A claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub id: String,
    /// Where it comes from, such as the number of a published claim; may be empty.
    pub source: String,
    /// What it says, in words; may be empty.
    pub statement: String,
    /// How it is tested.
    pub test: ClaimTest,
    /// Where it stands.
    pub span: Span,
    /// The text that it stands in.
    pub text: Arc<Source>,
}

/// How a claim is tested.
#[derive(Clone, Debug)]
pub enum ClaimTest {
    /// The mean over the runs is `expect`, give or take `margin`.
    Value {
        /// Which runs.
        of: Selector,
        /// What is measured.
        measure: Measure,
        /// The value.
        expect: f64,
        /// The largest distance from it.
        margin: f64,
    },
    /// The means of two sets of runs differ by no more than `margin`.
    Equivalence {
        /// The one side.
        left: Selector,
        /// The other side.
        right: Selector,
        /// What is measured.
        measure: Measure,
        /// The largest difference.
        margin: f64,
    },
    /// The mean of `left` exceeds that of `right` by more than `margin`.
    Greater {
        /// The side said to be greater.
        left: Selector,
        /// The other side.
        right: Selector,
        /// What is measured.
        measure: Measure,
        /// By how much at least.
        margin: f64,
    },
    /// Over the values of a key, the mean is highest somewhere in `[low, high]`.
    Optimum {
        /// Which runs.
        of: Selector,
        /// The key, with numbers as values.
        over: &'static Key,
        /// What is measured.
        measure: Measure,
        /// The smallest value of the key.
        low: f64,
        /// The largest value of the key.
        high: f64,
        /// How many steps of the swept values beyond that also count.
        grid_steps: u32,
    },
    /// The Jaccard index of every mask of `left` with every other mask of `right`.
    Overlap {
        /// The one set of runs.
        left: Selector,
        /// The other set.
        right: Selector,
        /// The index; `None` is the value of chance for the densities at hand, p / (2 - p).
        expect: Option<f64>,
        /// The largest distance from it.
        margin: f64,
    },
    /// The number of active entries of the masks, exactly.
    Count {
        /// Which runs.
        of: Selector,
        /// The number.
        expect: u64,
    },
    /// The slope of log(best learning rate) over log(density of the mask).
    Slope {
        /// Which runs.
        of: Selector,
        /// What makes a rate the best.
        measure: Measure,
        /// The slope.
        expect: f64,
        /// The largest distance from it.
        margin: f64,
    },
}

pub(super) const KINDS: [&str; 7] =
    ["value", "equivalence", "greater", "optimum", "overlap", "count", "slope"];

impl ClaimTest {
    /// The kind as a manifest spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Value { .. } => "value",
            Self::Equivalence { .. } => "equivalence",
            Self::Greater { .. } => "greater",
            Self::Optimum { .. } => "optimum",
            Self::Overlap { .. } => "overlap",
            Self::Count { .. } => "count",
            Self::Slope { .. } => "slope",
        }
    }

    /// The runs that it is about.
    pub fn selectors(&self) -> Vec<&Selector> {
        match self {
            Self::Value { of, .. }
            | Self::Optimum { of, .. }
            | Self::Count { of, .. }
            | Self::Slope { of, .. } => {
                vec![of]
            }
            Self::Equivalence { left, right, .. }
            | Self::Greater { left, right, .. }
            | Self::Overlap { left, right, .. } => vec![left, right],
        }
    }

    /// What it measures, when that is a column of the results.
    pub fn measure(&self) -> Option<&Measure> {
        match self {
            Self::Value { measure, .. }
            | Self::Equivalence { measure, .. }
            | Self::Greater { measure, .. }
            | Self::Optimum { measure, .. }
            | Self::Slope { measure, .. } => Some(measure),
            Self::Overlap { .. } | Self::Count { .. } => None,
        }
    }
}

/// Reads the value of `claim`.
pub(super) fn read_all(
    value: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    issues: &mut Vec<Issue>,
) -> Vec<Claim> {
    let claims = fields::blocks(value, "claim", source, issues, |fields| read(fields, source));
    refuse_twins(claims.iter().map(|claim| (&claim.id, &claim.span)), "claim", source, issues);
    claims
}

fn read(fields: &mut Fields<'_, '_, '_>, text: &Arc<Source>) -> Option<Claim> {
    let id = fields.id();
    let source = fields.text("source").unwrap_or_default();
    let statement = fields.text("statement").unwrap_or_default();
    let kind = fields.word("kind", &KINDS)?;
    let test = read_test(fields, kind);
    Some(Claim { id: id?, source, statement, test: test?, span: fields.span.clone(), text: Arc::clone(text) })
}

/// Every field is asked for before the first one that is missing ends it, so that all that is wrong is said at once.
fn read_test(fields: &mut Fields<'_, '_, '_>, kind: &str) -> Option<ClaimTest> {
    match kind {
        "value" => {
            let (of, measure) = (fields.selector("of"), read_measure(fields, true));
            let (expect, margin) = (fields.number_needed("expect"), fields.margin_needed());
            Some(ClaimTest::Value { of: of?, measure, expect: expect?, margin: margin? })
        }
        "equivalence" => {
            let (left, right) = (fields.selector("left"), fields.selector("right"));
            let (measure, margin) = (read_measure(fields, true), fields.margin_needed());
            Some(ClaimTest::Equivalence { left: left?, right: right?, measure, margin: margin? })
        }
        "greater" => {
            let (left, right) = (fields.selector("left"), fields.selector("right"));
            let (measure, margin) = (read_measure(fields, true), fields.margin().unwrap_or(0.0));
            Some(ClaimTest::Greater { left: left?, right: right?, measure, margin })
        }
        "optimum" => {
            let (of, measure) = (fields.selector("of"), read_measure(fields, true));
            let (over, ends) = (read_over(fields), fields.ends("expect"));
            let grid_steps = fields.whole("grid_steps").unwrap_or(0);
            let (low, high) = ends?;
            let grid_steps = u32::try_from(grid_steps).unwrap_or(u32::MAX);
            Some(ClaimTest::Optimum { of: of?, over: over?, measure, low, high, grid_steps })
        }
        "overlap" => {
            let (left, right) = (fields.selector("left"), fields.selector("right"));
            let (expect, margin) = (fields.number("expect"), fields.margin_needed());
            Some(ClaimTest::Overlap { left: left?, right: right?, expect, margin: margin? })
        }
        "count" => {
            let (of, expect) = (fields.selector("of"), fields.whole_needed("expect"));
            Some(ClaimTest::Count { of: of?, expect: expect? })
        }
        _ => {
            let (of, measure) = (fields.selector("of"), read_measure(fields, true));
            if let Some(over) = fields.text("over").filter(|over| over != "mask.density") {
                let text = format!("`over` cannot be \"{over}\"");
                fields.issue("over", text, "a slope is one over \"mask.density\"");
            }
            let (expect, margin) = (fields.number_needed("expect"), fields.margin_needed());
            Some(ClaimTest::Slope { of: of?, measure, expect: expect?, margin: margin? })
        }
    }
}

/// The key of an optimum.
fn read_over(fields: &mut Fields<'_, '_, '_>) -> Option<&'static Key> {
    let name = fields.text("over").unwrap_or_else(|| "optimizer.lr".to_owned());
    let key = keys::find(&name).filter(|key| matches!(key.kind, Kind::Number(_) | Kind::Integer(..)));
    if key.is_none() {
        let text = format!("`over` cannot be \"{name}\"");
        fields.issue("over", text, "it must be a key with numbers as values, such as \"optimizer.lr\"");
    }
    key
}
