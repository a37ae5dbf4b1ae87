//! `tickets model`: what a model directory holds, and directories with random weights.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::logprobs::DtypeArg;
use super::output::{must_be_free, must_have_room, placed};
use super::shape::config_text;
use crate::data::{Architecture, ModelDir, Parameter, TensorDigests, each_tensor};
use crate::exit::{Code, Failure};
use crate::store::human_bytes;
use crate::task::{
    AlphabetSortSpec, Episodes, NameSource, NamesSpec, RowNames, SortBy, Task, TaskSpec, default_prompts,
};
use crate::torch::{RandomModel, write_random};

/// What to do with a model.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelCommand {
    /// Say what a model directory holds: shape, tensors, types, digest
    Show(ShowArgs),
    /// Write a model with random weights, to try a shape out without its weights
    Random(RandomArgs),
}

/// Arguments of `tickets model show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// A Hugging Face model directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tickets model random`.
#[derive(Args, Clone, Debug)]
pub struct RandomArgs {
    /// A config.json, or one of the shapes qwen2.5-0.5b, qwen2.5-1.5b, qwen3-0.6b, llama-3.2-1b
    #[arg(long, value_name = "FILE|SHAPE")]
    pub config: String,
    /// The folder to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The type of the weights
    #[arg(long, value_enum, default_value_t = DtypeArg::Bfloat16)]
    pub dtype: DtypeArg,
    /// Write no tokenizer: the vocabulary may be smaller than one needs
    #[arg(long)]
    pub no_tokenizer: bool,
}

/// The command.
///
/// # Errors
/// When the directory is no model, or the new one cannot be written.
pub fn run(command: &ModelCommand, out: &mut dyn Write) -> Result<Code, Failure> {
    let text = match command {
        ModelCommand::Show(args) => show(args)?,
        ModelCommand::Random(args) => random(args)?,
    };
    let _ = out.write_all(text.as_bytes());
    Ok(Code::Ok)
}

fn random(args: &RandomArgs) -> Result<String, Failure> {
    let config = config_text(&args.config, "--config")?;
    must_be_free(&args.out)?;
    let shape = Architecture::from_config_json(&config, &args.config)?;
    let elements: usize = shape.parameters().iter().map(Parameter::elements).sum();
    let width = if args.dtype == DtypeArg::Float32 { 4 } else { 2 };
    must_have_room(&args.out, elements as u64 * width)?;
    let task = Task::new(&texts(), NameSource::Shipped)?;
    let model = RandomModel {
        config: &config,
        name: &args.config,
        seed: args.seed,
        dtype: args.dtype.into(),
        task: (!args.no_tokenizer).then_some(&task),
    };
    write_random(&model, &args.out).map_err(|error| placed(error.into(), &args.out))?;
    Ok(format!("{}: {elements} random parameters, seed {}\n", args.out.display(), args.seed))
}

/// The task whose texts the tokenizer learns from: sorting as it is by default.
fn texts() -> TaskSpec {
    TaskSpec::AlphabetSort(AlphabetSortSpec {
        min_turns: 1,
        max_turns: 3,
        min_names_per_turn: 1,
        max_names_per_turn: 5,
        sort_by: SortBy::Either,
        similarity_power: 4,
        power_per_turn: true,
        names: NamesSpec::Shipped,
        row_names: RowNames::First,
        episodes: Episodes::Counter,
        prompts: default_prompts(),
    })
}

fn show(args: &ShowArgs) -> Result<String, Failure> {
    let dir = ModelDir::open(&args.dir)?;
    crate::data::places(&dir)?;
    let (mut types, mut bytes) = (BTreeMap::<String, usize>::new(), 0);
    let mut digests = TensorDigests::default();
    each_tensor(&dir, |entry, data| {
        *types.entry(entry.dtype.clone()).or_default() += 1;
        bytes += data.len() as u64;
        digests.add_entry(entry, &data);
        Ok::<_, Failure>(())
    })?;
    let digest = digests.finish();
    let shape = &dir.architecture;
    let parameters = shape.parameters();
    let elements: usize = parameters.iter().map(Parameter::elements).sum();
    let chat = dir.chat();
    let tokens = chat.as_ref().ok().map(|chat| chat.tokenizer.vocab_size());
    let files: Vec<Value> = dir.weights.iter().map(|path| json!(name(path))).collect();
    if args.json {
        let value = json!({
            "family": shape.family.model_type(), "layers": shape.layers, "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size, "heads": shape.heads, "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim, "vocab_size": shape.vocab_size, "tied": shape.tied,
            "max_positions": shape.max_positions, "tensors": parameters.len(), "parameters": elements,
            "bytes": bytes, "types": types, "files": files, "digest": digest, "tokens": tokens,
            "end_tokens": chat.as_ref().ok().map(|chat| chat.end_tokens.clone()),
        });
        return Ok(format!("{value:#}\n"));
    }
    let kinds: Vec<String> = types.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let head = if shape.tied { "tied" } else { "of its own" };
    let mut lines = vec![
        format!("family      {} ({})", shape.family.model_type(), shape.family.class()),
        format!(
            "shape       {} layers, width {}, MLP {}, {} heads and {} key-value heads of {}",
            shape.layers,
            shape.hidden_size,
            shape.intermediate_size,
            shape.heads,
            shape.kv_heads,
            shape.head_dim
        ),
        format!("vocabulary  {} rows, head {head}", shape.vocab_size),
        format!("positions   {}", shape.max_positions),
        format!(
            "parameters  {elements} in {} tensors: {}, {}",
            parameters.len(),
            kinds.join(", "),
            human_bytes(bytes)
        ),
        format!("files       {}", dir.weights.iter().map(|path| name(path)).collect::<Vec<_>>().join(", ")),
        format!("digest      {digest}"),
    ];
    lines.push(match &chat {
        Ok(chat) => format!(
            "tokenizer   {} tokens, answers end with {:?}",
            chat.tokenizer.vocab_size(),
            chat.end_tokens
        ),
        Err(error) => format!("tokenizer   none that serves: {error}"),
    });
    Ok(format!("{}\n", lines.join("\n")))
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
