//! `tickets task show`: episodes as the model sees them, with the answers expected. It reads and writes nothing else.

use std::fmt::Write as _;
use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::args::ManifestArgs;
use crate::data::{ChatTemplate, Message, ModelDir, hub, open_task};
use crate::exit::{Code, Failure};
use crate::manifest::ModelSource;
use crate::task::{Episode, Task};
use crate::{manifest, plan};

/// What to do with a task.
#[derive(Clone, Debug, Subcommand)]
pub enum TaskCommand {
    /// Print episodes: prompts as the model gets them, and the answers that earn a reward of 1
    Show(ShowArgs),
}

/// Arguments of `tickets task show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Which manifest; its first run's task is shown
    #[command(flatten)]
    pub common: ManifestArgs,
    /// How many episodes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
    pub number: u64,
    /// Episodes of training or of the held-out evaluation
    #[arg(long, value_enum, default_value_t = Split::Train)]
    pub split: Split,
    /// One JSON object a line, with `prompts` and `expected` per turn
    #[arg(long)]
    pub json: bool,
}

/// Whose episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Those that runs train on, from the first step on.
    Train,
    /// Those that every evaluation asks.
    Eval,
}

/// The command.
///
/// # Errors
/// When the manifest cannot be planned, or the task cannot be made.
pub fn run(command: &TaskCommand, out: &mut dyn Write) -> Result<Code, Failure> {
    let TaskCommand::Show(args) = command;
    let plan = plan::expand(manifest::load(&args.common.manifest, &args.common.overrides())?)?;
    let Some(config) = plan.runs.first().map(|run| &run.config) else { return Ok(Code::Ok) };
    let task = open_task(&config.task)?;
    let (seed, stream) = match args.split {
        Split::Train => (config.seed, "train"),
        Split::Eval => (config.eval.seed, "eval"),
    };
    let template = match &config.model.source {
        ModelSource::Pretrain(_) => ChatTemplate::built_in()?,
        ModelSource::Directory { path, .. } => ModelDir::open(path)?.chat_template()?,
        ModelSource::Hub { id, revision } => cached(id, revision.as_deref())?.chat_template()?,
    };
    for index in 0..args.number {
        let episode = task.episode(seed, stream, index).map_err(Failure::from)?;
        let seen = as_seen(&template, &task, &episode)?;
        let text = if args.json {
            line(&episode, &seen, index)
        } else {
            page(&task, &episode, &seen, &format!("episode {index} of {stream}, seed {seed}"))
        };
        // A reader that went away, as `| head` does, is no error.
        if out.write_all(text.as_bytes()).is_err() {
            break;
        }
    }
    Ok(Code::Ok)
}

/// A model of a hub, where the cache of this machine has it.
fn cached(id: &str, revision: Option<&str>) -> Result<ModelDir, Failure> {
    let folder = hub::cached(id, revision).filter(|folder| folder.join("config.json").is_file());
    let folder = folder.ok_or_else(|| {
        let at = revision.map(|commit| format!(" --revision {commit}")).unwrap_or_default();
        let error = format!("{id} is not in the cache of this machine, so its chat template is not known");
        let hint = format!("a sweep fetches it; so does: hf download {id}{at}");
        Failure::new(Code::Environment, error, Some(hint))
    })?;
    Ok(ModelDir::open(&folder)?)
}

/// The text that the model gets in each turn, given right answers before: the rendered opening, then what stands
/// between an answer and the next.
fn as_seen(template: &ChatTemplate, task: &Task, episode: &Episode) -> Result<Vec<String>, Failure> {
    let mut history: Vec<Message> = Vec::new();
    let mut seen = Vec::new();
    for (turn, step) in episode.turns.iter().enumerate() {
        seen.push(if turn == 0 {
            template.render(&[Message::user(&step.prompt)], true)?
        } else {
            template.follow_up(&history, &step.prompt)?
        });
        history.push(Message::user(&step.prompt));
        history.push(Message::assistant(task.demonstration(episode, turn)));
    }
    Ok(seen)
}

fn line(episode: &Episode, seen: &[String], index: u64) -> String {
    let prompts: Vec<&str> = episode.turns.iter().map(|turn| turn.prompt.as_str()).collect();
    let expected: Vec<&[String]> = episode.turns.iter().map(|turn| turn.expected.as_slice()).collect();
    format!("{}\n", json!({ "index": index, "prompts": prompts, "expected": expected, "seen": seen }))
}

fn page(task: &Task, episode: &Episode, seen: &[String], title: &str) -> String {
    let mut text = format!("── {title} ──\n");
    let answers: Vec<String> =
        (0..episode.turns.len()).map(|turn| task.demonstration(episode, turn)).collect();
    for (turn, (prompt, answer)) in seen.iter().zip(&answers).enumerate() {
        let _ =
            write!(text, "[turn {0}, the model sees]\n{prompt}\n[turn {0}, expected]\n{answer}\n", turn + 1);
    }
    let _ = write!(text, "[reward of these answers: {}]\n\n", task.reward(episode, &answers).total);
    text
}
