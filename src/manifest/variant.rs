//! Keys that only some variants have: a mask seed needs a random mask.
//!
//! A key that does not apply to the chosen variant is dropped when it was inherited, and an error when it stands in
//! the same table or grid block as the choice.

use super::raw::{Course, Generator, MaskType, Pools, Ratio, Raw, RawTask, TaskType, Turn};
use super::spec::{ModelSource, RunConfig};
use crate::grpo::{RatioRule, Shape};
use crate::sparsity::{Control, MaskSpec, Sparse};
use crate::task::{Episodes, TaskSpec};

/// Which variants a configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Value of `mask.type`.
    pub mask: &'static str,
    /// Value of `mask.scope`, where the mask has one.
    pub scope: &'static str,
    /// Value of `mask.control`.
    pub control: &'static str,
    /// Value of `grpo.ratio`.
    pub ratio: &'static str,
    /// Value of `optimizer.schedule`.
    pub schedule: &'static str,
    /// `path`, `id`, `run` or `pretrain`.
    pub model: &'static str,
    /// Value of `task.type`.
    pub task: &'static str,
    /// Value of `task.episodes`.
    pub episodes: &'static str,
}

/// What a conditional key depends on: the key that chooses, and the choices that have it.
pub struct Condition {
    /// One of [`CHOOSERS`], or `model`.
    pub chooser: &'static str,
    /// The values of the chooser that the key applies to.
    pub choices: &'static [&'static str],
}

/// The keys that choose between variants.
pub const CHOOSERS: [&str; 7] = [
    "mask.type",
    "mask.scope",
    "mask.control",
    "grpo.ratio",
    "optimizer.schedule",
    "task.type",
    "task.episodes",
];

/// Mask types whose entries a score decides.
const SCORED: &[&str] = &["fisher", "gradient", "snip", "magnitude", "moved"];
/// Mask types that keep a share of entries.
const CHOSEN: &[&str] = &["random", "fisher", "gradient", "snip", "magnitude", "moved"];
/// Mask types that can be kept to some modules.
const OF_MODULES: &[&str] =
    &["random", "fisher", "gradient", "snip", "magnitude", "moved", "layers", "modules"];
/// All mask types but the full one.
const SPARSE: &[&str] = &[
    "random",
    "fisher",
    "gradient",
    "snip",
    "magnitude",
    "moved",
    "layers",
    "modules",
    "file",
    "union",
    "intersection",
];

/// The condition of a key, when it has one.
pub fn condition(path: &str) -> Option<Condition> {
    let when = |chooser, choices| Some(Condition { chooser, choices });
    match path {
        "mask.sparsity" | "mask.scope" | "mask.unit" => when("mask.type", CHOSEN),
        "mask.seed" | "mask.rng" => when("mask.type", &["random"]),
        "mask.rounding" | "mask.keep" => when("mask.type", SCORED),
        "mask.modules" => when("mask.type", OF_MODULES),
        "mask.run" => when("mask.type", &["moved"]),
        "mask.file" => when("mask.type", &["file", "union", "intersection"]),
        "mask.other" => when("mask.type", &["union", "intersection"]),
        "mask.group" => when("mask.scope", &["per_group"]),
        "mask.control" => when("mask.type", SPARSE),
        "mask.control_seed" => when("mask.control", &["permuted"]),
        "mask.layers" | "mask.count" => when("mask.type", &["layers"]),
        "grpo.clip_low" | "grpo.clip_high" | "grpo.clip_delta" => when("grpo.ratio", &["clip"]),
        "grpo.mask_low" | "grpo.mask_high" | "grpo.sequence_mask_low" => when("grpo.ratio", &["mask"]),
        "grpo.cispo_high" => when("grpo.ratio", &["cispo"]),
        "optimizer.final_share" => when("optimizer.schedule", &["linear", "cosine"]),
        "model.path" => when("model", &["path"]),
        "model.id" | "model.revision" => when("model", &["id"]),
        "model.run" => when("model", &["run"]),
        "task.seed" => when("task.episodes", &["python"]),
        "task.file" | "task.system_prompt" | "task.question_column" | "task.answer_column" => {
            when("task.type", &["gsm8k", "math"])
        }
        "task.dataset" | "task.revision" | "task.subset" | "task.split" => {
            when("task.type", &["alphabet_sort", "gsm8k", "math"])
        }
        "task.order" => when("task.type", &["alphabet_sort", "gsm8k", "math", "program"]),
        "task.max_turns" => when("task.type", &["alphabet_sort", "program"]),
        "task.program" | "task.command" => when("task.type", &["program"]),
        "task.digits" | "task.terms" => when("task.type", &["arithmetic"]),
        "task.length" => when("task.type", &["reverse"]),
        "task.numbers" | "task.largest" => when("task.type", &["countdown"]),
        "task.min_turns"
        | "task.min_names_per_turn"
        | "task.max_names_per_turn"
        | "task.sort_by"
        | "task.similarity_power"
        | "task.power_per_turn"
        | "task.names"
        | "task.row_names"
        | "task.episodes"
        | "task.prompts.first"
        | "task.prompts.second"
        | "task.prompts.later" => when("task.type", &["alphabet_sort"]),
        _ if path.starts_with("fisher.") => when("mask.type", &["fisher", "gradient", "snip"]),
        _ if path.starts_with("model.pretrain.") => when("model", &["pretrain"]),
        _ => None,
    }
}

/// Whether masks of this type have a key: of `[mask]`, as far as its condition is the type, or of `[fisher]`.
pub fn applies_to_mask(path: &str, mask_type: &str) -> bool {
    condition(path).is_none_or(|need| need.chooser != "mask.type" || need.choices.contains(&mask_type))
}

impl Selection {
    /// The variants of a merged configuration.
    pub(super) fn of_raw(raw: &Raw) -> Self {
        Self {
            mask: mask_word(raw.mask.r#type),
            scope: match raw.mask.scope.filter(|_| CHOSEN.contains(&mask_word(raw.mask.r#type))) {
                Some(Pools::Global) => "global",
                Some(Pools::PerTensor) => "per_tensor",
                Some(Pools::PerLayer) => "per_layer",
                Some(Pools::PerGroup) => "per_group",
                None => "",
            },
            control: match raw.mask.control {
                _ if raw.mask.r#type == MaskType::Full => "none",
                Turn::None => "none",
                Turn::Complement => "complement",
                Turn::Permuted => "permuted",
            },
            ratio: match raw.grpo.ratio {
                Ratio::Clip => "clip",
                Ratio::Mask => "mask",
                Ratio::Cispo => "cispo",
            },
            schedule: match raw.optimizer.schedule {
                Course::Constant => "constant",
                Course::Linear => "linear",
                Course::Cosine => "cosine",
            },
            model: match (&raw.model.path, &raw.model.id, &raw.model.run) {
                (Some(_), _, _) => "path",
                (None, Some(_), _) => "id",
                (None, None, Some(_)) => "run",
                (None, None, None) => "pretrain",
            },
            task: task_word(&raw.task),
            episodes: match raw.task.episodes {
                Generator::Counter => "counter",
                Generator::Python => "python",
            },
        }
    }

    /// The variants of a run.
    pub fn of(config: &RunConfig) -> Self {
        Self {
            mask: config.mask.word(),
            scope: config.mask.choice().map_or("", |choice| choice.scope.word()),
            control: match &config.mask {
                MaskSpec::Sparse(Sparse { control, .. }) => control.word(),
                MaskSpec::Full => Control::None.word(),
            },
            ratio: match config.grpo.ratio {
                RatioRule::Clip { .. } => "clip",
                RatioRule::Mask { .. } => "mask",
                RatioRule::Cispo { .. } => "cispo",
            },
            schedule: schedule_word(config.optimizer.schedule.shape),
            model: match config.model.source {
                ModelSource::Directory { .. } => "path",
                ModelSource::Hub { .. } => "id",
                ModelSource::Run { .. } => "run",
                ModelSource::Pretrain(_) => "pretrain",
            },
            task: config.task.word(),
            episodes: match &config.task {
                TaskSpec::AlphabetSort(sort) if sort.episodes != Episodes::Counter => "python",
                _ => "counter",
            },
        }
    }

    /// The chosen value of a chooser.
    pub fn chosen(&self, chooser: &str) -> &'static str {
        match chooser {
            "mask.type" => self.mask,
            "mask.scope" => self.scope,
            "mask.control" => self.control,
            "grpo.ratio" => self.ratio,
            "optimizer.schedule" => self.schedule,
            "task.type" => self.task,
            "task.episodes" => self.episodes,
            _ => self.model,
        }
    }

    /// Whether a key has a meaning here.
    pub fn applies(&self, path: &str) -> bool {
        condition(path).is_none_or(|need| need.choices.contains(&self.chosen(need.chooser)))
    }
}

/// The value of `mask.type`.
fn mask_word(mask: MaskType) -> &'static str {
    match mask {
        MaskType::Full => "full",
        MaskType::Random => "random",
        MaskType::Fisher => "fisher",
        MaskType::Gradient => "gradient",
        MaskType::Snip => "snip",
        MaskType::Magnitude => "magnitude",
        MaskType::Moved => "moved",
        MaskType::Layers => "layers",
        MaskType::Modules => "modules",
        MaskType::File => "file",
        MaskType::Union => "union",
        MaskType::Intersection => "intersection",
    }
}

/// The value of `optimizer.schedule`.
fn schedule_word(shape: Shape) -> &'static str {
    match shape {
        Shape::Constant => "constant",
        Shape::Linear { .. } => "linear",
        Shape::Cosine { .. } => "cosine",
    }
}

/// The value of `task.type`; a task without one is refused elsewhere.
pub(super) fn task_word(task: &RawTask) -> &'static str {
    match task.r#type {
        Some(TaskType::AlphabetSort) | None => "alphabet_sort",
        Some(TaskType::Gsm8k) => "gsm8k",
        Some(TaskType::Math) => "math",
        Some(TaskType::Arithmetic) => "arithmetic",
        Some(TaskType::Reverse) => "reverse",
        Some(TaskType::Countdown) => "countdown",
        Some(TaskType::Program) => "program",
    }
}

/// How a message states the choice that leaves a key without meaning.
pub fn mismatch(path: &str, chooser: &str, chosen: &str) -> String {
    match (chooser, chosen) {
        ("model", "path") => format!("`{path}` does not apply beside `model.path`"),
        ("model", "id") => format!("`{path}` does not apply beside `model.id`"),
        ("model", "run") => format!("`{path}` does not apply beside `model.run`"),
        ("model", _) => format!("`{path}` does not apply beside [model.pretrain]"),
        (_, "") => format!("`{path}` does not apply where `{chooser}` is not set"),
        _ => format!("`{path}` does not apply to `{chooser}` = \"{chosen}\""),
    }
}

/// What a message advises.
pub fn advice(path: &str) -> String {
    match condition(path) {
        Some(Condition { chooser: "model", .. }) => {
            "a model comes from a folder, from a hub or from a run, or is built in: choose one".into()
        }
        Some(Condition { chooser, choices }) => {
            let whose = owners(chooser, choices);
            format!("{whose}: remove the key, or give those runs a block of their own")
        }
        None => "remove the key".into(),
    }
}

/// Which choices have a key: "only `mask.type` = "fisher" or "magnitude" has it".
pub fn owners(chooser: &str, choices: &[&str]) -> String {
    let words = choices.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
    let words = match words.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    };
    format!("only `{chooser}` = {words} has it")
}
