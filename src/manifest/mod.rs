//! Manifests: TOML text and layers in, valid run configurations out.
//!
//! [`load`] reads every file once, checks each key where it is written, and keeps the layers apart;
//! [`Resolver`] merges them for a grid point. Invariant: a [`RunConfig`] that exists is complete and valid.

mod aliases;
mod block;
mod choice;
mod claim;
mod document;
mod draw;
mod error;
mod fields;
mod figure;
mod files;
mod further;
pub mod grid;
mod keys;
mod layers;
mod named;
mod origin;
mod overriding;
mod range;
mod raw;
mod resolve;
mod schema;
mod schema_blocks;
mod schema_value;
mod selector;
mod source;
mod spec;
mod valid;
mod valid_mask;
mod valid_task;
mod value;
mod variant;

use std::path::PathBuf;

pub use block::{Block, Entry, Zip};
pub use claim::{Claim, ClaimTest};
pub use document::{Document, MOST_ISSUES, Setting};
pub use draw::render;
pub use error::ManifestError;
pub(crate) use error::{advice, list};
pub use figure::{EVALUATION, Figure, FigureKind, Measure, TRAINING};
pub use files::{MANIFESTS, file_digest, model_digest};
pub use keys::{KEYS, Key, Kind, Preset, Range, find as find_key};
pub use layers::{PREFIX, RESERVED};
pub use origin::Origin;
pub use resolve::{BlockResolver, Resolver};
pub use schema::schema_text;
pub use selector::Selector;
pub use source::{Issue, Source, Span, counted, grouped, nearest};
pub use spec::{
    DeviceChoice, Dtype, EvalSpec, ExecSpec, ModelSource, ModelSpec, NamedEval, PretrainSpec, Retries,
    RunConfig,
};
pub use value::{Value, short_number};
pub use variant::{Selection, applies_to_mask};

/// A manifest: checked, its layers not yet merged.
#[derive(Debug)]
pub struct Manifest {
    /// The canonical path of the file.
    pub path: PathBuf,
    /// The path below `manifests/` without `.toml`, with `/` between its parts; else the file stem.
    pub name: String,
    /// `title`, or the name.
    pub title: String,
    /// `question`, or nothing.
    pub question: String,
    /// The `[[grid]]` blocks of the last file that has any.
    pub blocks: Vec<Block>,
    /// The `[[figure]]` blocks of the last file that has any.
    pub figures: Vec<Figure>,
    /// The `[[claim]]` blocks of the last file that has any.
    pub claims: Vec<Claim>,
    /// The files, the most remote parent first, the manifest last.
    pub files: Vec<Document>,
    /// The overrides, the strongest last.
    pub overrides: Vec<Document>,
    /// The folder that paths in `blocks` start from.
    block_folder: PathBuf,
}

/// What is laid over a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Arguments of `--set`, such as `optimizer.lr=1e-4`.
    pub set: Vec<String>,
    /// Whether the environment counts.
    pub env: bool,
}

/// An override, as `plan` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The dotted key.
    pub key: &'static str,
    /// The value, in TOML.
    pub value: String,
    /// `--set`, or the environment variable.
    pub origin: String,
}

/// Loads a manifest by path, or by its name under `manifests/`.
pub fn load(argument: &str, overrides: &Overrides) -> Result<Manifest, ManifestError> {
    let env = if overrides.env { layers::environment()? } else { Vec::new() };
    load_with(argument, &overrides.set, &env)
}

/// [`load`] with the environment given as names and values.
pub fn load_with(
    argument: &str,
    set: &[String],
    env: &[(String, String)],
) -> Result<Manifest, ManifestError> {
    let found = files::locate(argument)?;
    let mut manifest = Manifest {
        path: files::canonical(&found)?,
        name: String::new(),
        title: String::new(),
        question: String::new(),
        blocks: Vec::new(),
        figures: Vec::new(),
        claims: Vec::new(),
        files: Vec::new(),
        overrides: Vec::new(),
        block_folder: PathBuf::new(),
    };
    manifest.name = files::name(&manifest.path);
    manifest.title.clone_from(&manifest.name);
    let (files, mut issues) = layers::read_chain(&found)?;
    for file in files {
        if let Some(title) = file.title {
            manifest.title = title;
        }
        if let Some(question) = file.question {
            manifest.question = question;
        }
        if let Some(blocks) = file.blocks {
            manifest.blocks = blocks;
            manifest.block_folder.clone_from(&file.settings.folder);
        }
        if let Some(figures) = file.figures {
            manifest.figures = figures;
        }
        if let Some(claims) = file.claims {
            manifest.claims = claims;
        }
        manifest.files.push(file.settings);
    }
    let (overrides, found) = layers::read_overrides(set, env)?;
    manifest.overrides = overrides;
    issues.extend(found);
    if let Some(issue) = resolve::too_many_evaluations(&manifest) {
        issues.push(issue);
        return Err(ManifestError::Invalid(manifest.in_order(issues)));
    }
    if issues.is_empty() {
        return Ok(manifest);
    }
    // What could be read is looked at too, so that everything is said at once.
    let further = further::further_issues(&manifest, &issues)?;
    issues.extend(further);
    Err(ManifestError::Invalid(manifest.in_order(issues)))
}

impl Manifest {
    /// The settings of the manifest itself.
    pub fn main(&self) -> &Document {
        self.files.last().expect("a manifest has at least its own file")
    }

    /// The most runs that the grid may have: `exec.max_runs`.
    pub fn max_runs(&self) -> u32 {
        let written = choice::Layers { manifest: self, block: None }.written("exec.max_runs");
        let preset = || keys::find("exec.max_runs").and_then(Key::preset);
        match written.map(|(value, _, _)| value).or_else(preset) {
            Some(Value::Integer(most)) => u32::try_from(most).unwrap_or(u32::MAX),
            _ => u32::MAX,
        }
    }

    /// Issues in the order in which a reader meets them, each once: the manifest, its parents, the overrides.
    pub fn in_order(&self, mut issues: Vec<Issue>) -> Vec<Issue> {
        let files = self.files.iter().rev();
        let sources = files.chain(&self.overrides).map(|layer| &layer.source).collect::<Vec<_>>();
        let place = |issue: &Issue| sources.iter().position(|source| **source == issue.source);
        issues
            .sort_by_cached_key(|issue| (place(issue), issue.span.start, issue.span.end, issue.text.clone()));
        issues.dedup();
        if issues.len() >= MOST_ISSUES {
            issues.truncate(MOST_ISSUES);
            if let Some(last) = issues.last_mut() {
                let note = format!("these are the first {MOST_ISSUES} issues; there may be more");
                last.help = Some(last.help.take().map_or(note.clone(), |help| format!("{help}\n{note}")));
            }
        }
        issues
    }

    /// Every override with its layer.
    fn override_settings(&self) -> impl Iterator<Item = (&Document, &Setting)> {
        self.overrides.iter().flat_map(|layer| layer.settings.iter().map(move |setting| (layer, setting)))
    }

    /// The overrides in force, the strongest last.
    pub fn overridden(&self) -> Vec<Override> {
        let view = |(layer, setting): (&Document, &Setting)| Override {
            key: setting.key.path,
            value: setting.value.to_string(),
            origin: layer.source.name.clone(),
        };
        self.override_settings().map(view).collect()
    }
}
