//! What can be wrong with a grid, and with asking for a run of it.

use super::MOST_POINTS;
use crate::exit::{Code, Failure};
use crate::manifest::{self, Issue, ManifestError, counted, grouped};

/// A grid that cannot be planned, or a run that is not in it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A point of the grid is not a valid configuration.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The grid contradicts itself.
    #[error("{}", manifest::list(.0))]
    Grid(Vec<Issue>),
    /// More points than can be meant.
    #[error(
        "the grid of `{manifest}` has {} points, more than the {} that it may have", shown(*points), counted((*most).into(), "run")
    )]
    TooLarge {
        /// Name of the manifest.
        manifest: String,
        /// Points; those of a number beyond all counting are `u128::MAX`.
        points: u128,
        /// The most allowed.
        most: u32,
    },
    /// No run has this label or id.
    #[error("`{manifest}` has no run `{wanted}`")]
    NoSuchRun {
        /// Name of the manifest.
        manifest: String,
        /// As the user wrote it.
        wanted: String,
        /// Labels like it.
        near: Vec<String>,
    },
    /// Several runs begin like this.
    #[error("`{wanted}` could be {} runs of `{manifest}`: {}", count, shown.join(", "))]
    Ambiguous {
        /// Name of the manifest.
        manifest: String,
        /// As the user wrote it.
        wanted: String,
        /// How many.
        count: usize,
        /// Some of them, as `label (short id)`.
        shown: Vec<String>,
    },
}

/// A number of points. A product that no integer holds is not shown as if it were exact.
fn shown(points: u128) -> String {
    if points == u128::MAX { "more than 10^38".into() } else { grouped(points) }
}

impl PlanError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.hint(),
            Self::Grid(issues) => manifest::advice(issues),
            Self::TooLarge { points, .. } => Some(if *points > MOST_POINTS {
                format!("cut the axes: `exec.max_runs` can allow {} at most", grouped(MOST_POINTS))
            } else {
                format!("cut the axes, or allow more with `exec.max_runs` (at most {})", grouped(MOST_POINTS))
            }),
            Self::NoSuchRun { near, .. } if near.is_empty() => Some("`tickets plan` lists the runs".into()),
            Self::NoSuchRun { near, .. } => Some(format!("runs like it: {}", near.join(", "))),
            Self::Ambiguous { .. } => Some("give more of the label or of the id".into()),
        }
    }

    /// The error with the source underlined and the advice below it, when it points into a text.
    pub fn render(&self, color: bool) -> Option<String> {
        match self {
            Self::Manifest(error) => error.render(color),
            Self::Grid(issues) => Some(manifest::render(issues, color)),
            _ => None,
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Manifest(error) => error.into(),
            error => {
                let hint = error.hint();
                Self::new(Code::Plan, error, hint)
            }
        }
    }
}
