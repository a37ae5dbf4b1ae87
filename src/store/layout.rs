//! Where everything lies below a results folder.
//!
//! ```text
//! results/
//!   <manifest>/...                      what `report` writes, worth committing
//!   .store/
//!     format                            "tickets-store 2"
//!     leases/<task>.<generation>        who works on what: `run-<id>.1`
//!     base|scores|mask/<id>/            artifacts: files, DONE.json
//!     run/<id>/attempts/<n>/            metrics.jsonl, eval.jsonl, log.txt, provenance.json, final/; failed.json, forgiven.json
//!     run/<id>/attempts/<n>/checkpoints/<step>/   files, DONE.json
//!     run/<id>/logs/attempt-<n>.txt     what the attempt's process wrote on stderr
//!     run/<id>/spec.json                what the run is: label, manifest, stages, settings
//!     run/<id>/DONE.json                the result, with the attempt that it is of
//!     logs/                             the same for shared stages
//!     quarantine/                       what was damaged or contradicted an earlier result
//!     trash/<seconds>-<n>/              what `gc` moved there, under its path in the store; record.json
//! ```

use std::path::{Path, PathBuf};

use super::error::StoreError;

/// The completion marker of an artifact, a checkpoint or a run.
pub const DONE: &str = "DONE.json";
/// The record of a failed attempt.
pub const FAILED: &str = "failed.json";
/// What [`FAILED`] is called after the run was told to try again.
pub const FORGIVEN: &str = "forgiven.json";
/// The record of what a run is.
pub const SPEC: &str = "spec.json";
/// The rows of a run's steps.
pub const METRICS: &str = "metrics.jsonl";
/// The rows of a run's evaluations.
pub const EVALS: &str = "eval.jsonl";
/// The log of an attempt.
pub const LOG: &str = "log.txt";
/// The record of what an attempt was made with.
pub const PROVENANCE: &str = "provenance.json";
/// The folder of a finished attempt's files.
pub const FINAL: &str = "final";

/// A stage whose result is shared between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The base model.
    Base,
    /// Scores of gradients.
    Scores,
    /// A mask.
    Mask,
}

impl Stage {
    /// All of them, in the order in which they are computed.
    pub const ALL: [Self; 3] = [Self::Base, Self::Scores, Self::Mask];

    /// The stage's folder, and its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Scores => "scores",
            Self::Mask => "mask",
        }
    }
}

/// Paths below one results folder.
#[derive(Clone, Debug)]
pub struct Layout {
    results: PathBuf,
}

impl Layout {
    /// The layout of `results`.
    pub fn new(results: &Path) -> Self {
        Self { results: results.to_path_buf() }
    }

    /// The results folder.
    pub fn results(&self) -> &Path {
        &self.results
    }

    /// The store's own folder.
    pub fn root(&self) -> PathBuf {
        self.results.join(".store")
    }

    /// The file that states the store's format.
    pub fn format(&self) -> PathBuf {
        self.root().join("format")
    }

    /// The folder of a stage's artifacts.
    pub fn stage(&self, stage: Stage) -> PathBuf {
        self.root().join(stage.name())
    }

    /// The folder of one artifact.
    pub fn artifact(&self, stage: Stage, id: &str) -> PathBuf {
        self.stage(stage).join(id)
    }

    /// The folder of all runs.
    pub fn runs(&self) -> PathBuf {
        self.root().join("run")
    }

    /// The folder of one run.
    pub fn run(&self, run: &str) -> PathBuf {
        self.runs().join(run)
    }

    /// The folder of a run's attempts.
    pub fn attempts(&self, run: &str) -> PathBuf {
        self.run(run).join("attempts")
    }

    /// The folder of one attempt.
    pub fn attempt(&self, run: &str, number: u32) -> PathBuf {
        self.attempts(run).join(format!("{number:04}"))
    }

    /// The record of an attempt's failure.
    pub fn failure(&self, run: &str, number: u32) -> PathBuf {
        self.attempt(run, number).join(FAILED)
    }

    /// The folder of an attempt's checkpoints.
    pub fn checkpoints(&self, run: &str, number: u32) -> PathBuf {
        self.attempt(run, number).join("checkpoints")
    }

    /// The folder of one checkpoint.
    pub fn checkpoint(&self, run: &str, number: u32, step: u32) -> PathBuf {
        self.checkpoints(run, number).join(format!("{step:08}"))
    }

    /// Where what the process of an attempt wrote on stderr is kept.
    pub fn attempt_log(&self, run: &str, number: u32) -> PathBuf {
        self.run(run).join("logs").join(format!("attempt-{number:04}.txt"))
    }

    /// Where what a shared stage's process wrote on stderr is kept.
    pub fn stage_log(&self, stage: Stage, id: &str) -> PathBuf {
        self.root().join("logs").join(format!("{}-{}.txt", stage.name(), id.get(..12).unwrap_or(id)))
    }

    /// Where damaged and contradicting things go.
    pub fn quarantine(&self) -> PathBuf {
        self.root().join("quarantine")
    }

    /// The folder of all leases.
    pub fn leases(&self) -> PathBuf {
        self.root().join("leases")
    }

    /// The file of a lease.
    pub fn lease(&self, task: &str, generation: u64) -> PathBuf {
        self.leases().join(format!("{task}.{generation}"))
    }
}

/// Refuses ids and file names that could leave their folder or clash with the store's own files.
pub fn check_name(name: &str) -> Result<&str, StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.starts_with('.')
        || name == DONE
        || name.len() > 200
        || !name.chars().all(plain)
    {
        return Err(StoreError::BadName { name: name.to_owned() });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_folder() {
        for good in ["model.safetensors", "a", "0f3c", "tokenizer_config.json"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../a", ".tmp-1", DONE, "a\0", "ä"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
