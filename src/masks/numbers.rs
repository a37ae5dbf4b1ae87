//! The numbers of a model's tensors, read from their files a piece at a time.
//!
//! In: where each tensor lies. Out: float32 values by flat index. Memory: one piece, whatever the tensor's size.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use super::MasksError;
use crate::data::{DataError, ModelDir, Stored, TensorFile, places};
use crate::sparsity::TensorSize;

/// Numbers of a piece.
pub(super) const PIECE: usize = 1 << 20;

/// The numbers of tensors in the order of a model.
#[derive(Debug)]
pub struct Numbers {
    tensors: Vec<Lying>,
    /// Whether they are rounded to bfloat16, as a model of that type has them.
    rounded: bool,
    /// Whether none may be negative.
    unsigned: bool,
}

#[derive(Debug)]
struct Lying {
    name: String,
    file: PathBuf,
    stored: Stored,
    start: u64,
    elements: usize,
}

impl Numbers {
    /// The weights of a model, in the type that it computes in.
    ///
    /// # Errors
    /// When a file is damaged, or a tensor is missing, unknown, or of the wrong shape or type.
    pub fn of_model(dir: &ModelDir, bfloat16: bool) -> Result<Self, MasksError> {
        let lying = places(dir)?.parameters.into_iter().map(|place| Lying {
            elements: place.parameter.elements(),
            name: place.parameter.name,
            file: place.file,
            stored: place.stored,
            start: place.start,
        });
        Ok(Self { tensors: lying.collect(), rounded: bfloat16, unsigned: false })
    }

    /// The tensors of a file that are called as those of a model with `prefix` before.
    ///
    /// # Errors
    /// When the file is damaged, has another tensor or lacks one, or one has another number of entries or type.
    pub fn of_file(path: &Path, prefix: &str, sizes: &[TensorSize]) -> Result<Self, MasksError> {
        let file = TensorFile::open(path)?;
        let known: std::collections::BTreeMap<&str, _> =
            file.entries().iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let wrong = |size: &TensorSize, what: String| MasksError::Scores {
            path: path.into(),
            tensor: size.name.clone(),
            what,
        };
        let lying = sizes.iter().map(|size| {
            let name = format!("{prefix}{}", size.name);
            let entry = known.get(name.as_str()).ok_or_else(|| wrong(size, "it is not there".into()))?;
            let stored = match entry.dtype.as_str() {
                "F32" => Stored::F32,
                "BF16" => Stored::Bf16,
                "F16" => Stored::F16,
                other => return Err(wrong(size, format!("it has the type {other}, and scores are floats"))),
            };
            let (found, elements) = (entry.elements(), size.elements());
            if found != elements {
                return Err(wrong(size, format!("it has {found} numbers, and the parameter has {elements}")));
            }
            Ok(Lying { name: size.name.clone(), file: path.into(), stored, start: entry.start, elements })
        });
        let tensors = lying.collect::<Result<Vec<_>, _>>()?;
        let other = known.keys().find(|name| {
            name.starts_with(prefix) && !sizes.iter().any(|size| name[prefix.len()..] == size.name)
        });
        match other {
            Some(name) => Err(MasksError::Scores {
                path: path.into(),
                tensor: (*name).to_owned(),
                what: "the model has no such tensor".into(),
            }),
            None => Ok(Self { tensors, rounded: false, unsigned: false }),
        }
    }

    /// A file of squared or absolute gradients, which are not negative.
    ///
    /// # Errors
    /// As [`Numbers::of_file`].
    pub fn of_scores(path: &Path, sizes: &[TensorSize]) -> Result<Self, MasksError> {
        Ok(Self { unsigned: true, ..Self::of_file(path, "", sizes)? })
    }

    /// Opens a tensor.
    pub(super) fn tensor(&self, index: usize) -> Result<Reader, MasksError> {
        let Lying { name, file, stored, start, elements } = &self.tensors[index];
        let source = File::open(file).map_err(|source| DataError::Read { path: file.clone(), source })?;
        Ok(Reader {
            path: file.clone(),
            name: name.clone(),
            source,
            stored: *stored,
            next: *start,
            read: 0,
            elements: *elements,
            rounded: self.rounded,
            unsigned: self.unsigned,
            bytes: Vec::new(),
            values: Vec::new(),
        })
    }
}

/// A tensor that is read from its first number to its last.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    name: String,
    source: File,
    stored: Stored,
    next: u64,
    read: usize,
    elements: usize,
    rounded: bool,
    unsigned: bool,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Reader {
    /// The next piece; `None` at the end. All tensors of a length have the same pieces. Every number is finite, and none is
    /// negative where none may be.
    pub fn next(&mut self) -> Result<Option<&mut [f32]>, MasksError> {
        let count = (self.elements - self.read).min(PIECE);
        if count == 0 {
            return Ok(None);
        }
        self.bytes.resize(count * self.stored.width(), 0);
        self.source
            .read_exact_at(&mut self.bytes, self.next)
            .map_err(|source| DataError::Read { path: self.path.clone(), source })?;
        self.next += self.bytes.len() as u64;
        self.values.clear();
        match self.stored {
            Stored::F32 => {
                let words = self.bytes.as_chunks::<4>().0;
                self.values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            }
            Stored::Bf16 => {
                let words = self.bytes.as_chunks::<2>().0;
                self.values.extend(words.iter().map(|word| bf16::from_le_bytes(*word).to_f32()));
            }
            Stored::F16 => {
                let words = self.bytes.as_chunks::<2>().0;
                self.values.extend(words.iter().map(|word| f16::from_le_bytes(*word).to_f32()));
            }
        }
        if self.rounded && self.stored != Stored::Bf16 {
            for value in &mut self.values {
                *value = bf16::from_f32(*value).to_f32();
            }
        }
        let lowest = if self.unsigned { 0.0 } else { f32::MIN };
        let bad = |value: &f32| !(*value >= lowest && *value <= f32::MAX);
        // Looked through without an early end, which is several times as fast; mostly there is nothing to find.
        if self.values.iter().fold(false, |found, value| found | bad(value))
            && let Some(at) = self.values.iter().position(bad)
        {
            let (index, value) = (self.read + at, self.values[at]);
            let what = if value < 0.0 && value.is_finite() {
                format!(
                    "entry {index} is negative ({value}): scores are squares or absolute values of gradients"
                )
            } else {
                format!("entry {index} is not a finite number ({value})")
            };
            return Err(MasksError::Scores { path: self.path.clone(), tensor: self.name.clone(), what });
        }
        self.read += count;
        Ok(Some(&mut self.values))
    }
}
