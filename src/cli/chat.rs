//! `tickets chat [MANIFEST] RUN|DIR`: conversations of a trained model on its task, with the reward beside them.
//!
//! In: a finished run, or a model folder with the manifest whose task it is asked. Out: whole conversations, as text or as JSON
//! lines. Episodes and draws are those of the evaluation, so the first ones are those that its score is made of.

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::args::LookArgs;
use super::chosen::chosen;
use super::logprobs::DeviceArg;
use super::task::{Split, asked};
use super::transcripts;
use crate::exit::{Code, Failure};
use crate::plan::RunSpec;
use crate::store::Store;
use crate::torch::{Asked, Speaker, converse};
use crate::{manifest, plan};

/// Arguments of `tickets chat`.
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "tickets chat [OPTIONS] [MANIFEST] RUN\n       tickets chat [OPTIONS] MANIFEST DIR\n       tickets chat [OPTIONS] MANIFEST RUN --base"
)]
pub struct ChatArgs {
    /// The manifest, when the run is named by its label or a folder answers; else the run itself
    #[arg(value_name = "MANIFEST|RUN")]
    pub first: String,
    /// The run, by the beginning of its id or its label, or a folder of a model
    #[arg(value_name = "RUN|DIR")]
    pub second: Option<String>,
    /// Let the model answer that the run begins with
    #[arg(long)]
    pub base: bool,
    /// How many conversations
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
    pub number: u64,
    /// Episodes that are passed over
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
    /// Episodes of training or of the held-out evaluation
    #[arg(long, value_enum, default_value_t = Split::Eval)]
    pub split: Split,
    /// A named evaluation, [eval.NAME]
    #[arg(long, value_name = "NAME")]
    pub eval: Option<String>,
    /// Another temperature than the evaluation's; 0 is greedy
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub temperature: Option<f64>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub device: DeviceArg,
    /// Results, overrides, JSON: an object a line
    #[command(flatten)]
    pub look: LookArgs,
}

/// The command.
///
/// # Errors
/// When the run or the folder is not there, the run is not finished, or the task cannot be asked.
pub fn chat(args: &ChatArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let folder = args.second.as_deref().map(Path::new).filter(|folder| folder.join("config.json").is_file());
    if args.second.is_none() && Path::new(&args.first).join("config.json").is_file() {
        let hint = format!("name the manifest whose task it is asked: tickets chat MANIFEST {}", args.first);
        let error = format!("{} is a model folder, and does not say its task", args.first);
        return Err(Failure::new(Code::Usage, error, Some(hint)));
    }
    let store = Store::open_read_only(&args.look.results)?;
    let run = match folder {
        Some(_) => first(args)?,
        None => chosen("chat", &args.first, args.second.as_deref(), &args.look, &store)?,
    };
    let speaker = match (folder, args.base) {
        (Some(folder), _) => Speaker::Folder(folder),
        (None, true) => Speaker::Base,
        (None, false) => Speaker::Run,
    };
    // Where all evaluations have names, the first is meant unless one is named.
    let name = args.eval.as_deref().or_else(|| run.config.evals.first().map(|eval| eval.name.as_str()));
    let train = args.split == Split::Train;
    let (task, spec) = asked(&run.config, if train { None } else { name })?;
    let mut spec = spec.clone();
    if train {
        spec.sampling = run.config.sampling.clone();
    }
    if let Some(temperature) = args.temperature {
        spec.sampling.temperature = temperature;
    }
    let asked = Asked {
        eval: name.filter(|_| !train),
        task,
        spec: &spec,
        train,
        skip: args.skip,
        count: args.number,
    };
    let found = converse(&run, &store, speaker, &asked, args.device.into(), &|text| eprintln!("{text}"))?;
    let text = if args.look.json {
        transcripts::lines(&found)
    } else {
        format!("{}{}\n", transcripts::text(&found), mean(&found))
    };
    let _ = out.write_all(text.as_bytes());
    Ok(Code::Ok)
}

/// The first run of the manifest: a folder is asked what that run is asked.
fn first(args: &ChatArgs) -> Result<RunSpec, Failure> {
    let plan = plan::expand(manifest::load(&args.first, &args.look.overrides())?)?;
    plan.runs.into_iter().next().ok_or_else(|| Failure::new(Code::Plan, "the manifest has no run", None))
}

fn mean(transcripts: &[Value]) -> String {
    let rewards: Vec<f64> = transcripts.iter().filter_map(|found| found["reward"].as_f64()).collect();
    let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
    format!("mean reward of {}: {mean:.4}", rewards.len())
}

fn temperature(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=100.0).contains(&value) { Ok(value) } else { Err("it is a number from 0 to 100".into()) }
}
