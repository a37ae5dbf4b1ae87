//! From layers and a grid point to a [`RunConfig`].
//!
//! figment merges the layers once per block; the points of a block only replace the values of its axes. That keeps
//! the order of the layers, because overriding a swept key is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use figment::value::{Dict, Value as Figured};
use figment::{Figment, Profile};

use super::Manifest;
use super::block::Block;
use super::choice::{self, Layers, MODELS};
use super::document::{Document, MOST_ISSUES, Setting};
use super::error::ManifestError;
use super::keys::{Key, Kind};
use super::layers::{self, Defaults};
use super::named;
use super::overriding;
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
    /// Names of evaluations.
    evals: Vec<String>,
    /// What contradicts itself, whatever the runs.
    pub(super) contradictions: Vec<Issue>,
    /// Conditional keys that some run had a use for.
    used: BTreeSet<&'static str>,
    /// Settings of files that the runs so far had no use for.
    idle: BTreeMap<(usize, usize), Issue>,
    /// Runs that have no base model.
    absent: Option<Issue>,
}

const MASK: &str = "mask.type";

/// Resolves the points of one block, or the single run of a manifest without a grid.
pub struct BlockResolver<'r, 'm> {
    resolver: &'r mut Resolver<'m>,
    layers: Layers<'m>,
    merged: Dict,
    checked: BTreeSet<&'static str>,
}

impl<'m> Resolver<'m> {
    /// Merges what all blocks share, and checks every file and block against itself.
    pub fn new(manifest: &'m Manifest) -> Self {
        let evals = names_of_evals(manifest);
        let mut issues = Vec::new();
        for file in &manifest.files {
            choice::contradictions(file, &evals, &mut issues);
        }
        for block in &manifest.blocks {
            let place = |path: &str| match path {
                "model.pretrain" => block.pretrain.clone(),
                _ => block.entry(path).map(|entry| entry.span.clone()),
            };
            choice::conflicts(&block.source, place, &evals, &mut issues);
        }
        overriding::of_blocks(manifest, &mut issues);
        overriding::of_evaluations(manifest, &mut issues);
        let base = manifest.files.iter().fold(Figment::from(Defaults), Figment::merge);
        Self {
            manifest,
            base,
            digests: Digests::default(),
            evals,
            contradictions: issues,
            used: BTreeSet::new(),
            idle: BTreeMap::new(),
            absent: None,
        }
    }

    /// Merges the layers of a block.
    pub fn block<'r>(&'r mut self, block: Option<&'m Block>) -> Result<BlockResolver<'r, 'm>, ManifestError> {
        let swept = block.map(|block| overriding::of_axes(self.manifest, block)).unwrap_or_default();
        if !swept.is_empty() {
            return Err(ManifestError::Invalid(swept));
        }
        let mut figment = self.base.clone();
        let fixed = block.map(|block| self.fixed(block));
        if let Some(fixed) = &fixed {
            figment = figment.merge(fixed);
        }
        figment = self.manifest.overrides.iter().fold(figment, Figment::merge);
        let mut data = figment::Provider::data(&figment).map_err(|source| self.extract_error(source))?;
        let mut merged = data.remove(&Profile::Default).unwrap_or_default();
        let layers = Layers { manifest: self.manifest, block };
        match layers.idle(&self.evals) {
            Ok(idle) => idle.iter().for_each(|path| layers::remove(&mut merged, &named::place(path))),
            Err(issue) => self.absent = Some(issue),
        }
        Ok(BlockResolver { resolver: self, layers, merged, checked: BTreeSet::new() })
    }

    /// What is wrong with the manifest, after the last block: `issues` of its points, but for what only follows from a
    /// contradiction; the contradictions; overrides and conditional settings without a use.
    pub fn finish(self, mut issues: Vec<Issue>) -> Vec<Issue> {
        let same_place = |one: &Issue, other: &Issue| one.source == other.source && one.span == other.span;
        issues.retain(|issue| !self.contradictions.iter().any(|known| same_place(known, issue)));
        issues.extend(self.contradictions.iter().cloned());
        for layer in &self.manifest.overrides {
            for setting in &layer.settings {
                let path = setting.key.path;
                if variant::condition(path).is_some() && !self.used.contains(path) {
                    let text = format!("no run of the grid has a use for `{path}`");
                    // What is refused already is not looked at further.
                    let refused = |known: &Issue| known.source == layer.source && known.span == setting.span;
                    if issues.iter().any(refused) {
                        continue;
                    }
                    issues.push(Issue::new(&layer.source, &setting.span, text).help("remove the override"));
                }
            }
        }
        for ((layer, index), issue) in &self.idle {
            let known = self.contradictions.iter().any(|known| same_place(known, issue));
            if !known && !self.used.contains(self.manifest.files[*layer].settings[*index].key.path) {
                issues.push(issue.clone());
            }
        }
        issues.extend(self.scores_without_a_mask());
        issues.extend(self.absent);
        issues
    }

    /// `[fisher]` settings of the manifest itself although files choose another mask for every run. Those of a parent may
    /// wait for a child; beside blocks that choose masks they are the weaker layer; a default changes nothing.
    fn scores_without_a_mask(&self) -> Vec<Issue> {
        let Manifest { files, overrides, blocks, .. } = self.manifest;
        let chosen = files.iter().any(|file| file.get(MASK).is_some());
        let later = blocks.iter().any(|block| block.entry(MASK).is_some());
        if !chosen || later || overrides.iter().any(|layer| layer.get(MASK).is_some()) {
            return Vec::new();
        }
        let main = self.manifest.main();
        let idle = main.settings.iter().filter(|Setting { key, value, .. }| {
            key.section() == "fisher" && !self.used.contains(key.path) && key.preset().as_ref() != Some(value)
        });
        let issue = |setting: &Setting| {
            let text = format!("`{}` does not apply: no run has a Fisher mask", setting.key.path);
            let help = "its scores are for runs with `mask.type` = \"fisher\": give some that mask, or remove the key";
            Issue::new(&main.source, &setting.span, text).help(help).about(&[MASK])
        };
        idle.map(issue).collect()
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

    fn extract_error(&self, source: impl Into<Box<figment::Error>>) -> ManifestError {
        ManifestError::Extract { path: self.manifest.path.clone(), source: source.into() }
    }
}

/// The most named evaluations: every one is completed for every run.
const MOST_EVALUATIONS: usize = 100;

/// The issue of a manifest with more named evaluations than anybody means, at the first of its settings that is beyond.
pub(super) fn too_many_evaluations(manifest: &Manifest) -> Option<Issue> {
    let settings =
        manifest.files.iter().chain(&manifest.overrides).flat_map(|layer| {
            layer.settings.iter().map(|setting| (setting.key, &layer.source, &setting.span))
        });
    let entries = manifest
        .blocks
        .iter()
        .flat_map(|block| block.entries.iter().map(|entry| (entry.key, &block.source, &entry.span)));
    let mut names = BTreeSet::new();
    for (key, source, span) in settings.chain(entries) {
        let Some((name, _)) = named::split(key.path) else { continue };
        names.insert(name);
        if names.len() > MOST_EVALUATIONS {
            let text = format!("there are more than {MOST_EVALUATIONS} named evaluations");
            return Some(Issue::new(source, span, text).help("every run makes all of them: name fewer"));
        }
    }
    None
}

/// The names of evaluations that any layer or block knows, sorted.
fn names_of_evals(manifest: &Manifest) -> Vec<String> {
    let settings = manifest.files.iter().chain(&manifest.overrides).flat_map(|layer| &layer.settings);
    let entries = manifest.blocks.iter().flat_map(|block| &block.entries);
    let keys = settings.map(|setting| setting.key).chain(entries.map(|entry| entry.key));
    let names = keys.filter_map(|key| named::split(key.path)).map(|(name, _)| name.to_owned());
    names.collect::<BTreeSet<_>>().into_iter().collect()
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
            layers::insert(&mut self.merged, &named::place(key.path), value);
        }
        let merged = Figured::from(evaluations_spelled_out(&self.merged));
        let raw = merged.deserialize::<Raw>().map_err(|source| self.resolver.extract_error(source))?;
        let mut issues = Vec::new();
        self.check_evals(&raw, &mut issues);
        self.check_conditions(Selection::of_raw(&raw), &mut issues);
        match valid::run_config(raw, &mut self.resolver.digests) {
            Ok(config) if issues.is_empty() => return Ok(config),
            Ok(_) => (),
            Err(problems) => issues.extend(problems.into_iter().map(|problem| self.placed(point, problem))),
        }
        issues.truncate(MOST_ISSUES);
        Err(ManifestError::Invalid(issues))
    }

    /// The value of a key that the block does not sweep, as it was written; `None` when it has none.
    pub fn settled(&self, key: &Key) -> Option<Value> {
        self.layers.written(key.path).map(|(value, _, _)| value).or_else(|| key.preset())
    }

    /// Refuses task settings of named evaluations that their task does not have.
    fn check_evals(&mut self, raw: &Raw, issues: &mut Vec<Issue>) {
        if raw.evals.is_empty() || !self.checked.insert("named evaluations") {
            return;
        }
        let manifest = self.resolver.manifest;
        let settings = manifest.files.iter().chain(&manifest.overrides).flat_map(|layer| {
            layer.settings.iter().map(|setting| (setting.key, &layer.source, &setting.span))
        });
        let entries = self
            .layers
            .block
            .into_iter()
            .flat_map(|block| block.entries.iter().map(|entry| (entry.key, &block.source, &entry.span)));
        for (key, source, span) in settings.chain(entries) {
            let Some((name, rest)) = named::split(key.path) else { continue };
            let Some(eval) = raw.evals.get(name) else { continue };
            let chosen = variant::task_word(&eval.task);
            let need = variant::condition(rest).filter(|need| need.chooser == "task.type");
            if let Some(choices) = need.map(|need| need.choices).filter(|choices| !choices.contains(&chosen))
            {
                let chooser = format!("eval.{name}.task.type");
                let text = variant::mismatch(key.path, &chooser, chosen);
                let whose = variant::owners(&chooser, choices);
                issues.push(Issue::new(source, span, text).help(format!("{whose}: remove the key")));
            }
        }
    }

    /// Notes which conditional keys this variant uses, and refuses those of the block that it does not.
    fn check_conditions(&mut self, selection: Selection, issues: &mut Vec<Issue>) {
        // Every condition depends on one choice, so a point whose choices were all seen brings nothing new.
        let Selection { mask, scope, control, ratio, schedule, model, task, episodes } = selection;
        let choices = [mask, scope, control, ratio, schedule, model, task, episodes];
        if choices.into_iter().filter(|choice| self.checked.insert(choice)).count() == 0 {
            return;
        }
        for key in super::keys::KEYS {
            if variant::condition(key.path).is_some() && selection.applies(key.path) {
                self.resolver.used.insert(key.path);
            }
        }
        // Two sources of a model in one block are a contradiction, said elsewhere.
        let torn = self.layers.block.is_some_and(|block| {
            block.pretrain.is_some() && MODELS.iter().any(|path| block.entry(path).is_some())
        });
        let refuse = |path: &str, source: &Arc<Source>, span: &Span| {
            let need = variant::condition(path).filter(|need| need.chooser != "model" || !torn)?;
            let text = variant::mismatch(path, need.chooser, selection.chosen(need.chooser));
            let unmet = !selection.applies(path);
            let keys = super::keys::find(need.chooser).map(|key| key.path);
            unmet.then(|| Issue::new(source, span, text).help(variant::advice(path)).about(keys.as_slice()))
        };
        if let Some(block) = self.layers.block {
            let entries = block.entries.iter();
            issues.extend(entries.filter_map(|entry| refuse(entry.key.path, &block.source, &entry.span)));
        }
        // Beside a type that a file chose (or the default), a setting of the same file or a later one is idle.
        let files = &self.resolver.manifest.files;
        for chooser in variant::CHOOSERS {
            let overridden =
                self.resolver.manifest.overrides.iter().any(|layer| layer.get(chooser).is_some());
            if overridden || self.layers.block.is_some_and(|block| block.entry(chooser).is_some()) {
                continue;
            }
            let from = files.iter().rposition(|file| file.get(chooser).is_some()).unwrap_or(0);
            for (layer, file) in files.iter().enumerate().skip(from) {
                for (index, setting) in file.settings.iter().enumerate() {
                    let path = setting.key.path;
                    let bound = variant::condition(path).is_some_and(|need| need.chooser == chooser);
                    if bound
                        && choice::same_table(path, chooser)
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
            let (_, source, mut span) = self.layers.written(path)?;
            let swept = point.iter().find(|(key, _)| key.path == *path);
            let entry = self.layers.block.and_then(|block| block.entry(path));
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
        Issue::new(&source, &span, problem.text).help(problem.help).about(&problem.keys)
    }
}

/// The merged values with every named evaluation complete: its own settings laid over those of `[eval]` and `[task]`.
fn evaluations_spelled_out(merged: &Dict) -> Dict {
    let mut whole = merged.clone();
    let Some(Figured::Dict(tag, evals)) = whole.remove("evals") else { return whole };
    let table = |name: &str| match merged.get(name) {
        Some(Figured::Dict(_, dict)) => dict.clone(),
        _ => Dict::new(),
    };
    let complete = evals.into_iter().map(|(name, own)| {
        let (mut eval, mut task) = (table("eval"), table("task"));
        if let Figured::Dict(_, mut own) = own {
            if let Some(Figured::Dict(_, own)) = own.remove("task") {
                // Other data has another revision, and a file is not a dataset.
                let elsewhere = ["dataset", "file", "names"].iter().any(|key| own.contains_key(*key));
                for key in ["dataset", "revision", "subset", "file", "names"].iter().filter(|_| elsewhere) {
                    task.remove(*key);
                }
                if elsewhere && !own.contains_key("dataset") {
                    task.remove("split");
                }
                lay(&mut task, own);
            }
            lay(&mut eval, own);
        }
        let both = [("eval".to_owned(), eval.into()), ("task".to_owned(), task.into())];
        (name, Figured::from(both.into_iter().collect::<Dict>()))
    });
    let evals = complete.collect::<Dict>();
    whole.insert("evals".to_owned(), Figured::Dict(tag, evals));
    whole
}

/// Lays values over others, table by table.
fn lay(below: &mut Dict, above: Dict) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Figured::Dict(_, below)), Figured::Dict(_, above)) => lay(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}
