//! Settings that exclude each other, and settings that belong to another one: which of them count.
//!
//! Of settings that exclude each other the strongest layer's counts; in one table they are an error. A revision belongs to
//! the repository beside it: where a stronger layer names another repository, an inherited revision says nothing.

use std::sync::Arc;

use super::block::Block;
use super::document::{Document, Setting};
use super::keys;
use super::source::{Issue, Source, Span};
use super::value::Value;
use super::{Manifest, variant};

/// The layers under a block, as far as they decide between settings.
#[derive(Clone, Copy)]
pub(super) struct Layers<'m> {
    pub manifest: &'m Manifest,
    pub block: Option<&'m Block>,
}

/// Settings that exclude each other, per table: any of the first with any of the second.
const EXCLUSIVE: [(&str, &str); 2] = [("names", "dataset"), ("file", "dataset")];

/// Settings that belong to another one.
const COMPANIONS: [(&str, &str); 2] = [("dataset", "revision"), ("dataset", "subset")];

/// The ways to a base model.
pub(super) const MODELS: [&str; 4] = ["model.path", "model.id", "model.run", "model.pretrain"];

impl Layers<'_> {
    /// How strong the strongest layer is that says something; `None` when none does.
    fn strongest(&self, says: impl Fn(&Document) -> bool, block: impl Fn(&Block) -> bool) -> Option<usize> {
        let (files, overrides) = (&self.manifest.files, &self.manifest.overrides);
        let overridden = overrides.iter().rposition(&says).map(|layer| files.len() + 1 + layer);
        let in_block = || self.block.filter(|found| block(found)).map(|_| files.len());
        overridden.or_else(in_block).or_else(|| files.iter().rposition(&says))
    }

    /// The rank of the strongest layer that sets a key, or has the table `model.pretrain`.
    fn rank(&self, path: &str) -> Option<usize> {
        if path == "model.pretrain" {
            return self.strongest(|layer| layer.pretrain.is_some(), |block| block.pretrain.is_some());
        }
        self.strongest(|layer| layer.get(path).is_some(), |block| block.entry(path).is_some())
    }

    /// The value of the highest layer that sets a key.
    pub fn written(&self, path: &str) -> Option<(Value, Arc<Source>, Span)> {
        let of = |layer: &Document| {
            let setting = layer.get(path)?;
            Some((setting.value.clone(), Arc::clone(&layer.source), setting.span.clone()))
        };
        let in_block = || {
            let block = self.block?;
            let entry = block.entry(path)?;
            Some((entry.values.first()?.0.clone(), Arc::clone(&block.source), entry.span.clone()))
        };
        let overridden = self.manifest.overrides.iter().rev().find_map(of);
        overridden.or_else(in_block).or_else(|| self.manifest.files.iter().rev().find_map(of))
    }

    /// The keys whose values count for nothing, for a run on these layers.
    ///
    /// # Errors
    /// When nothing says where the base model comes from.
    pub fn idle(&self, evals: &[String]) -> Result<Vec<String>, Issue> {
        let mut idle = Vec::new();
        let ranks = MODELS.map(|path| self.rank(path));
        let Some(best) = ranks.iter().flatten().max() else {
            let file = self.manifest.main();
            let help = "write [model.pretrain] for the built-in base, or [model] with the id of a hub's model or the \
                        path of a Hugging Face folder";
            return Err(Issue::new(&file.source, &(0..0), "there is no base model").help(help));
        };
        for (path, rank) in MODELS.iter().zip(&ranks) {
            if rank.as_ref() != Some(best) {
                idle.push((*path).to_owned());
            }
        }
        if idle.iter().any(|path| path == "model.id") || self.rank("model.revision") < self.rank("model.id") {
            idle.push("model.revision".to_owned());
        }
        // The table's defaults stay: nothing reads them.
        idle.retain(|path| path != "model.pretrain");
        let tables = evals.iter().map(|name| format!("eval.{name}.task"));
        for table in std::iter::once("task".to_owned()).chain(tables) {
            let rank = |name: &str| self.rank(&format!("{table}.{name}"));
            let mut drop = |name: &str| idle.push(format!("{table}.{name}"));
            for (left, right) in EXCLUSIVE {
                match (rank(left), rank(right)) {
                    (Some(one), Some(other)) if one < other => drop(left),
                    (Some(one), Some(other)) if one > other => {
                        for name in [right, "revision", "subset", "split"] {
                            drop(name);
                        }
                    }
                    _ => {}
                }
            }
            for (owner, companion) in COMPANIONS {
                if rank(companion) < rank(owner) {
                    drop(companion);
                }
            }
        }
        Ok(idle)
    }
}

/// Where a text or a block says two things that exclude each other.
pub(super) fn conflicts(
    source: &Arc<Source>,
    place: impl Fn(&str) -> Option<Span>,
    evals: &[String],
    issues: &mut Vec<Issue>,
) {
    let mut refuse = |left: &str, right: &str| {
        if let (Some(span), Some(_)) = (place(left), place(right)) {
            let text = match right {
                "model.pretrain" => format!("`{left}` does not apply beside [model.pretrain]"),
                _ => format!("`{left}` does not apply beside `{right}`"),
            };
            let help = match left {
                "model.path" | "model.id" | "model.run" | "model.revision" => variant::advice(left),
                _ => "the data comes from one place: choose one".into(),
            };
            let keys = [left, right].map(|path| keys::find(path).map(|key| key.path));
            let keys = keys.into_iter().flatten().collect::<Vec<_>>();
            issues.push(Issue::new(source, &span, text).help(help).about(&keys));
        }
    };
    refuse("model.path", "model.pretrain");
    refuse("model.id", "model.pretrain");
    refuse("model.run", "model.pretrain");
    refuse("model.path", "model.id");
    refuse("model.run", "model.path");
    refuse("model.run", "model.id");
    // A revision beside a model of a hub shares the fate of that model.
    if place("model.id").is_none() {
        refuse("model.revision", "model.pretrain");
        refuse("model.revision", "model.path");
    }
    let tables = evals.iter().map(|name| format!("eval.{name}.task"));
    for table in std::iter::once("task".to_owned()).chain(tables) {
        for (left, right) in EXCLUSIVE {
            refuse(&format!("{table}.{left}"), &format!("{table}.{right}"));
        }
    }
}

/// Settings of one text that exclude each other, or that the choice beside them gives no meaning.
pub(super) fn contradictions(file: &Document, evals: &[String], issues: &mut Vec<Issue>) {
    let place = |path: &str| match path {
        "model.pretrain" => file.pretrain.clone(),
        _ => file.get(path).map(|setting| setting.span.clone()),
    };
    conflicts(&file.source, place, evals, issues);
    for setting in &file.settings {
        let path = setting.key.path;
        let Some(need) = variant::condition(path).filter(|need| same_table(path, need.chooser)) else {
            continue;
        };
        if let Some(Setting { value: Value::Text(chosen), .. }) = file.get(need.chooser)
            && !need.choices.contains(&chosen.as_str())
        {
            let text = variant::mismatch(path, need.chooser, chosen);
            let issue = Issue::new(&file.source, &setting.span, text).help(variant::advice(path));
            issues.push(issue.about(&[path]));
        }
    }
}

pub(super) fn same_table(path: &str, chooser: &str) -> bool {
    path.split('.').next() == chooser.split('.').next() && chooser != "model"
}
