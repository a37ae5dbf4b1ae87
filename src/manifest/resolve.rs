//! From layers and a grid point to a [`RunConfig`].
//!
//! figment merges the layers once per block; the points of a block only replace the values of its axes. That keeps
//! the order of the layers, because overriding a swept key is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use figment::value::Dict;
use figment::{Figment, Profile};

use super::Manifest;
use super::block::Block;
use super::document::{Document, Setting};
use super::error::ManifestError;
use super::keys::{Key, Kind};
use super::layers::{self, Defaults};
use super::raw::Raw;
use super::source::{Issue, Source, Span};
use super::spec::RunConfig;
use super::valid::{self, Digests, Problem};
use super::value::Value;
use super::variant::{self, Selection};

/// Resolves the points of a manifest's blocks.
#[derive(Debug)]
pub struct Resolver<'m> {
    manifest: &'m Manifest,
    base: Figment,
    digests: Digests,
    /// Conditional keys that some run had a use for.
    used: BTreeSet<&'static str>,
    /// Settings of files that the runs so far had no use for.
    idle: BTreeMap<(usize, usize), Issue>,
}

/// Resolves the points of one block, or the single run of a manifest without a grid.
#[derive(Debug)]
pub struct BlockResolver<'r, 'm> {
    resolver: &'r mut Resolver<'m>,
    block: Option<&'m Block>,
    merged: figment::value::Value,
    checked: BTreeSet<&'static str>,
}

impl<'m> Resolver<'m> {
    /// Merges what all blocks share, and checks every file against itself.
    pub fn new(manifest: &'m Manifest) -> Result<Self, ManifestError> {
        let mut issues = Vec::new();
        for file in &manifest.files {
            contradictions(file, &mut issues);
        }
        if !issues.is_empty() {
            return Err(ManifestError::Invalid(issues));
        }
        let base = manifest.files.iter().fold(Figment::from(Defaults), Figment::merge);
        Ok(Self { manifest, base, digests: Digests::default(), used: BTreeSet::new(), idle: BTreeMap::new() })
    }

    /// Merges the layers of a block.
    pub fn block<'r>(&'r mut self, block: Option<&'m Block>) -> Result<BlockResolver<'r, 'm>, ManifestError> {
        self.refuse_overridden_axes(block)?;
        let mut figment = self.base.clone();
        let fixed = block.map(|block| self.fixed(block));
        if let Some(fixed) = &fixed {
            figment = figment.merge(fixed);
        }
        figment = self.manifest.overrides.iter().fold(figment, Figment::merge);
        let mut data = figment::Provider::data(&figment).map_err(|source| self.extract_error(source))?;
        let mut dict = data.remove(&Profile::Default).unwrap_or_default();
        if self.model_source(block)? == Model::Pretrain {
            layers::remove(&mut dict, "model.path");
        }
        let merged = figment::value::Value::from(dict);
        Ok(BlockResolver { resolver: self, block, merged, checked: BTreeSet::new() })
    }

    /// Checks, after the last block, that every override and every conditional setting had a use.
    pub fn finish(self) -> Result<(), ManifestError> {
        let mut issues = Vec::new();
        for layer in &self.manifest.overrides {
            for setting in &layer.settings {
                let path = setting.key.path;
                if variant::condition(path).is_some() && !self.used.contains(path) {
                    let text = format!("no run of the grid has a use for `{path}`");
                    issues.push(Issue::new(&layer.source, &setting.span, text).help("remove the override"));
                }
            }
        }
        for ((layer, index), issue) in self.idle {
            if !self.used.contains(self.manifest.files[layer].settings[index].key.path) {
                issues.push(issue);
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(ManifestError::Invalid(issues)) }
    }

    /// A block's fixed values as a layer. Paths are relative to the manifest.
    fn fixed(&self, block: &Block) -> Document {
        let entries = block.entries.iter().filter(|entry| !entry.swept);
        let settings = entries.filter_map(|entry| {
            let (value, span) = entry.values.first()?.clone();
            Some(Setting { key: entry.key, value, span })
        });
        Document {
            source: Arc::clone(&block.source),
            folder: self.manifest.block_folder.clone(),
            settings: settings.collect(),
            pretrain: block.pretrain.clone(),
        }
    }

    fn refuse_overridden_axes(&self, block: Option<&Block>) -> Result<(), ManifestError> {
        let mut issues = Vec::new();
        for (layer, setting) in self.manifest.override_settings() {
            let Some(block) = block else { break };
            let path = setting.key.path;
            if block.entry(path).is_some_and(|entry| entry.swept) {
                let text = format!("`{path}` is swept by {}, so it cannot be overridden", block.title());
                let help = "edit the block, or drop the override";
                issues.push(Issue::new(&layer.source, &setting.span, text).help(help));
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(ManifestError::Invalid(issues)) }
    }

    /// Where the base model comes from: the highest layer that says so wins.
    fn model_source(&self, block: Option<&Block>) -> Result<Model, ManifestError> {
        for layer in self.manifest.overrides.iter().rev() {
            match (layer.get("model.path"), &layer.pretrain) {
                (Some(_), _) => return Ok(Model::Path),
                (None, Some(_)) => return Ok(Model::Pretrain),
                _ => (),
            }
        }
        if let Some(block) = block {
            match (block.entry("model.path"), &block.pretrain) {
                (Some(entry), Some(_)) => return Err(both_models(&block.source, &entry.span).into()),
                (Some(_), None) => return Ok(Model::Path),
                (None, Some(_)) => return Ok(Model::Pretrain),
                _ => (),
            }
        }
        for file in self.manifest.files.iter().rev() {
            match (file.get("model.path"), &file.pretrain) {
                (Some(_), _) => return Ok(Model::Path),
                (None, Some(_)) => return Ok(Model::Pretrain),
                _ => (),
            }
        }
        let file = self.manifest.main();
        let help =
            "write [model.pretrain] for the built-in base, or [model] with the path of a Hugging Face folder";
        Err(Issue::new(&file.source, &(0..0), "there is no base model").help(help).into())
    }

    fn extract_error(&self, source: impl Into<Box<figment::Error>>) -> ManifestError {
        ManifestError::Extract { path: self.manifest.path.clone(), source: source.into() }
    }
}

/// The two sources of a base model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    Path,
    Pretrain,
}

fn both_models(source: &Arc<Source>, span: &Span) -> Issue {
    let text = "`model.path` does not apply beside [model.pretrain]";
    Issue::new(source, span, text).help(variant::advice("model.path"))
}

/// Settings of one table that exclude each other.
fn contradictions(file: &Document, issues: &mut Vec<Issue>) {
    if let (Some(setting), Some(_)) = (file.get("model.path"), &file.pretrain) {
        issues.push(both_models(&file.source, &setting.span));
    }
    for setting in &file.settings {
        let path = setting.key.path;
        let Some(need) = variant::condition(path).filter(|need| same_table(path, need.chooser)) else {
            continue;
        };
        if let Some(Setting { value: Value::Text(chosen), .. }) = file.get(need.chooser)
            && !need.choices.contains(&chosen.as_str())
        {
            let text = variant::mismatch(path, need.chooser, chosen);
            issues.push(Issue::new(&file.source, &setting.span, text).help(variant::advice(path)));
        }
    }
}

fn same_table(path: &str, chooser: &str) -> bool {
    path.split('.').next() == chooser.split('.').next() && chooser != "model"
}

impl BlockResolver<'_, '_> {
    /// The run at a point: a value for every axis of the block.
    pub fn run(&mut self, point: &[(&'static Key, &Value)]) -> Result<RunConfig, ManifestError> {
        for (key, value) in point {
            let value = match (value, key.kind) {
                (Value::Text(text), Kind::Path) => {
                    layers::resolve(&self.resolver.manifest.block_folder, text)
                        .map_err(|source| self.resolver.extract_error(source))?
                        .into()
                }
                (value, _) => value.figment(),
            };
            layers::insert(self.dict(), key.path, value);
        }
        let raw = self.merged.deserialize::<Raw>().map_err(|source| self.resolver.extract_error(source))?;
        let selection = Selection::of_raw(&raw);
        let mut issues = Vec::new();
        self.check_conditions(selection, &mut issues);
        match valid::run_config(raw, &mut self.resolver.digests) {
            Ok(config) if issues.is_empty() => return Ok(config),
            Ok(_) => (),
            Err(problems) => issues.extend(problems.into_iter().map(|problem| self.placed(point, problem))),
        }
        issues.sort_by_key(|issue| issue.span.start);
        Err(ManifestError::Invalid(issues))
    }

    /// The value of a key that the block does not sweep, as it was written; `None` when it has none.
    pub fn settled(&self, key: &Key) -> Option<Value> {
        self.written(key.path).map(|(value, _, _)| value).or_else(|| key.preset())
    }

    fn dict(&mut self) -> &mut Dict {
        match &mut self.merged {
            figment::value::Value::Dict(_, dict) => dict,
            _ => unreachable!("the merged layers were put into a dictionary"),
        }
    }

    /// The highest layer that sets a key.
    fn written(&self, path: &str) -> Option<(Value, Arc<Source>, Span)> {
        let manifest = self.resolver.manifest;
        let of = |layer: &Document| {
            let setting = layer.get(path)?;
            Some((setting.value.clone(), Arc::clone(&layer.source), setting.span.clone()))
        };
        let in_block = || {
            let block = self.block?;
            let entry = block.entry(path)?;
            Some((entry.values.first()?.0.clone(), Arc::clone(&block.source), entry.span.clone()))
        };
        let overridden = manifest.overrides.iter().rev().find_map(of);
        overridden.or_else(in_block).or_else(|| manifest.files.iter().rev().find_map(of))
    }

    /// Notes which conditional keys this variant uses, and refuses those of the block that it does not.
    fn check_conditions(&mut self, selection: Selection, issues: &mut Vec<Issue>) {
        // Every condition depends on one choice, so a point whose choices were all seen brings nothing new.
        let choices = [selection.mask, selection.ratio, selection.model];
        if choices.into_iter().filter(|choice| self.checked.insert(choice)).count() == 0 {
            return;
        }
        for key in super::keys::KEYS {
            if variant::condition(key.path).is_some() && selection.applies(key.path) {
                self.resolver.used.insert(key.path);
            }
        }
        let refuse = |path: &str, source: &Arc<Source>, span: &Span| {
            let need = variant::condition(path)?;
            let text = variant::mismatch(path, need.chooser, selection.chosen(need.chooser));
            let unmet = !selection.applies(path);
            unmet.then(|| Issue::new(source, span, text).help(variant::advice(path)))
        };
        if let Some(block) = self.block {
            let entries = block.entries.iter();
            issues.extend(entries.filter_map(|entry| refuse(entry.key.path, &block.source, &entry.span)));
        }
        // Beside a type that a file chose (or the default), a setting of the same file or a later one is idle.
        let files = &self.resolver.manifest.files;
        for chooser in ["mask.type", "grpo.ratio"] {
            let overridden =
                self.resolver.manifest.overrides.iter().any(|layer| layer.get(chooser).is_some());
            if overridden || self.block.is_some_and(|block| block.entry(chooser).is_some()) {
                continue;
            }
            let from = files.iter().rposition(|file| file.get(chooser).is_some()).unwrap_or(0);
            for (layer, file) in files.iter().enumerate().skip(from) {
                for (index, setting) in file.settings.iter().enumerate() {
                    let path = setting.key.path;
                    let bound = variant::condition(path).is_some_and(|need| need.chooser == chooser);
                    if bound
                        && same_table(path, chooser)
                        && let Some(issue) = refuse(path, &file.source, &setting.span)
                    {
                        self.resolver.idle.insert((layer, index), issue);
                    }
                }
            }
        }
    }

    /// A broken rule at the place of the first of its keys that somebody wrote; axes show the value of the point.
    fn placed(&self, point: &[(&'static Key, &Value)], problem: Problem) -> Issue {
        let place = problem.keys.iter().find_map(|path| {
            let (_, source, mut span) = self.written(path)?;
            let swept = point.iter().find(|(key, _)| key.path == *path);
            let entry = self.block.and_then(|block| block.entry(path));
            if let (Some((_, value)), Some(entry)) = (swept, entry)
                && let Some((_, place)) = entry.values.iter().find(|(candidate, _)| candidate == *value)
            {
                span = place.clone();
            }
            Some((source, span))
        });
        let whole = || {
            let main = self.resolver.manifest.main();
            (Arc::clone(&main.source), 0..0)
        };
        let (source, span) = place.unwrap_or_else(whole);
        Issue::new(&source, &span, problem.text).help(problem.help)
    }
}
