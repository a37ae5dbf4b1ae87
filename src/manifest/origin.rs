//! Where the values of a manifest come from, for `plan --origins`.

use super::Manifest;
use super::choice::Layers;
use super::document::Document;
use super::named;
use super::source::{Issue, Source, Span};
use super::value::Value;

/// A setting that is not at its default, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The dotted key.
    pub key: &'static str,
    /// The value in TOML; the values of an axis separated by commas.
    pub value: String,
    /// `file:line:column`, the environment variable, or `--set`.
    pub place: String,
    /// The number of the `[[grid]]` block that sets it for its own runs.
    pub block: Option<usize>,
    /// The values of weaker layers that it hides, the strongest first, each with its place.
    pub hides: Vec<(String, String)>,
}

impl Manifest {
    /// Every setting that is not at its default: those of files and overrides by key, then those of each block.
    pub fn origins(&self) -> Vec<Origin> {
        let mut keys =
            self.files.iter().chain(&self.overrides).flat_map(|layer| &layer.settings).collect::<Vec<_>>();
        keys.sort_by_key(|setting| setting.key.path);
        keys.dedup_by_key(|setting| setting.key.path);
        let mut origins = Vec::new();
        for key in keys.into_iter().map(|setting| setting.key) {
            let mut written = self.layers_with(key.path);
            let Some((value, place)) = written.pop() else { continue };
            if key.preset().is_some_and(|preset| preset == value) && written.is_empty() {
                continue;
            }
            let hides = written.into_iter().rev().map(|(value, place)| (value.to_string(), place)).collect();
            origins.push(Origin { key: key.path, value: value.to_string(), place, block: None, hides });
        }
        for block in &self.blocks {
            for entry in &block.entries {
                let path = entry.key.path;
                if self.overrides.iter().any(|layer| layer.get(path).is_some()) {
                    continue;
                }
                let values = entry.values.iter().map(|(value, _)| value.to_string()).collect::<Vec<_>>();
                let hidden = Layers { manifest: self, block: None }.written(path);
                let hides = hidden.map(|(value, source, span)| (value.to_string(), place(&source, &span)));
                origins.push(Origin {
                    key: path,
                    value: values.join(", "),
                    place: place(&block.source, &entry.span),
                    block: Some(block.number),
                    hides: hides.into_iter().collect(),
                });
            }
        }
        origins
    }

    /// Where the value of a key comes from, for the runs of a block (by its number, from 1; 0 without a grid): a place, a
    /// variable or `--set`; `None` for a default. What a named evaluation does not say for itself is that of `[eval]` and
    /// `[task]`.
    pub fn origin(&self, path: &str, block: usize) -> Option<String> {
        let own = self.origin_of(path, block);
        own.or_else(|| named::split(path).and_then(|(_, rest)| self.origin_of(&named::model(rest), block)))
    }

    fn origin_of(&self, path: &str, block: usize) -> Option<String> {
        let overridden = self.overrides.iter().rev().find(|layer| layer.get(path).is_some());
        if let Some(layer) = overridden {
            return Some(layer.source.name.clone());
        }
        let block = self.blocks.iter().find(|found| found.number == block);
        let (_, source, span) = Layers { manifest: self, block }.written(path)?;
        Some(place(&source, &span))
    }

    /// What each file and override says about a key, the strongest last.
    fn layers_with(&self, path: &str) -> Vec<(Value, String)> {
        let file = |layer: &Document| {
            let setting = layer.get(path)?;
            Some((setting.value.clone(), place(&layer.source, &setting.span)))
        };
        let overridden = |layer: &Document| {
            let setting = layer.get(path)?;
            Some((setting.value.clone(), layer.source.name.clone()))
        };
        self.files.iter().filter_map(file).chain(self.overrides.iter().filter_map(overridden)).collect()
    }
}

fn place(source: &std::sync::Arc<Source>, span: &Span) -> String {
    Issue::new(source, span, "").place()
}
