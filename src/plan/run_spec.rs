//! One run of a plan.

use std::fmt;

use crate::manifest::RunConfig;

/// The identity of a run: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    /// Wraps digits that `identity` computed.
    pub(super) fn new(digits: String) -> Self {
        Self(digits)
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as tables show them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The ids of the stages that a run stands on: 64 hexadecimal digits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageIds {
    /// The base model.
    pub base: String,
    /// The scores of gradients; only of masks that rank by them.
    pub scores: Option<String>,
    /// The mask; full runs have none.
    pub mask: Option<String>,
    /// Everything but the evaluation and the number of steps: runs that share it share every step that both have.
    pub trajectory: String,
    /// Everything but the evaluation.
    pub train: String,
    /// One evaluation of the trajectory, whenever it is made.
    pub eval: String,
}

impl StageIds {
    /// By name, those of stages that the run has.
    pub fn named(&self) -> Vec<(&'static str, &str)> {
        let Self { base, scores, mask, trajectory, train, eval } = self;
        let stages = [
            ("base", Some(base)),
            ("scores", scores.as_ref()),
            ("mask", mask.as_ref()),
            ("trajectory", Some(trajectory)),
            ("train", Some(train)),
            ("eval", Some(eval)),
        ];
        stages.into_iter().filter_map(|(name, id)| Some((name, id?.as_str()))).collect()
    }
}

/// A run: what it is called, what it is, what it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSpec {
    /// Its identity.
    pub id: RunId,
    /// Readable, unique in the plan, made of the axes that vary. Not identity.
    pub label: String,
    /// The keys that vary over the plan and apply to this run: the mask first, then in the order of the manifest.
    pub axes: Vec<(String, serde_json::Value)>,
    /// The number of the `[[grid]]` block that it comes from, from 1; 0 without a grid.
    pub block: usize,
    /// The whole configuration.
    pub config: RunConfig,
    /// The stages.
    pub stages: StageIds,
    /// The revisions that would have to be set for the ids to be final; empty when they are.
    pub provisional: Vec<String>,
}
