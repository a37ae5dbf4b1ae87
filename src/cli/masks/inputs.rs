//! The masks and the model that a command is given.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::shape::architecture;
use crate::data::DataError;
use crate::exit::{Code, Failure};
use crate::masks::{self, MaskFile};
use crate::sparsity::{SparsityError, TensorSize};

/// Which model masks are of.
#[derive(Args, Clone, Debug)]
pub struct ModelArg {
    /// The model: a directory with config.json (no weights are needed), or a shape that is known by name, such as
    /// qwen2.5-0.5b. Files that list their shapes need none, and are compared with it
    #[arg(long, value_name = "DIR|SHAPE")]
    pub model: Option<String>,
}

impl ModelArg {
    /// Its tensors in study order.
    pub fn sizes(&self) -> Result<Option<Vec<TensorSize>>, Failure> {
        Ok(self.model.as_deref().map(architecture).transpose()?.map(|shape| shape.sizes()))
    }
}

/// A mask that was read.
#[derive(Debug)]
pub struct Input {
    /// Where it lies.
    pub path: PathBuf,
    /// blake3 of the file, in hex.
    pub digest: String,
    /// What it holds.
    pub file: MaskFile,
}

impl Input {
    /// Reads a mask.
    pub fn read(path: &Path, model: Option<&[TensorSize]>) -> Result<Self, Failure> {
        let unreadable = |source| DataError::Read { path: path.into(), source };
        let file = masks::read(path, model)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).map_err(unreadable)?).map_err(unreadable)?;
        Ok(Self { path: path.into(), digest: hasher.finalize().to_hex().to_string(), file })
    }

    /// What a recipe says of it: its name without the folder, so that a mask does not depend on where things lie.
    pub fn cited(&self) -> Value {
        let name = masks::name(&self.path);
        json!({ "file": name, "digest": self.digest, "recipe": self.file.recipe })
    }

    /// What is to be known about how it was taken, with its name before it.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.file.notes.iter().map(|note| format!("{}: {note}", self.path.display()))
    }
}

/// That two files do not fit each other, with their names; `what` was to be done with them.
pub fn unlike(what: &str, first: &Path, second: &Path, error: &SparsityError) -> Failure {
    let text = format!("{what} {} (first) and {} (second): {error}", first.display(), second.display());
    let hint =
        "only masks of one model have entries in common; `tickets masks describe` shows what each is of";
    Failure::new(Code::Environment, text, Some(hint.into()))
}
