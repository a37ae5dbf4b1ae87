//! The command line: arguments in, output and exit codes out. One file per command.

use std::io::Write;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::execute::{StageFailure, Trainer};
use crate::exit::{Code, Failure};
use crate::plan::RunSpec;
#[cfg(all(feature = "torch", not(feature = "tables")))]
use crate::store::Store;

pub mod apply;
pub mod args;
#[cfg(feature = "torch")]
pub mod bench;
#[cfg(feature = "torch")]
pub mod chat;
#[cfg(feature = "torch")]
mod chosen;
pub mod diff;
#[cfg(feature = "torch")]
pub mod doctor;
#[cfg(feature = "torch")]
pub mod export;
pub mod gc;
mod inputs;
#[cfg(feature = "torch")]
pub mod logprobs;
pub mod masks;
#[cfg(feature = "torch")]
pub mod model;
mod output;
pub mod plan;
#[cfg(feature = "tables")]
pub mod report;
pub mod retry;
pub mod schema;
mod shape;
pub mod show;
mod space;
pub mod stage;
pub mod status;
pub mod sweep;
pub mod task;
mod transcripts;
pub mod verify;
pub mod work;

/// A declarative experiment runner for sparse-subnetwork reinforcement learning of language models.
#[derive(Debug, Parser)]
#[command(name = "tickets", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the runs of a manifest: axes, ids, states. Writes nothing
    Plan(plan::PlanArgs),
    /// Run a manifest's grid, or go on with it, and write its report
    Sweep(sweep::SweepArgs),
    /// Help with a manifest's grid: any number of these share one results folder, on one machine or many
    Work(work::WorkArgs),
    /// Have runs that failed tried again by the next sweep
    Retry(retry::RetryArgs),
    /// Tables, charts and one page of a manifest's results, from the results alone
    #[cfg(feature = "tables")]
    Report(report::ReportArgs),
    /// How far a grid has come
    Status(status::StatusArgs),
    /// One run: settings, stages, last rows, digests
    Show(show::ShowArgs),
    /// What differs between two runs: settings, stages, final metrics
    Diff(diff::DiffArgs),
    /// Check what is on the disk, and that runs come out the same again
    #[command(subcommand)]
    Verify(verify::VerifyCommand),
    /// Look at a task: its episodes as the model sees them, and what answers earn
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Free disk space: move what no kept manifest needs to the trash, and empty the trash
    Gc(gc::GcArgs),
    /// Print the JSON Schema of manifests, for editors
    Schema(schema::SchemaArgs),
    /// Write what a run made of its base: a Hugging Face directory, or a small delta
    #[cfg(feature = "torch")]
    Export(export::ExportArgs),
    /// Conversations of a trained model on its task, with the reward beside them
    #[cfg(feature = "torch")]
    Chat(chat::ChatArgs),
    /// A delta and its base to the model that was exported
    Apply(apply::ApplyArgs),
    /// Masks as files: look at them, combine them, take them to PyTorch and back
    #[command(subcommand)]
    Masks(masks::MasksCommand),
    /// Look at a model directory, or make one with random weights
    #[cfg(feature = "torch")]
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// The logprob of every next token of a sequence, to compare with other programs
    #[cfg(feature = "torch")]
    Logprobs(logprobs::LogprobsArgs),
    /// What a step costs on a model, phase by phase, beside what the machine can do at most
    #[cfg(feature = "torch")]
    Bench(bench::BenchArgs),
    /// What this machine has: libtorch, devices, memory, disk
    #[cfg(feature = "torch")]
    Doctor(doctor::DoctorArgs),
    /// (this program was built without the feature `tables`)
    #[cfg(not(feature = "tables"))]
    #[command(hide = true)]
    Report(Absent),
    /// (this program was built without the feature `torch`)
    #[cfg(not(feature = "torch"))]
    #[command(hide = true)]
    Export(Absent),
    /// (this program was built without the feature `torch`)
    #[cfg(not(feature = "torch"))]
    #[command(hide = true)]
    Chat(Absent),
    /// (this program was built without the feature `torch`)
    #[cfg(not(feature = "torch"))]
    #[command(hide = true)]
    Logprobs(Absent),
    /// (this program was built without the feature `torch`)
    #[cfg(not(feature = "torch"))]
    #[command(hide = true)]
    Model(Absent),
    /// (this program was built without the feature `torch`)
    #[cfg(not(feature = "torch"))]
    #[command(hide = true)]
    Bench(Absent),
    /// (this program was built without the feature `torch`)
    #[cfg(not(feature = "torch"))]
    #[command(hide = true)]
    Doctor(Absent),
    /// One stage of one run, in a process of its own (started by `sweep` and `work`)
    #[command(hide = true)]
    Stage(stage::StageArgs),
}

/// The arguments of a command that this build lacks: whatever they are.
#[cfg(any(not(feature = "torch"), not(feature = "tables")))]
#[derive(Clone, Debug, clap::Args)]
pub struct Absent {
    /// Not looked at
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

#[cfg(any(not(feature = "torch"), not(feature = "tables")))]
fn absent(what: &str, feature: &str) -> Failure {
    let error = format!("{what}: this program was built without the feature `{feature}`");
    Failure::new(Code::Feature, error, Some("build it with the default features: make build".into()))
}

/// Carries a command out.
///
/// # Errors
/// As the command says.
pub fn run(command: Command, out: &mut dyn Write) -> Result<Code, Failure> {
    match command {
        Command::Plan(args) => plan::plan(&args, out),
        #[cfg(not(feature = "torch"))]
        Command::Sweep(_) | Command::Work(_) => Err(absent("run a grid", "torch")),
        #[cfg(not(feature = "tables"))]
        Command::Report(_) => Err(absent("write a report", "tables")),
        #[cfg(not(feature = "torch"))]
        Command::Export(_) => Err(absent("export a model", "torch")),
        #[cfg(not(feature = "torch"))]
        Command::Chat(_) => Err(absent("let a model answer", "torch")),
        #[cfg(not(feature = "torch"))]
        Command::Logprobs(_) => Err(absent("score tokens", "torch")),
        #[cfg(not(feature = "torch"))]
        Command::Model(_) => Err(absent("open a model", "torch")),
        #[cfg(not(feature = "torch"))]
        Command::Bench(_) => Err(absent("time a step", "torch")),
        #[cfg(not(feature = "torch"))]
        Command::Doctor(_) => Err(absent("look at libtorch and devices", "torch")),
        #[cfg(feature = "torch")]
        Command::Sweep(args) => {
            let hooks = sweep::SweepHooks { report: &write_report, gpus: &gpus };
            sweep::sweep(&args, &hooks, out)
        }
        #[cfg(feature = "torch")]
        Command::Work(args) => work::work(&args, &gpus, out),
        #[cfg(feature = "tables")]
        Command::Report(args) => report::run(&args, out),
        Command::Status(args) => status::status(&args, out),
        Command::Show(args) => show::show(&args, out),
        Command::Diff(args) => diff::diff(&args, out),
        Command::Task(command) => task::run(&command, out),
        #[cfg(not(feature = "torch"))]
        Command::Verify(command) if command.executes() => Err(absent("execute a run again", "torch")),
        Command::Verify(command) => verify::run(&command, &verify::Program::own(), out),
        Command::Gc(args) => gc::gc(&args, out),
        Command::Schema(args) => schema::schema(&args, out),
        Command::Masks(command) => masks::run(&command, out),
        Command::Apply(args) => apply::apply(&args, out),
        #[cfg(feature = "torch")]
        Command::Export(args) => export::export(&args, out),
        #[cfg(feature = "torch")]
        Command::Chat(args) => chat::chat(&args, out),
        #[cfg(feature = "torch")]
        Command::Logprobs(args) => logprobs::logprobs(&args, out),
        #[cfg(feature = "torch")]
        Command::Model(command) => model::run(&command, out),
        #[cfg(feature = "torch")]
        Command::Bench(args) => bench::bench(&args, out),
        #[cfg(feature = "torch")]
        Command::Doctor(args) => {
            doctor::run(&args, out).map_err(|error| Failure::new(Code::Bug, error, None))
        }
        Command::Retry(args) => retry::retry(&args, out),
        Command::Stage(args) => Ok(stage::stage(&args, &trainer)),
    }
}

#[cfg(all(feature = "torch", feature = "tables"))]
use report::write_report;

/// Without tables the results are all there is.
#[cfg(all(feature = "torch", not(feature = "tables")))]
#[expect(clippy::unnecessary_wraps, reason = "the full program's report can fail")]
fn write_report(_: &crate::plan::Plan, store: &Store) -> Result<std::path::PathBuf, Failure> {
    Ok(store.results().to_path_buf())
}

#[cfg(feature = "torch")]
#[expect(clippy::unnecessary_wraps, reason = "the lean program has no trainer")]
fn trainer(_: &RunSpec) -> Result<Box<dyn Trainer>, StageFailure> {
    Ok(Box::new(crate::torch::TorchTrainer))
}

#[cfg(not(feature = "torch"))]
fn trainer(_: &RunSpec) -> Result<Box<dyn Trainer>, StageFailure> {
    Err(StageFailure::new(
        crate::execute::FailureClass::Infra,
        "this program was built without the feature `torch`",
    ))
}

/// The GPUs that the plan's workers will use, as `CUDA_VISIBLE_DEVICES` names them; none on a CPU. One that is asked for
/// and absent is said before anything is begun.
#[cfg(feature = "torch")]
fn gpus(plan: &crate::plan::Plan) -> Result<Vec<String>, Failure> {
    use crate::manifest::DeviceChoice;
    use crate::torch::device;
    let Some(run) = plan.runs.first() else { return Ok(Vec::new()) };
    if run.config.exec.device == DeviceChoice::Cuda {
        device::probe_cuda()?;
    }
    if !device::would_use_cuda(run.config.exec.device) {
        return Ok(Vec::new());
    }
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    Ok(gpu_names(visible.as_deref(), device::cuda_count()))
}

/// The names of `count` GPUs: those that the environment lists, else their numbers.
#[cfg(feature = "torch")]
fn gpu_names(visible: Option<&str>, count: usize) -> Vec<String> {
    let listed =
        visible.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let mut names: Vec<String> = listed.map(str::to_owned).take(count).collect();
    names.extend((names.len()..count).map(|index| index.to_string()));
    names
}

/// A value of a setting or an axis for a reader.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), crate::manifest::short_number)
        }
        other => other.to_string(),
    }
}

/// The first digits of an id.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(all(test, feature = "torch"))]
mod tests {
    use super::gpu_names;

    #[test]
    fn gpus_keep_the_names_that_the_environment_gives_them() {
        assert_eq!(gpu_names(None, 2), ["0", "1"]);
        assert_eq!(gpu_names(Some("3, GPU-5a"), 2), ["3", "GPU-5a"]);
        assert_eq!(gpu_names(Some("3,5"), 1), ["3"]);
        assert_eq!(gpu_names(Some(""), 1), ["0"]);
    }
}
