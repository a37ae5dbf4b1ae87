//! `tickets task`: what a task asks, and what answers earn.

mod check;
mod compare;
mod score;
mod show;
mod trial;

use std::io::Write;

use clap::Subcommand;

pub use check::CheckArgs;
pub use score::{ScoreArgs, Scored};
pub use show::{ShowArgs, Split, asked};

use crate::exit::{Code, Failure};

/// What to do with a task.
#[derive(Clone, Debug, Subcommand)]
pub enum TaskCommand {
    /// Print episodes: prompts as the model gets them, and the answers that earn the most
    Show(ShowArgs),
    /// Score transcripts: a line of JSON in, a line of JSON out
    Score(ScoreArgs),
    /// Check that a program keeps to the protocol of tasks
    Check(CheckArgs),
}

/// The command.
///
/// # Errors
/// When the manifest cannot be planned, or the task cannot be made or asked.
pub fn run(command: &TaskCommand, out: &mut dyn Write) -> Result<Code, Failure> {
    match command {
        TaskCommand::Show(args) => show::show(args, out),
        TaskCommand::Score(args) => score::score(args, out),
        TaskCommand::Check(args) => check::run(args, out),
    }
}
