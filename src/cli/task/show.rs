//! `tickets task show`: episodes as the model sees them, with token counts and the answers expected. Nothing is written.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::args::ManifestArgs;
use crate::data::{ChatTemplate, Message, ModelDir, hub, open_task};
use crate::exit::{Code, Failure};
use crate::manifest::{EvalSpec, ModelSource, RunConfig};
use crate::plan::RunSpec;
use crate::store::{Stage, Store};
use crate::task::{Episode, Played, Task, TaskSpec};
use crate::{manifest, plan};

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
    /// A named evaluation, [eval.NAME]: its episodes
    #[arg(long, value_name = "NAME")]
    pub eval: Option<String>,
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
pub(super) fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let plan = plan::expand(manifest::load(&args.common.manifest, &args.common.overrides())?)?;
    let Some(run) = plan.runs.first() else { return Ok(Code::Ok) };
    let config = &run.config;
    let (spec, eval) = asked(config, args.eval.as_deref())?;
    let task = open_task(spec, config.exec.serving())?;
    let reader = Reader::of(run, &args.common.results)?;
    let train = args.split == Split::Train && args.eval.is_none();
    let (seed, stream) = if train { (config.seed, "train") } else { (eval.seed, "eval") };
    let most = if train { u64::MAX } else { u64::from(eval.examples) };
    for index in 0..args.number.min(most) {
        let mut episodes = if train {
            task.train(seed, index..index + 1).map_err(Failure::from)?
        } else {
            let mut episodes = task.held_out(seed, eval.rows, index + 1).map_err(Failure::from)?;
            episodes.split_off(index as usize)
        };
        let Some(episode) = episodes.pop() else { break };
        let turns = as_seen(&reader, &task, &episode)?;
        let text = if args.json {
            line(&episode, &turns, index)
        } else {
            page(&task, &episode, &turns, &format!("episode {index} of {stream}, seed {seed}"))?
        };
        // A reader that went away, as `| head` does, is no error.
        if out.write_all(text.as_bytes()).is_err() {
            break;
        }
    }
    Ok(Code::Ok)
}

/// The task and the settings of an evaluation: the named one, or the plain one with the task of the training.
///
/// # Errors
/// When there is no evaluation of that name.
pub fn asked<'c>(config: &'c RunConfig, name: Option<&str>) -> Result<(&'c TaskSpec, &'c EvalSpec), Failure> {
    let Some(name) = name else { return Ok((&config.task, &config.eval)) };
    let found = config.evals.iter().find(|eval| eval.name == name);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = config.evals.iter().map(|eval| eval.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "the manifest has no named evaluation".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Failure::new(Code::Manifest, format!("there is no evaluation `{name}`"), Some(hint))
    })?;
    Ok((&found.task, &found.eval))
}

/// What a model reads: a template, and where this program has them, tokens.
struct Reader {
    template: ChatTemplate,
    #[cfg(feature = "torch")]
    tokenizer: Option<crate::data::Tokenizer>,
}

impl Reader {
    fn of(run: &RunSpec, results: &Path) -> Result<Self, Failure> {
        match &run.config.model.source {
            ModelSource::Pretrain(_) => Self::built_in(run, results),
            ModelSource::Directory { path, .. } => Self::folder(path),
            ModelSource::Hub { id, revision } => Self::folder(&cached(id, revision.as_deref())?),
            ModelSource::Run { .. } => {
                let folder = base(run, results)?.ok_or_else(|| {
                    let error = "the base is another run's weights, and is not in the results folder yet";
                    Failure::new(Code::Environment, error, Some("sweep the manifest first".into()))
                })?;
                Self::folder(&folder)
            }
        }
    }

    #[cfg(feature = "torch")]
    fn folder(folder: &Path) -> Result<Self, Failure> {
        let dir = ModelDir::open(folder)?;
        // A folder without a tokenizer shows its text all the same.
        let tokenizer = dir.chat().ok().map(|chat| chat.tokenizer);
        Ok(Self { template: dir.chat_template()?, tokenizer })
    }

    #[cfg(not(feature = "torch"))]
    fn folder(folder: &Path) -> Result<Self, Failure> {
        Ok(Self { template: ModelDir::open(folder)?.chat_template()? })
    }

    /// The built-in base has no tokens before it is made: its tokenizer is trained with it.
    fn built_in(run: &RunSpec, results: &Path) -> Result<Self, Failure> {
        match base(run, results)? {
            Some(folder) => Self::folder(&folder),
            None => Ok(Self {
                template: ChatTemplate::built_in()?,
                #[cfg(feature = "torch")]
                tokenizer: None,
            }),
        }
    }

    #[cfg(feature = "torch")]
    fn tokens(&self, text: &str) -> Result<Option<usize>, Failure> {
        Ok(self.tokenizer.as_ref().map(|tokenizer| tokenizer.encode(text)).transpose()?.map(|ids| ids.len()))
    }

    #[cfg(not(feature = "torch"))]
    #[expect(clippy::unnecessary_wraps, reason = "with tensors it can fail")]
    #[expect(clippy::unused_self, reason = "with tensors it has a tokenizer")]
    fn tokens(&self, _text: &str) -> Result<Option<usize>, Failure> {
        Ok(None)
    }
}

/// The folder of the base in a results folder, where it has been made.
fn base(run: &RunSpec, results: &Path) -> Result<Option<PathBuf>, Failure> {
    if !results.is_dir() {
        return Ok(None);
    }
    let store = Store::open_read_only(results)?;
    Ok(store.artifact(Stage::Base, &run.stages.base)?.map(|artifact| artifact.folder().to_path_buf()))
}

/// A model of a hub, where the cache of this machine has it.
fn cached(id: &str, revision: Option<&str>) -> Result<PathBuf, Failure> {
    let folder = hub::cached(id, revision).filter(|folder| folder.join("config.json").is_file());
    folder.ok_or_else(|| {
        let at = revision.map(|commit| format!(" --revision {commit}")).unwrap_or_default();
        let error = format!("{id} is not in the cache of this machine, so its chat template is not known");
        let hint = format!("a sweep fetches it; so does: hf download {id}{at}");
        Failure::new(Code::Environment, error, Some(hint))
    })
}

/// One turn as the model sees it.
struct Seen {
    prompt: String,
    /// The rendered opening, then what stands between an answer and the next.
    text: String,
    /// Its tokens, and those of the whole conversation up to here, this answer left out.
    tokens: Option<usize>,
    context: Option<usize>,
    /// The right answer, where the task says it.
    answer: Option<String>,
}

/// The turns of a conversation with right answers; it ends where the task does not say one.
fn as_seen(reader: &Reader, task: &Task, episode: &Episode) -> Result<Vec<Seen>, Failure> {
    let mut turns: Vec<Seen> = Vec::new();
    let (mut prompts, mut answers): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut next = episode.turns.first().map(|turn| turn.prompt.clone());
    let mut context = Some(0);
    while let Some(prompt) = next.take() {
        let before = Played { episode, prompts: &prompts, answers: &answers }.messages();
        let text = if answers.is_empty() {
            reader.template.render(&[before, vec![Message::user(&prompt)]].concat(), true)?
        } else {
            reader.template.follow_up(&before, &prompt)?
        };
        let tokens = reader.tokens(&text)?;
        context = context.zip(tokens).map(|(before, tokens)| before + tokens);
        let answer = task.demonstration(episode, turns.len());
        let seen = Seen { prompt: prompt.clone(), text, tokens, context, answer: answer.clone() };
        turns.push(seen);
        prompts.push(prompt);
        let Some(answer) = answer else { break };
        context = context.zip(reader.tokens(&answer)?).map(|(before, tokens)| before + tokens);
        answers.push(answer);
        next = task
            .respond(&[Played { episode, prompts: &prompts, answers: &answers }])
            .map_err(Failure::from)?
            .pop()
            .flatten();
    }
    Ok(turns)
}

fn line(episode: &Episode, turns: &[Seen], index: u64) -> String {
    let prompts: Vec<&str> = turns.iter().map(|turn| turn.prompt.as_str()).collect();
    let expected = |at: usize| episode.turns.get(at).map_or(&[][..], |turn| &turn.expected);
    let expected: Vec<&[String]> = (0..turns.len()).map(expected).collect();
    let seen: Vec<&str> = turns.iter().map(|turn| turn.text.as_str()).collect();
    let tokens: Vec<Option<usize>> = turns.iter().map(|turn| turn.tokens).collect();
    let object = json!({
        "index": index,
        "name": episode.name,
        "prompts": prompts,
        "expected": expected,
        "seen": seen,
        "tokens": tokens,
    });
    format!("{object}\n")
}

fn page(task: &Task, episode: &Episode, turns: &[Seen], title: &str) -> Result<String, Failure> {
    let mut text = format!("── {title} ──\n");
    for (turn, seen) in (1..).zip(turns) {
        let count = match (seen.tokens, seen.context) {
            (Some(tokens), Some(context)) if turn > 1 => {
                format!(", {tokens} tokens, {context} with all before")
            }
            (Some(tokens), _) => format!(", {tokens} tokens"),
            _ => String::new(),
        };
        let answer = seen.answer.as_deref().unwrap_or("(the task does not say)");
        let _ = write!(
            text,
            "[turn {turn}, the model sees{count}]\n{}\n[turn {turn}, expected]\n{answer}\n",
            seen.text
        );
    }
    let answers: Option<Vec<String>> = turns.iter().map(|turn| turn.answer.clone()).collect();
    if let Some(answers) = answers {
        let prompts: Vec<String> = turns.iter().map(|turn| turn.prompt.clone()).collect();
        let played = Played { episode, prompts: &prompts, answers: &answers };
        let reward = task.rewards(&[played]).map_err(Failure::from)?.pop().map_or(0.0, |reward| reward.total);
        let _ = writeln!(text, "[reward of these answers: {reward}]");
    }
    text.push('\n');
    Ok(text)
}
