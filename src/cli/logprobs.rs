//! `tickets logprobs`: the logprob of every next token of a sequence, so that anybody can compare.
//!
//! In: a model directory, which needs no tokenizer, and token ids. Out: one number fewer than there are ids, in nats, at
//! temperature 1. Nothing is written.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::data::ModelDir;
use crate::exit::{Code, Failure};
use crate::manifest::{DeviceChoice, Dtype};
use crate::torch::score_directory;

/// Arguments of `tickets logprobs`.
#[derive(Args, Clone, Debug)]
pub struct LogprobsArgs {
    /// A Hugging Face model directory; it needs no tokenizer
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Token ids, separated by commas
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',', required = true, value_parser = token)]
    pub tokens: Vec<u32>,
    /// The type to compute in, whatever the files hold
    #[arg(long, value_enum, default_value_t = DtypeArg::Float32)]
    pub dtype: DtypeArg,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub device: DeviceArg,
    /// libtorch threads; sums may differ in the last bit with their number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: u32,
    /// One line of JSON: {"logprobs": [...]}
    #[arg(long)]
    pub json: bool,
}

/// A type to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// 32-bit floats.
    Float32,
    /// bfloat16.
    Bfloat16,
}

/// A device to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    /// CUDA when it is there, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA.
    Cuda,
}

impl From<DtypeArg> for Dtype {
    fn from(arg: DtypeArg) -> Self {
        match arg {
            DtypeArg::Float32 => Self::Float32,
            DtypeArg::Bfloat16 => Self::Bfloat16,
        }
    }
}

impl From<DeviceArg> for DeviceChoice {
    fn from(arg: DeviceArg) -> Self {
        match arg {
            DeviceArg::Auto => Self::Auto,
            DeviceArg::Cpu => Self::Cpu,
            DeviceArg::Cuda => Self::Cuda,
        }
    }
}

/// The command.
///
/// # Errors
/// When the directory is not a model, a token is not in its vocabulary, or there are too many for its positions.
pub fn logprobs(args: &LogprobsArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let dir = ModelDir::open(&args.model)?;
    let logprobs = score_directory(&dir, &args.tokens, args.dtype.into(), args.device.into(), args.threads)?;
    let text = if args.json {
        format!("{}\n", json!({ "logprobs": logprobs }))
    } else {
        table(&args.tokens, &logprobs)
    };
    let _ = out.write_all(text.as_bytes());
    Ok(Code::Ok)
}

/// A token id, spaces around it left out.
fn token(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|error| format!("{error}: token ids are whole numbers, separated by commas"))
}

/// A line per predicted token, then their mean.
fn table(tokens: &[u32], logprobs: &[f64]) -> String {
    let lines = tokens.iter().skip(1).zip(logprobs).enumerate();
    let mut text = format!("{:>8}  {:>8}  logprob\n", "position", "token");
    text.extend(lines.map(|(at, (token, logprob))| format!("{:>8}  {token:>8}  {logprob:.6}\n", at + 1)));
    if !logprobs.is_empty() {
        let mean = logprobs.iter().sum::<f64>() / logprobs.len() as f64;
        let _ = writeln!(text, "mean of {}: {mean:.6} nats", logprobs.len());
    }
    text
}
