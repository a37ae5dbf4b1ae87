//! Keys that only some variants have: a mask seed needs a random mask.
//!
//! A key that does not apply to the chosen variant is dropped when it was inherited, and an error when it stands in
//! the same table or grid block as the choice.

use super::raw::{MaskType, Ratio, Raw};
use super::spec::{ModelSource, RunConfig};
use crate::grpo::RatioRule;
use crate::sparsity::MaskSpec;

/// Which variants a configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Value of `mask.type`.
    pub mask: &'static str,
    /// Value of `grpo.ratio`.
    pub ratio: &'static str,
    /// `path` or `pretrain`.
    pub model: &'static str,
}

/// What a conditional key depends on: the key that chooses, and the choices that have it.
pub struct Condition {
    /// `mask.type`, `grpo.ratio` or `model`.
    pub chooser: &'static str,
    /// The values of the chooser that the key applies to.
    pub choices: &'static [&'static str],
}

/// The condition of a key, when it has one.
pub fn condition(path: &str) -> Option<Condition> {
    let when = |chooser, choices| Some(Condition { chooser, choices });
    match path {
        "mask.sparsity" => when("mask.type", &["random", "fisher", "magnitude"]),
        "mask.seed" | "mask.rng" => when("mask.type", &["random"]),
        "mask.rounding" => when("mask.type", &["fisher", "magnitude"]),
        "grpo.clip_low" | "grpo.clip_high" => when("grpo.ratio", &["clip"]),
        "grpo.mask_low" | "grpo.mask_high" => when("grpo.ratio", &["mask"]),
        "model.path" => when("model", &["path"]),
        _ if path.starts_with("fisher.") => when("mask.type", &["fisher"]),
        _ if path.starts_with("model.pretrain.") => when("model", &["pretrain"]),
        _ => None,
    }
}

impl Selection {
    /// The variants of a merged configuration.
    pub(super) fn of_raw(raw: &Raw) -> Self {
        Self {
            mask: match raw.mask.r#type {
                MaskType::Full => "full",
                MaskType::Random => "random",
                MaskType::Fisher => "fisher",
                MaskType::Magnitude => "magnitude",
            },
            ratio: match raw.grpo.ratio {
                Ratio::Clip => "clip",
                Ratio::Mask => "mask",
            },
            model: if raw.model.path.is_some() { "path" } else { "pretrain" },
        }
    }

    /// The variants of a run.
    pub fn of(config: &RunConfig) -> Self {
        Self {
            mask: match config.mask {
                MaskSpec::Full => "full",
                MaskSpec::Random { .. } => "random",
                MaskSpec::Fisher { .. } => "fisher",
                MaskSpec::Magnitude { .. } => "magnitude",
            },
            ratio: match config.grpo.ratio {
                RatioRule::Clip { .. } => "clip",
                RatioRule::Mask { .. } => "mask",
            },
            model: match config.model.source {
                ModelSource::Directory { .. } => "path",
                ModelSource::Pretrain(_) => "pretrain",
            },
        }
    }

    /// The chosen value of a chooser.
    pub fn chosen(&self, chooser: &str) -> &'static str {
        match chooser {
            "mask.type" => self.mask,
            "grpo.ratio" => self.ratio,
            _ => self.model,
        }
    }

    /// Whether a key has a meaning here.
    pub fn applies(&self, path: &str) -> bool {
        condition(path).is_none_or(|need| need.choices.contains(&self.chosen(need.chooser)))
    }
}

/// How a message states the choice that leaves a key without meaning.
pub fn mismatch(path: &str, chooser: &str, chosen: &str) -> String {
    match (chooser, chosen) {
        ("model", "path") => format!("`{path}` does not apply beside `model.path`"),
        ("model", _) => format!("`{path}` does not apply beside [model.pretrain]"),
        _ => format!("`{path}` does not apply to `{chooser}` = \"{chosen}\""),
    }
}

/// What a message advises.
pub fn advice(path: &str) -> String {
    match condition(path) {
        Some(Condition { chooser: "model", .. }) => {
            "a model comes from a folder or is built in: choose one".into()
        }
        Some(Condition { chooser, choices }) => {
            let words = choices.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
            format!(
                "only `{chooser}` = {words} has it: remove the key, or give those runs a block of their own"
            )
        }
        None => "remove the key".into(),
    }
}
