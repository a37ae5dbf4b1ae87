//! `tickets task score`: the reward of conversations that somebody else held.
//!
//! In: JSON lines `{"messages": [{"role", "content"}, ...], "info": {...}}`. Out: for each a line
//! `{"reward": r, "turns": [r1, ...]}`, with `parts` where the task has them; floats in their shortest form that reads back
//! to the same bits.
//!
//! `info` holds what the reward needs: `expected`, a list of lines for each turn, for all tasks; for `alphabet_sort` also
//! `similarity_power` (4 when absent) and `power_per_turn` (true); for `countdown` `numbers` and `target`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::exit::{Code, Failure};
use crate::task::{
    Arithmetic, ArithmeticSpec, Countdown, CountdownSpec, Environment, Episode, Marking, Played, Questions,
    Reverse, ReverseSpec, Reward, Scoring, Task, TaskError, Turn,
};

/// Arguments of `tickets task score`.
#[derive(Args, Clone, Debug)]
pub struct ScoreArgs {
    /// Whose reward
    #[arg(long, value_enum)]
    pub task: Scored,
    /// The transcripts, one JSON object a line; `-` reads standard input
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
}

/// A task whose reward needs nothing but the transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Scored {
    /// Names in order.
    AlphabetSort,
    /// Sums and differences.
    Arithmetic,
    /// A text backwards.
    Reverse,
    /// An expression that makes a target.
    Countdown,
    /// The text in the box, to the letter.
    Gsm8k,
    /// The answer in the box, in any form.
    Math,
}

#[derive(Deserialize)]
struct Line {
    messages: Vec<Said>,
    info: Map<String, Value>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

/// The command.
///
/// # Errors
/// When the file cannot be read, or a line is no transcript; the lines before it have been answered.
pub fn score(args: &ScoreArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let name =
        if args.file == Path::new("-") { "standard input".into() } else { args.file.display().to_string() };
    let unread = |error: std::io::Error| {
        Failure::new(
            Code::Environment,
            format!("read {name}: {error}"),
            Some("name a JSONL file, or -".into()),
        )
    };
    let reader: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(&args.file).map_err(unread)?))
    };
    for (number, line) in (1..).zip(reader.lines()) {
        let line = line.map_err(unread)?;
        if line.trim().is_empty() {
            continue;
        }
        let bad = |what: String| {
            let hint = "a line is {\"messages\": [{\"role\": \"assistant\", \"content\": \"...\"}], \"info\": {\"expected\": [[\"...\"]]}}";
            Failure::new(Code::Manifest, format!("{name}, line {number}: {what}"), Some(hint.into()))
        };
        let line: Line = serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
        let reward = scored(args.task, &line, number).map_err(bad)?;
        // A reader that went away, as `| head` does, is no error.
        if writeln!(out, "{}", object(&reward)).is_err() {
            break;
        }
    }
    Ok(Code::Ok)
}

fn object(reward: &Reward) -> Value {
    let mut object = json!({ "reward": reward.total, "turns": reward.turns });
    if !reward.parts.is_empty() {
        object["parts"] = reward.parts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    object
}

fn scored(task: Scored, line: &Line, number: u64) -> Result<Reward, String> {
    let said = |role: &str| -> Vec<String> {
        line.messages.iter().filter(|said| said.role == role).map(|said| said.content.clone()).collect()
    };
    let (prompts, answers) = (said("user"), said("assistant"));
    let expected = line.info.get("expected").ok_or("`info.expected` is missing")?;
    let expected: Vec<Vec<String>> = serde_json::from_value(expected.clone())
        .map_err(|error| format!("`info.expected` is no list of lists of lines: {error}"))?;
    if expected.is_empty() {
        return Err("`info.expected` has no turn".into());
    }
    let failed = |error: TaskError| error.to_string();
    let made: Box<dyn Environment> = match task {
        Scored::AlphabetSort => {
            let scoring = scoring(&line.info)?;
            return Ok(scoring.reward(expected.iter().map(Vec::as_slice), &answers));
        }
        // The settings move the episodes alone.
        Scored::Arithmetic => {
            Box::new(Arithmetic::new(&ArithmeticSpec { digits: 1, terms: 2 }).map_err(failed)?)
        }
        Scored::Reverse => Box::new(Reverse::new(&ReverseSpec { length: 1 }).map_err(failed)?),
        Scored::Countdown => {
            Box::new(Countdown::new(&CountdownSpec { numbers: 2, largest: 1 }).map_err(failed)?)
        }
        Scored::Gsm8k => Box::new(Questions::new(Marking::Gsm8k, "", Vec::new(), "", "").map_err(failed)?),
        Scored::Math => Box::new(Questions::new(Marking::Math, "", Vec::new(), "", "").map_err(failed)?),
    };
    let turn = |(at, expected): (usize, Vec<String>)| Turn {
        prompt: prompts.get(at).cloned().unwrap_or_default(),
        expected,
    };
    let episode = Episode {
        name: format!("line {number}"),
        before: Vec::new(),
        turns: expected.into_iter().enumerate().map(turn).collect(),
        info: Value::Object(line.info.clone()),
    };
    let task = Task::boxed(made);
    let mut rewards = task
        .rewards(&[Played { episode: &episode, prompts: &prompts, answers: &answers }])
        .map_err(failed)?;
    rewards.pop().ok_or_else(|| "it has no reward".into())
}

/// The settings of alphabet-sort's reward that a line brings.
fn scoring(info: &Map<String, Value>) -> Result<Scoring, String> {
    let power = match info.get("similarity_power") {
        None | Some(Value::Null) => 4.0,
        Some(value) => value
            .as_f64()
            .filter(|power| *power > 0.0)
            .ok_or_else(|| format!("`info.similarity_power` is {value}, and is a number above 0"))?,
    };
    let per_turn = match info.get("power_per_turn") {
        None | Some(Value::Null) => true,
        Some(value) => value
            .as_bool()
            .ok_or_else(|| format!("`info.power_per_turn` is {value}, and is true or false"))?,
    };
    Ok(Scoring { power, per_turn })
}
