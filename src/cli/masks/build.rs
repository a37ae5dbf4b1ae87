//! `tickets masks build`: a mask of a model, by chance, by score or by shape, as a new file.
//!
//! The rules are those of a manifest's `[mask]`, and so are the bits. Masks of chance and of shape need the model's shape
//! alone; scores are read in pieces, so memory is that of the mask and of one tensor's draw.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::inputs::Input;
use super::outputs::OutArgs;
use crate::cli::shape::architecture;
use crate::data::{ModelDir, TensorFile, tensors_digest};
use crate::exit::{Code, Failure};
use crate::manifest::applies_to_mask;
use crate::masks::{self, Form, Numbers, Streamed};
use crate::sparsity::{
    Choice, Control, Criterion, FisherEstimator, FisherSpec, Keep, MaskRng, MaskSource, Modules, Rounding,
    Scope, Score, Side, Sparse, TensorSize, Unit,
};

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// The model: a directory with config.json, or a shape that is known by name, such as qwen2.5-0.5b. magnitude, snip and
    /// moved need its weights too
    #[arg(long, value_name = "DIR|SHAPE")]
    pub model: String,
    /// What decides which entries are trained
    #[arg(long = "type", value_name = "TYPE", value_parser = ["random", "fisher", "gradient", "snip", "magnitude", "moved", "layers", "modules", "file"])]
    pub kind: String,
    /// Share of entries that stay untouched, between 0 and 1
    #[arg(long, value_name = "SHARE")]
    pub sparsity: Option<f64>,
    /// Seed of a random mask (0 if not given)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Generator of a random mask: chacha (if not given), or numpy for the study's own masks
    #[arg(long, value_parser = ["chacha", "numpy"])]
    pub rng: Option<String>,
    /// Pools that each keep their share: per_tensor for random masks and global for scores if not given
    #[arg(long, value_parser = ["global", "per_tensor", "per_layer", "per_group"])]
    pub scope: Option<String>,
    /// Consecutive entries of a row that are a pool of --scope per_group (4 if not given): N:M sparsity
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub group: Option<u32>,
    /// What is chosen as one: entry if not given
    #[arg(long, value_parser = ["entry", "row", "column"])]
    pub unit: Option<String>,
    /// End of the ranking that is trained: high if not given
    #[arg(long, value_parser = ["high", "low"])]
    pub keep: Option<String>,
    /// Rounding of the kept count: floor if not given
    #[arg(long, value_parser = ["floor", "ceil"])]
    pub rounding: Option<String>,
    /// Module kinds that may be trained: attention, mlp, norms, biases, embeddings, such as attention+mlp, or =-embeddings
    /// for all others
    #[arg(long, value_name = "KINDS", allow_hyphen_values = true)]
    pub modules: Option<String>,
    /// Which decoder layers, whole
    #[arg(long, value_parser = ["first", "last"])]
    pub layers: Option<String>,
    /// How many decoder layers (1 if not given)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Scores of fisher, gradient or snip: scores.safetensors of a results folder, or any file with a float per entry
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// The model directory after a full run, whose difference to --model is the score of moved
    #[arg(long, value_name = "DIR")]
    pub moved: Option<PathBuf>,
    /// The mask of file, to put a control to it
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The type that a run computes in: bfloat16 rounds the weights that magnitude, snip and moved rank by
    #[arg(long, value_parser = ["float32", "bfloat16"])]
    pub dtype: Option<String>,
    /// What is made of the chosen entries
    #[arg(long, value_parser = ["none", "complement", "permuted"])]
    pub control: Option<String>,
    /// Seed of the places of --control permuted (0 if not given)
    #[arg(long, value_name = "N")]
    pub control_seed: Option<u64>,
    /// The new mask
    #[command(flatten)]
    pub out: OutArgs,
}

/// The command.
pub fn build(args: &BuildArgs) -> Result<String, Failure> {
    args.refuse_idle()?;
    args.out.free()?;
    let shape = architecture(&args.model)?;
    let sizes = shape.sizes();
    let spec = args.spec(&sizes)?;
    let (scores, origin) = args.scores(&spec, &sizes)?;
    let made = masks::make(&sizes, &spec, &scores, origin)?;
    args.out.write(&made.mask, Form::Indices, made.recipe, &[], "")
}

impl BuildArgs {
    /// The flags that were given, by their keys in a manifest.
    fn given(&self) -> [(&'static str, bool); 13] {
        [
            ("mask.sparsity", self.sparsity.is_some()),
            ("mask.seed", self.seed.is_some()),
            ("mask.rng", self.rng.is_some()),
            ("mask.scope", self.scope.is_some()),
            ("mask.unit", self.unit.is_some()),
            ("mask.keep", self.keep.is_some()),
            ("mask.rounding", self.rounding.is_some()),
            ("mask.modules", self.modules.is_some()),
            ("mask.layers", self.layers.is_some()),
            ("mask.count", self.count.is_some()),
            ("mask.file", self.file.is_some()),
            ("fisher.seed", self.scores.is_some()),
            ("mask.run", self.moved.is_some()),
        ]
    }

    /// A flag that the type has no use for would be left out of the mask without a word.
    fn refuse_idle(&self) -> Result<(), Failure> {
        let idle = self.given().into_iter().find(|(key, given)| *given && !applies_to_mask(key, &self.kind));
        let flag = match idle {
            Some(("fisher.seed", _)) => "scores",
            Some(("mask.run", _)) => "moved",
            Some((key, _)) => key.trim_start_matches("mask."),
            None if self.dtype.is_some() && !["magnitude", "snip", "moved"].contains(&self.kind.as_str()) => {
                return Err(usage(&format!("--dtype has no use for --type {}", self.kind)));
            }
            None if self.group.is_some() && self.scope.as_deref() != Some("per_group") => {
                return Err(usage("--group has no use without --scope per_group"));
            }
            None if self.control_seed.is_some() && self.control.as_deref() != Some("permuted") => {
                return Err(usage("--control-seed has no use without --control permuted"));
            }
            None => return Ok(()),
        };
        Err(usage(&format!("--{flag} has no use for --type {}", self.kind)))
    }

    fn spec(&self, sizes: &[TensorSize]) -> Result<Sparse, Failure> {
        let scored = |by, args: &Self| -> Result<Criterion, Failure> {
            let keep = if args.keep.as_deref() == Some("low") { Keep::Low } else { Keep::High };
            Ok(Criterion::Scored { by, keep, choice: args.choice(Scope::Global)? })
        };
        // How they were estimated is in their own file.
        let given = FisherSpec { estimator: FisherEstimator::Batch, episodes: 0, seed: 0 };
        let criterion = match self.kind.as_str() {
            "random" => {
                let rng = if self.rng.as_deref() == Some("numpy") { MaskRng::Numpy } else { MaskRng::Chacha };
                Criterion::Random {
                    seed: self.seed.unwrap_or(0),
                    rng,
                    choice: self.choice(Scope::PerTensor)?,
                }
            }
            "fisher" => scored(Score::Fisher(given), self)?,
            "gradient" => scored(Score::Gradient(given), self)?,
            "snip" => scored(Score::Snip(given), self)?,
            "magnitude" => scored(Score::Magnitude, self)?,
            "moved" => scored(Score::Moved { run: String::new() }, self)?,
            "layers" => Criterion::Layers {
                side: if self.layers.as_deref() == Some("last") { Side::Last } else { Side::First },
                count: self.count.unwrap_or(1),
            },
            "modules" if self.modules.is_none() => return Err(usage("--type modules needs --modules KINDS")),
            "modules" => Criterion::Modules,
            _ => {
                let path = self.file.clone().ok_or_else(|| usage("--type file needs --file FILE"))?;
                let input = Input::read(&path, Some(sizes))?;
                let active = input.file.mask.active() as u64;
                Criterion::File { file: MaskSource { path, digest: input.digest, active }, with: None }
            }
        };
        let modules = match &self.modules {
            None => Modules::ALL,
            Some(text) => Modules::parse(text).map_err(|what| usage(&format!("--modules {text}: {what}")))?,
        };
        let control = match self.control.as_deref() {
            Some("complement") => Control::Complement,
            Some("permuted") => Control::Permuted { seed: self.control_seed.unwrap_or(0) },
            _ => Control::None,
        };
        Ok(Sparse { criterion, modules, control })
    }

    fn choice(&self, scope: Scope) -> Result<Choice, Failure> {
        let sparsity =
            self.sparsity.ok_or_else(|| usage(&format!("--type {} needs --sparsity SHARE", self.kind)))?;
        if !(sparsity > 0.0 && sparsity < 1.0) {
            return Err(usage(&format!("--sparsity {sparsity}: it must lie between 0 and 1")));
        }
        let rounding =
            if self.rounding.as_deref() == Some("ceil") { Rounding::Ceil } else { Rounding::Floor };
        let scope = match self.scope.as_deref() {
            Some("global") => Scope::Global,
            Some("per_tensor") => Scope::PerTensor,
            Some("per_layer") => Scope::PerLayer,
            Some("per_group") => Scope::PerGroup(self.group.unwrap_or(4)),
            _ => scope,
        };
        let unit = match self.unit.as_deref() {
            Some("row") => Unit::Row,
            Some("column") => Unit::Column,
            _ => Unit::Entry,
        };
        Ok(Choice { sparsity, rounding, scope, unit })
    }

    /// What the mask ranks by, and what that is, for its recipe.
    fn scores(&self, spec: &Sparse, sizes: &[TensorSize]) -> Result<(Streamed, Option<Value>), Failure> {
        let Criterion::Scored { by, .. } = &spec.criterion else { return Ok((Streamed::None, None)) };
        let base = || self.weights(Path::new(&self.model), sizes);
        Ok(match by {
            Score::Fisher(_) | Score::Gradient(_) => {
                let (scores, origin) = self.given_scores(sizes)?;
                (Streamed::Given(scores), Some(origin))
            }
            Score::Snip(_) => {
                let ((scores, origin), (weights, model)) = (self.given_scores(sizes)?, base()?);
                (Streamed::Product(weights, scores), Some(json!({ "gradients": origin, "model": model })))
            }
            Score::Magnitude => {
                let (weights, model) = base()?;
                (Streamed::Magnitude(weights), Some(json!({ "model": model })))
            }
            Score::Moved { .. } => {
                let other = self.moved.as_deref().ok_or_else(|| usage("--type moved needs --moved DIR"))?;
                let ((before, base), (after, moved)) = (base()?, self.weights(other, sizes)?);
                (Streamed::Moved(before, after), Some(json!({ "before": base, "after": moved })))
            }
        })
    }

    fn given_scores(&self, sizes: &[TensorSize]) -> Result<(Numbers, Value), Failure> {
        let path = self
            .scores
            .as_deref()
            .ok_or_else(|| usage(&format!("--type {} needs --scores FILE", self.kind)))?;
        let numbers = Numbers::of_scores(path, sizes)?;
        let unreadable = |source| crate::data::DataError::Read { path: path.into(), source };
        let digest = crate::manifest::file_digest(path).map_err(unreadable)?;
        let recipe = TensorFile::open(path)?
            .metadata()
            .get("recipe")
            .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
        // Scores of `tickets` say what they are; |theta| g^2 is not SNIP.
        let needed = if self.kind == "fisher" { "square" } else { "absolute" };
        if let Some(measure) = recipe.as_ref().and_then(|recipe| recipe["measure"].as_str())
            && measure != needed
        {
            let error = format!("read the scores {}: they are of the measure {measure}", path.display());
            let hint = format!("--type {} ranks by gradients of the measure {needed}", self.kind);
            return Err(Failure::new(Code::Environment, error, Some(hint)));
        }
        Ok((numbers, json!({ "file": masks::name(path), "digest": digest, "recipe": recipe })))
    }

    /// The weights of a directory, and the digest of them all.
    fn weights(&self, dir: &Path, sizes: &[TensorSize]) -> Result<(Numbers, Value), Failure> {
        if !dir.is_dir() {
            let error = format!("read the weights of {}: it is no directory", dir.display());
            let hint = format!("--type {} needs a model directory with its weights", self.kind);
            return Err(Failure::new(Code::Environment, error, Some(hint)));
        }
        let dir = ModelDir::open(dir)?;
        if dir.architecture.sizes() != sizes {
            let error = format!("compare {} with {}: their shapes differ", self.model, dir.path.display());
            let hint = "scores of weights need a directory of the model's own shape; moved compares a base with what a full \
                        run made of it, from `tickets export`";
            return Err(Failure::new(Code::Environment, error, Some(hint.into())));
        }
        let rounded = self.dtype.as_deref() == Some("bfloat16");
        Ok((Numbers::of_model(&dir, rounded)?, tensors_digest(&dir)?.into()))
    }
}

fn usage(text: &str) -> Failure {
    Failure::new(Code::Usage, text.to_owned(), Some("see tickets masks build --help".into()))
}
