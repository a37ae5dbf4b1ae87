//! `tickets bench`: what a step costs on a model, phase by phase, beside what the machine can do at most.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::logprobs::{DeviceArg, DtypeArg};
use crate::data::ModelDir;
use crate::estimate::{FixedWork, memory_of};
use crate::exit::{Code, Failure};
use crate::grpo::ACTIVATIONS_MIB;
use crate::torch::{BenchPart, BenchReport, BenchSpec, bench as run_bench};

/// Operators of a profile that are shown.
const SHOWN: usize = 30;

/// Arguments of `tickets bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to time
    #[arg(value_enum)]
    pub part: PartArg,
    /// A Hugging Face model directory; it needs no tokenizer
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Prompts of a step
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive)]
    pub prompts: usize,
    /// Rollouts of a prompt
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    pub group: usize,
    /// Tokens of a prompt, and of every further turn of the user
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    pub prompt_tokens: usize,
    /// Tokens drawn in a turn
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub new_tokens: usize,
    /// Turns of a conversation
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub turns: usize,
    /// Which parameters are trained
    #[arg(long, value_enum, default_value_t = MaskArg::Full)]
    pub mask: MaskArg,
    /// Share of the parameters that a random mask freezes
    #[arg(long, value_name = "SHARE", default_value_t = 0.99)]
    pub sparsity: f64,
    /// Optimizer steps on one batch of rollouts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub updates: u32,
    /// Rollouts per backward pass; 0 takes all at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub micro_batch: usize,
    /// MiB of activations that are kept for the way back; what is beyond is computed again
    #[arg(long, value_name = "MIB", default_value_t = ACTIVATIONS_MIB)]
    pub activations_mib: u32,
    /// Repetitions after one that is not counted; the median is told
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    pub steps: usize,
    /// libtorch threads
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: u32,
    /// Type of the weights
    #[arg(long, value_enum, default_value_t = DtypeArg::Float32)]
    pub dtype: DtypeArg,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub device: DeviceArg,
    /// Record decoding steps once and replay them, on a GPU
    #[arg(long)]
    pub cuda_graphs: bool,
    /// Print libtorch's operators by their own time, on standard error
    #[arg(long)]
    pub profile: bool,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartArg {
    /// Rollouts and an update
    Step,
    /// Rollouts alone
    Rollout,
    /// Updates on one batch of rollouts
    Train,
    /// Random masks
    Masks,
}

/// Which parameters are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaskArg {
    /// All
    Full,
    /// A random share
    Random,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// The command.
///
/// # Errors
/// When the directory is not a model, the device is not there, or memory runs out.
pub fn bench(args: &BenchArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    if !(0.0..1.0).contains(&args.sparsity) {
        let error = format!("--sparsity {}: a share from 0 up to, not including, 1", args.sparsity);
        return Err(Failure::new(Code::Usage, error, Some("0.99 trains 1 % of the parameters".into())));
    }
    let random = args.mask == MaskArg::Random || args.part == PartArg::Masks;
    let mut report = run_bench(&BenchSpec {
        part: match args.part {
            PartArg::Step => BenchPart::Step,
            PartArg::Rollout => BenchPart::Rollout,
            PartArg::Train => BenchPart::Train,
            PartArg::Masks => BenchPart::Masks,
        },
        model: args.model.clone(),
        prompts: args.prompts,
        group: args.group,
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        turns: args.turns,
        sparsity: random.then_some(args.sparsity),
        updates: args.updates,
        micro_batch: args.micro_batch,
        activations_mib: args.activations_mib,
        steps: args.steps,
        threads: args.threads,
        dtype: args.dtype.into(),
        device: args.device.into(),
        cuda_graphs: args.cuda_graphs,
        profile: args.profile,
    })?;
    if args.part != PartArg::Masks {
        predicted(args, &mut report.value)?;
    }
    let text = if args.json { format!("{}\n", report.value) } else { table(&report) };
    let _ = out.write_all(text.as_bytes());
    if let Some(rows) = &report.profile {
        let total: f64 = rows.iter().map(|row| row.seconds).sum();
        let mut text = format!("{:>9}  {:>6}  {:>8}  operator\n", "seconds", "share", "calls");
        for row in rows.iter().take(SHOWN) {
            let share = 100.0 * row.seconds / total;
            let _ = writeln!(text, "{:>9.4}  {share:>5.1}%  {:>8}  {}", row.seconds, row.calls, row.name);
        }
        eprint!("{text}");
    }
    Ok(Code::Ok)
}

/// Puts what `plan` would predict beside the measured memory.
fn predicted(args: &BenchArgs, value: &mut serde_json::Value) -> Result<(), Failure> {
    let shape = ModelDir::open(&args.model)?.architecture;
    let rollouts = args.prompts * args.group;
    let memory = memory_of(
        &shape,
        &FixedWork {
            prompts: args.prompts,
            group: args.group,
            turns: args.turns,
            prompt_tokens: args.prompt_tokens,
            new_tokens: args.new_tokens,
            sparsity: (args.mask == MaskArg::Random).then_some(args.sparsity),
            micro_batch: if args.micro_batch == 0 { rollouts } else { args.micro_batch },
            activations_mib: args.activations_mib,
            taped: args.part == PartArg::Step && value["device"] == "cpu",
            dtype: args.dtype.into(),
        },
    );
    for (phase, bytes) in [("rollout", memory.playing()), ("train", memory.training())] {
        let tensors = memory.weights + memory.optimizer + bytes;
        value["memory"][phase]["predicted_tensor_bytes"] = tensors.into();
        value["memory"][phase]["predicted_resident_bytes"] = (tensors + memory.overhead).into();
    }
    Ok(())
}

/// The same as lines for people: keys with dots, values.
fn table(report: &BenchReport) -> String {
    fn lines(prefix: &str, value: &serde_json::Value, text: &mut String) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    lines(&name, value, text);
                }
            }
            serde_json::Value::Null => {}
            value => {
                let shown = match value.as_f64() {
                    Some(number) if value.is_f64() && number.abs() < 100.0 => format!("{number:.4}"),
                    Some(number) if value.is_f64() => format!("{number:.0}"),
                    _ => value.to_string().trim_matches('"').to_owned(),
                };
                let _ = writeln!(text, "{prefix:<40} {shown}");
            }
        }
    }
    let mut text = String::new();
    lines("", &report.value, &mut text);
    text
}
