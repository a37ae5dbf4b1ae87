//! The rules of `[mask]` and `[fisher]`: from the merged shape to a [`MaskSpec`].

use super::raw::{MaskType, Pools, RawFisher, RawMask, Turn};
use super::spec::PretrainSpec;
use super::valid::Rules;
use crate::sparsity::{
    Choice, Control, Criterion, FisherEstimator, FisherSpec, Join, MaskRng, MaskSource, MaskSpec, Modules,
    Rounding, Scope, Score, Sparse, Unit, kept_count,
};

/// The digits of an id.
const ID_DIGITS: usize = 64;

/// The mask of a configuration.
pub(super) fn mask(raw: &RawMask, fisher: &RawFisher, group_size: u32, rules: &mut Rules<'_>) -> MaskSpec {
    let scored = |by: Score, rules: &mut Rules<'_>| Criterion::Scored {
        by,
        keep: raw.keep,
        choice: choice(raw, Scope::Global, raw.rounding, rules),
    };
    let criterion = match raw.r#type {
        MaskType::Full => return MaskSpec::Full,
        MaskType::Random => {
            let choice = choice(raw, Scope::PerTensor, Rounding::Floor, rules);
            let text = || "`mask.rng` = \"numpy\" draws single entries, of no groups".to_owned();
            let help = "choose rng = \"chacha\", or unit = \"entry\" and another scope";
            let entries = choice.unit == Unit::Entry && !matches!(choice.scope, Scope::PerGroup(_));
            let keys = ["mask.rng", "mask.unit", "mask.scope"];
            rules.unless(raw.rng == MaskRng::Chacha || entries, &keys, text, help);
            Criterion::Random { seed: raw.seed, rng: raw.rng, choice }
        }
        MaskType::Fisher => scored(Score::Fisher(gradients(fisher, group_size, rules)), rules),
        MaskType::Gradient => scored(Score::Gradient(gradients(fisher, group_size, rules)), rules),
        MaskType::Snip => scored(Score::Snip(gradients(fisher, group_size, rules)), rules),
        MaskType::Magnitude => scored(Score::Magnitude, rules),
        MaskType::Moved => scored(Score::Moved { run: run(raw, rules) }, rules),
        MaskType::Layers => Criterion::Layers { side: raw.layers, count: raw.count },
        MaskType::Modules => Criterion::Modules,
        MaskType::File | MaskType::Union | MaskType::Intersection => {
            let file = source(raw.file.as_deref(), "mask.file", rules);
            let mut with = |join| Some((join, source(raw.other.as_deref(), "mask.other", rules)));
            let with = match raw.r#type {
                MaskType::Union => with(Join::Union),
                MaskType::Intersection => with(Join::Intersection),
                _ => None,
            };
            Criterion::File { file, with }
        }
    };
    let modules = match criterion {
        Criterion::File { .. } => Modules::ALL,
        _ => Modules::parse(&raw.modules).unwrap_or_else(|what| {
            let text = format!("`mask.modules` = \"{}\" cannot be used: {what}", raw.modules);
            let help = "kinds joined by +, such as attention+mlp, or each after a -, such as -embeddings-norms, or all";
            rules.broken(&["mask.modules"], text, help);
            Modules::ALL
        }),
    };
    let text = || "`mask.type` = \"modules\" needs `mask.modules`: all of them is a full run".to_owned();
    let some = raw.r#type != MaskType::Modules || modules != Modules::ALL;
    rules.unless(
        some,
        &["mask.modules", "mask.type"],
        text,
        "such as modules = \"attention\", or \"-embeddings\"",
    );
    let text = || "`mask.control` has no use with `mask.type` = \"modules\"".to_owned();
    let help = "what whole modules leave out is other modules: name those by `mask.modules`";
    let plain = raw.r#type != MaskType::Modules || raw.control == Turn::None;
    rules.unless(plain, &["mask.control", "mask.type"], text, help);
    let control = match raw.control {
        Turn::None => Control::None,
        Turn::Complement => Control::Complement,
        Turn::Permuted => Control::Permuted { seed: raw.control_seed },
    };
    MaskSpec::Sparse(Sparse { criterion, modules, control })
}

fn choice(raw: &RawMask, scope: Scope, rounding: Rounding, rules: &mut Rules<'_>) -> Choice {
    let sparsity = raw.sparsity.unwrap_or_else(|| {
        let help = "a mask of chance or of scores needs it: the share of entries that stay untouched, a number in (0, 1)";
        rules.broken(&["mask.sparsity", "mask.type"], "`mask.sparsity` is missing".into(), help);
        f64::NAN
    });
    let scope = match raw.scope {
        None => scope,
        Some(Pools::Global) => Scope::Global,
        Some(Pools::PerTensor) => Scope::PerTensor,
        Some(Pools::PerLayer) => Scope::PerLayer,
        Some(Pools::PerGroup) => Scope::PerGroup(raw.group),
    };
    if let Scope::PerGroup(group) = scope {
        let text = || "`mask.scope` = \"per_group\" chooses entries, no rows or columns".to_owned();
        let keys = ["mask.unit", "mask.scope"];
        rules.unless(raw.unit == Unit::Entry, &keys, text, "remove the unit, or choose another scope");
        let kept = |rounding| kept_count(group as usize, sparsity, rounding).unwrap_or(0);
        let (least, most) = (kept(Rounding::Floor), kept(Rounding::Ceil));
        let text = || {
            format!("`mask.sparsity` = {sparsity} keeps no whole number of `mask.group` = {group} entries")
        };
        let help = "N of M entries is a sparsity of 1 - N/M: 2 of 4 is 0.5, 1 of 4 is 0.75";
        let whole = sparsity.is_nan() || (least == most && least > 0);
        rules.unless(whole, &["mask.sparsity", "mask.group", "mask.scope"], text, help);
    }
    Choice { sparsity, rounding, scope, unit: raw.unit }
}

fn gradients(fisher: &RawFisher, group_size: u32, rules: &mut Rules<'_>) -> FisherSpec {
    let (episodes, estimator) = (fisher.episodes, fisher.estimator);
    if estimator == FisherEstimator::Batch {
        let help = "the batch estimator takes the gradient of whole groups";
        let text =
            || format!("`grpo.group_size` = {group_size} does not divide `fisher.episodes` = {episodes}");
        let keys = ["fisher.episodes", "grpo.group_size"];
        rules.unless(episodes.is_multiple_of(group_size), &keys, text, help);
    }
    FisherSpec { estimator, episodes, seed: fisher.seed }
}

fn run(raw: &RawMask, rules: &mut Rules<'_>) -> String {
    let run = raw.run.clone().unwrap_or_default();
    if raw.run.is_none() {
        rules.broken(&["mask.run", "mask.type"], "`mask.run` is missing".into(), RUN_HELP);
    } else {
        run_id("mask.run", &run, rules);
    }
    run
}

const RUN_HELP: &str =
    "the whole id of a full run in the same results folder, 64 digits, as `tickets show` prints it";

/// That a text is the whole id of a run.
pub(super) fn run_id(key: &'static str, run: &str, rules: &mut Rules<'_>) {
    let whole = run.len() == ID_DIGITS && run.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let help = if key == "mask.run" {
        RUN_HELP
    } else {
        "the whole id of a finished run in the same results folder, 64 digits, as `tickets show` prints it"
    };
    rules.unless(whole, &[key], || format!("`{key}` = \"{run}\" is no id of a run"), help);
}

fn source(path: Option<&str>, key: &'static str, rules: &mut Rules<'_>) -> MaskSource {
    let none = MaskSource { path: std::path::PathBuf::new(), digest: String::new(), active: 0 };
    let help =
        "a mask file, made by `tickets masks build` or exported from PyTorch as name-to-bool safetensors";
    let Some(path) = path else {
        rules.broken(&[key, "mask.type"], format!("`{key}` is missing"), help);
        return none;
    };
    match rules.digests.mask(path) {
        Ok((digest, active)) => MaskSource { path: path.into(), digest, active },
        Err(error) => {
            rules.broken(&[key], format!("`{key}` cannot be used: {error}"), help);
            none
        }
    }
}

/// A mask that keeps nothing is found here where the shape of the base follows from the manifest: of the built-in one. A
/// random mask keeps a share of each tensor, the others of all entries together.
pub(super) fn keeps_something(mask: &MaskSpec, base: &PretrainSpec, rules: &mut Rules<'_>) {
    // Widths go up to 2^32, so products are taken in 128 bits.
    let at = |value: u32| u128::from(value);
    let (hidden, inner) = (at(base.hidden_size), at(base.intermediate_size));
    let keys = hidden / at(base.heads).max(1) * at(base.kv_heads);
    let embedding = hidden * at(base.vocab_size);
    let attention = hidden * (hidden + 1) + 2 * keys * (hidden + 1) + hidden * hidden;
    let layer = attention + 3 * hidden * inner + 2 * hidden;
    let all = embedding + at(base.layers) * layer + hidden;
    // Where only some of the base may be chosen from, or units are larger, the mask itself tells when it is made.
    let MaskSpec::Sparse(Sparse { modules: Modules::ALL, .. }) = mask else { return };
    let Some(&Choice { sparsity, rounding, scope, unit: Unit::Entry }) = mask.choice() else { return };
    let (elements, what) = match scope {
        Scope::PerTensor => (embedding.max(hidden * inner).max(hidden * hidden), "the largest tensor"),
        Scope::PerLayer => (embedding.max(layer), "the largest layer"),
        Scope::Global => (all, "the base"),
        Scope::PerGroup(_) => return,
    };
    let text = || format!("`mask.sparsity` = {sparsity} keeps nothing: {what} has {elements} entries");
    let count = usize::try_from(elements).unwrap_or(usize::MAX);
    let none = matches!(kept_count(count, sparsity, rounding), Ok(0));
    rules.unless(!none, &["mask.sparsity"], text, "train more, or a larger base");
}
