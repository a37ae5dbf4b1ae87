//! Where each parameter of a model lies: a directory to files, types and byte positions.
//!
//! Only headers are read. Invariant: names, shapes, types and lengths of all tensors are checked before [`places`]
//! returns, so before the first number is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::read;
use super::tensor_file::{TensorEntry, TensorFile};
use super::{DataError, ModelDir, Parameter};
use crate::model_folder::{INDEX, WEIGHTS};

const HEAD: &str = "lm_head.weight";

/// Type of the stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// 32 bits.
    F32,
    /// 16 bits with the exponent of 32.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Stored {
    /// Bytes of a number.
    pub fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// Where the numbers of a tensor are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name and shape.
    pub parameter: Parameter,
    /// The file.
    pub file: PathBuf,
    /// Type of the numbers, little-endian, row-major.
    pub stored: Stored,
    /// First byte, counted from the start of the file.
    pub start: u64,
}

/// The places of a model's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// One per parameter, in study order.
    pub parameters: Vec<Place>,
    /// The head of a model whose head is the embedding, where the file has it nevertheless: it must equal the embedding.
    pub second_head: Option<Place>,
}

/// The weight files of a directory, and which tensor the index puts where.
///
/// # Errors
/// When there are none, only pickled ones, or the index is wrong.
pub(super) fn weight_files(dir: &Path) -> Result<(Vec<PathBuf>, BTreeMap<String, PathBuf>), DataError> {
    let single = dir.join(WEIGHTS);
    if single.is_file() {
        return Ok((vec![single], BTreeMap::new()));
    }
    let index = dir.join(INDEX);
    if !index.is_file() {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth"];
        return Err(match pickled.into_iter().find(|name| dir.join(name).is_file()) {
            Some(file) => DataError::Pickled { dir: dir.into(), file: file.into() },
            None => DataError::Missing { dir: dir.into(), what: format!("{WEIGHTS} or {INDEX}") },
        });
    }
    let bad = |what: String| DataError::WeightIndex { path: index.clone(), what };
    let mut placed = BTreeMap::new();
    for (tensor, name) in weight_map(&read(&index)?).map_err(bad)? {
        let path = dir.join(&name);
        if !path.is_file() {
            return Err(bad(format!("it puts {tensor} into {name}, which is not there")));
        }
        placed.insert(tensor, path);
    }
    let mut files: Vec<PathBuf> = placed.values().cloned().collect();
    files.sort_unstable();
    files.dedup();
    Ok((files, placed))
}

/// Which file the text of an index puts each tensor into: at least one, and all of them beside it.
///
/// # Errors
/// When it is not an index, or names something else: what is wrong.
pub(super) fn weight_map(index: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let value: Value = serde_json::from_slice(index).map_err(|e| format!("it is not JSON: {e}"))?;
    let map = value.get("weight_map").ok_or("key `weight_map` is missing")?;
    let map = map.as_object().filter(|map| !map.is_empty());
    let map = map.ok_or("key `weight_map` is empty, or is not an object")?;
    let named = |(tensor, shard): (&String, &Value)| match shard.as_str() {
        Some(name) if is_shard(name) => Ok((tensor.clone(), name.to_owned())),
        Some(name) => {
            Err(format!("the file of {tensor} is \"{name}\", not a safetensors file of this folder"))
        }
        None => Err(format!("the file of {tensor} is {shard}, not a name")),
    };
    map.iter().map(named).collect()
}

/// Whether a name is that of a safetensors file in the folder itself.
fn is_shard(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', '\0', ':'])
}

/// Finds every parameter of a model in its files.
///
/// # Errors
/// When a file is damaged, or a tensor is missing, unknown, twice there, in another file than the index says, or of the
/// wrong shape or type.
pub fn places(dir: &ModelDir) -> Result<Places, DataError> {
    let mut found: BTreeMap<String, (TensorEntry, &Path)> = BTreeMap::new();
    for file in &dir.weights {
        for entry in TensorFile::open(file)?.entries() {
            if let Some((_, other)) = found.get(&entry.name) {
                let what = format!("it is in {} too", other.display());
                return Err(tensor(
                    file,
                    &entry.name,
                    what,
                    "remove one of the two files, or fetch both again",
                ));
            }
            found.insert(entry.name.clone(), (entry.clone(), file));
        }
    }
    for (name, shard) in &dir.weight_map {
        let what = match found.get(name) {
            Some((_, file)) if *file == shard => continue,
            Some((_, file)) => format!("{INDEX} puts it there, but it is in {}", file.display()),
            None => format!("{INDEX} puts it there, but the file does not have it"),
        };
        return Err(tensor(shard, name, what, "fetch or write the index and all shards again"));
    }
    let parameters = dir.architecture.parameters();
    complete(dir, &parameters, &found)?;
    let place = |parameter: Parameter| match found.get(&parameter.name) {
        Some((entry, file)) => fitting(parameter, entry, file),
        None => Err(tensor(&dir.path, &parameter.name, "it is missing".into(), "")),
    };
    let second_head = dir.architecture.tied && found.contains_key(HEAD);
    let head = Parameter {
        name: HEAD.into(),
        shape: vec![dir.architecture.vocab_size, dir.architecture.hidden_size],
    };
    Ok(Places {
        parameters: parameters.into_iter().map(place).collect::<Result<_, _>>()?,
        second_head: second_head.then(|| place(head)).transpose()?,
    })
}

/// Checks that no parameter is missing and that there is no other tensor.
fn complete(
    dir: &ModelDir,
    parameters: &[Parameter],
    found: &BTreeMap<String, (TensorEntry, &Path)>,
) -> Result<(), DataError> {
    let others = |count: usize, verb: [&str; 2]| match count {
        1 => String::new(),
        2 => format!(", and 1 other {}", verb[0]),
        _ => format!(", and {} others {}", count - 1, verb[1]),
    };
    let missing: Vec<&str> =
        parameters.iter().map(|p| p.name.as_str()).filter(|name| !found.contains_key(*name)).collect();
    if let Some(&name) = missing.first() {
        let file = if let [file] = dir.weights.as_slice() { file } else { &dir.path.join(INDEX) };
        let what = format!("it is missing{}", others(missing.len(), ["is", "are"]));
        let hint = if missing == [HEAD] {
            "config.json says `tie_word_embeddings` = false: if the head is the embedding, it should say true; \
             otherwise the file is not whole"
        } else if missing.iter().all(|name| name.ends_with("_proj.bias")) {
            "the weights have no such biases: config.json should say `attention_bias` = false, or it is of another model"
        } else {
            "the file may be of another model than config.json, or of an adapter: fetch or write both again"
        };
        return Err(tensor(file, name, what, hint));
    }
    let names: BTreeSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let expected = |name: &str| {
        names.contains(name)
            || (dir.architecture.tied && name == HEAD)
            // Frequencies that old versions of transformers stored; they follow from config.json.
            || name.ends_with(".rotary_emb.inv_freq")
    };
    let extra: Vec<(&String, &Path)> =
        found.iter().filter(|(name, _)| !expected(name)).map(|(name, (_, file))| (name, *file)).collect();
    if let Some((name, file)) = extra.first() {
        let what = format!(
            "the architecture of config.json has no such tensor{}",
            others(extra.len(), ["is unknown", "are unknown"])
        );
        let hint = if extra.iter().all(|(name, _)| name.ends_with("_proj.bias")) {
            "the weights have biases: config.json should say `attention_bias` = true, or it is of another model"
        } else {
            "the file may be of another model than config.json: fetch or write both again"
        };
        return Err(tensor(file, name, what, hint));
    }
    Ok(())
}

/// Checks shape and type.
fn fitting(parameter: Parameter, entry: &TensorEntry, file: &Path) -> Result<Place, DataError> {
    if entry.shape != parameter.shape {
        let what = format!("its shape is {:?}, config.json asks for {:?}", entry.shape, parameter.shape);
        let hint = "config.json may be of another model than the weights: fetch or write both again";
        return Err(tensor(file, &parameter.name, what, hint));
    }
    let stored = match entry.dtype.as_str() {
        "F32" => Stored::F32,
        "BF16" => Stored::Bf16,
        "F16" => Stored::F16,
        other => {
            let what = format!("type {other} is not supported, only F32, BF16 and F16");
            let hint = "save the model in bfloat16 or float32, in Python with transformers: \
                        AutoModelForCausalLM.from_pretrained(DIR, dtype=\"bfloat16\").save_pretrained(OUT)";
            return Err(tensor(file, &parameter.name, what, hint));
        }
    };
    Ok(Place { parameter, file: file.into(), stored, start: entry.start })
}

fn tensor(path: &Path, name: &str, what: String, hint: &str) -> DataError {
    DataError::Tensor { path: path.into(), tensor: name.into(), what, hint: hint.into() }
}
