//! Failures as the command line reports them: an error chain, a hint, an exit code.

use std::error::Error;
use std::process::ExitCode;

/// Exit codes of every command; README.md holds the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done, or nothing was left to do.
    Ok = 0,
    /// The command line is wrong.
    Usage = 2,
    /// The manifest is missing, malformed or invalid.
    Manifest = 3,
    /// The grid cannot be planned or a run is not in it.
    Plan = 4,
    /// The results folder cannot be used: permissions, damage, disk full or too small.
    Store = 5,
    /// Some run failed; the others were finished.
    RunsFailed = 6,
    /// The machine lacks something: libtorch, CUDA, a model file, a dataset.
    Environment = 7,
    /// The program was built without the feature that the command needs.
    Feature = 8,
    /// A worker failed in a way that a retry will not mend.
    Permanent = 42,
    /// A bug in `tickets`.
    Bug = 70,
    /// A worker failed in a way that a retry may mend.
    Transient = 75,
    /// Interrupted after a checkpoint; the same command goes on from there.
    Interrupted = 99,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A failed command: what is printed and how the process ends.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub code: Code,
    /// What went wrong; its sources are printed below it.
    pub error: Box<dyn Error + Send + Sync>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Wraps an error with an exit code and, perhaps, advice.
    pub fn new(code: Code, error: impl Into<Box<dyn Error + Send + Sync>>, hint: Option<String>) -> Self {
        Self { code, error: error.into(), hint }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "error: {}", self.error)?;
        let mut source = self.error.source();
        while let Some(cause) = source {
            write!(out, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}
