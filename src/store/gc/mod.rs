//! Rubbish: what no kept run needs, moved to the trash and, later, removed.
//!
//! In: the runs that are kept with what they stand on, and a scope. Out: what would go ([`Store::mark`]), what went
//! ([`Store::collect`]). It knows ids and no manifests.
//!
//! Invariants: the result of a kept run is never touched, whatever the scope, and nothing of a kept run that is not
//! finished; what is in use is never touched, nor what that stands on; what cannot be judged stays. Nothing is removed
//! here: a thing moves by one rename to `trash/<seconds>-<n>/<its path in the store>`, after a record that says where it
//! was and why it went. So a collection that is cut short has moved some things and not others, and loses nothing.

mod mark;
mod trash;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::layout::Stage;
use super::leased::{Footing, Subject};

pub use trash::{Collected, Trash};

/// The folder of what was moved aside as rubbish.
pub(super) const TRASH: &str = "trash";
/// A leftover of an unknown maker is left alone for so long.
const LEFTOVER_AGE: Duration = Duration::from_hours(7 * 24);

/// What may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for on its own")]
pub struct Scope {
    /// Runs that are not kept.
    pub runs: bool,
    /// Artifacts that no run needs.
    pub artifacts: bool,
    /// Checkpoints of finished runs, kept ones included.
    pub checkpoints: bool,
    /// Attempts of finished runs, kept ones included, but for the one that finished.
    pub attempts: bool,
    /// What dead processes left behind.
    pub leftovers: bool,
    /// What was moved to quarantine.
    pub quarantine: bool,
}

/// What kind of rubbish something is, in the order in which it is moved: a run before what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RubbishKind {
    /// A run with all that it has.
    Run,
    /// An attempt.
    Attempt,
    /// A checkpoint.
    Checkpoint,
    /// A mask.
    Mask,
    /// Scores of gradients.
    Scores,
    /// A base model.
    Base,
    /// Something in quarantine.
    Quarantine,
    /// A temporary file or folder.
    Leftover,
}

impl RubbishKind {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Run,
        Self::Attempt,
        Self::Checkpoint,
        Self::Mask,
        Self::Scores,
        Self::Base,
        Self::Quarantine,
        Self::Leftover,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "runs",
            Self::Attempt => "attempts",
            Self::Checkpoint => "checkpoints",
            Self::Mask => "masks",
            Self::Scores => "scores",
            Self::Base => "bases",
            Self::Quarantine => "quarantine",
            Self::Leftover => "leftovers",
        }
    }

    fn of(stage: Stage) -> Self {
        match stage {
            Stage::Base => Self::Base,
            Stage::Scores => Self::Scores,
            Stage::Mask => Self::Mask,
        }
    }
}

/// One thing that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rubbish {
    /// What it is.
    pub kind: RubbishKind,
    /// Where it is, relative to the store's folder.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Why it may go.
    pub why: String,
    /// The manifest that a run was made for, when that was written down.
    pub manifest: Option<String>,
    subject: Subject,
}

/// What would go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// The things, in the order in which they are moved.
    pub rubbish: Vec<Rubbish>,
    /// What was passed over, and why.
    pub notes: Vec<String>,
    keep: BTreeMap<String, Footing>,
}
