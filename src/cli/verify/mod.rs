//! `tickets verify`: whether what is on the disk is what was computed, and would be computed again.
//!
//! `store` reads every byte. `resume` and `sample` execute runs again, in a scratch folder inside the store, and compare bit
//! for bit; nothing in the store is changed. Out: a table or one JSON object. Exit codes: 0 what can be judged is equal, 5
//! the store is damaged, 6 something differs or failed, 99 stopped on request.

mod resume;
mod sample;
pub mod store;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

pub use resume::{ResumeArgs, resume};
pub use sample::{SampleArgs, Share, sample};

use crate::execute::{Event, Requests, SweepOptions, Verdict};
use crate::exit::{Code, Failure};
use crate::plan::Plan;

/// What is verified.
#[derive(Clone, Debug, Subcommand)]
pub enum VerifyCommand {
    /// Execute a run straight through and with interruptions, and compare the two
    Resume(ResumeArgs),
    /// Execute some finished runs again, and compare them with what the store has
    Sample(SampleArgs),
    /// Read every byte of the store and say what is damaged
    Store(store::StoreArgs),
}

impl VerifyCommand {
    /// Whether it executes runs, for which a trainer is needed.
    pub fn executes(&self) -> bool {
        !matches!(self, Self::Store(_))
    }
}

/// The program that executes stages, and its arguments before those of a stage.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// This very program.
    pub fn own() -> Self {
        Self { program: super::sweep::own_program(), arguments: vec!["stage".into()] }
    }

    /// How runs of a plan are executed.
    fn options(&self, plan: &Plan, overrides: (&[String], bool), requests: &Requests) -> SweepOptions {
        SweepOptions {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            manifest: plan.manifest.path.clone(),
            set: overrides.0.to_vec(),
            env: !overrides.1,
            jobs: 1,
            gpus: Vec::new(),
            retry: false,
            wait: true,
            requests: requests.clone(),
        }
    }
}

/// The command.
///
/// # Errors
/// When the manifest, the run or the results folder cannot be used.
pub fn run(command: &VerifyCommand, program: &Program, out: &mut dyn Write) -> Result<Code, Failure> {
    match command {
        VerifyCommand::Resume(args) => resume(args, program, out),
        VerifyCommand::Sample(args) => sample(args, program, out),
        VerifyCommand::Store(args) => store::store(args, out),
    }
}

/// Where progress is told.
fn say(event: &Event) {
    if let Event::Note(note) = event {
        eprintln!("{note}");
    }
}

/// A verdict in one word.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "equal",
        Verdict::Differs(_) => "differs",
        Verdict::Failed(_) => "failed",
    }
}

/// A verdict for a reader.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Equal => "equal".to_owned(),
        Verdict::Differs(difference) => difference.to_string(),
        Verdict::Failed(failure) => format!("failed: {failure}"),
    }
}

/// The difference and the failure of a verdict as JSON, each `null` where there is none.
fn details(verdict: &Verdict) -> (Value, Value) {
    match verdict {
        Verdict::Equal => (Value::Null, Value::Null),
        Verdict::Differs(difference) => (json!(difference), Value::Null),
        Verdict::Failed(failure) => (Value::Null, json!(failure)),
    }
}
