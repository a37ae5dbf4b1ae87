//! How masks and scores enter canonical bytes, by the rules of `put.rs`.

use super::canon::Canon;
use crate::sparsity::{
    Choice, Control, Criterion, FisherSpec, Keep, MaskSource, MaskSpec, Modules, Scope, Score, Sparse, Unit,
};

/// What was added to masks later is left out at what it was before: every module, no control, the type's own scope,
/// single entries, the highest scores.
pub(super) fn put_mask<'c>(canon: &mut Canon<'c>, mask: &'c MaskSpec) {
    canon.text("mask.type", mask.word());
    let MaskSpec::Sparse(Sparse { criterion, modules, control }) = mask else { return };
    match criterion {
        Criterion::Random { seed, rng, choice } => {
            // Its rounding is always the same.
            put_choice(canon, choice, Scope::PerTensor);
            canon.whole("mask.seed", *seed);
            canon.text("mask.rng", rng.word());
        }
        Criterion::Scored { by, keep, choice } => {
            put_choice(canon, choice, Scope::Global);
            canon.text("mask.rounding", choice.rounding.word());
            if *keep == Keep::Low {
                canon.text("mask.keep", keep.word());
            }
            if let Score::Moved { run } = by {
                canon.text("mask.run", run);
            }
        }
        Criterion::Layers { side, count } => {
            canon.text("mask.layers", side.word());
            canon.whole("mask.count", *count);
        }
        Criterion::Modules => {}
        Criterion::File { file, with } => {
            let MaskSource { path: _, digest, active: _ } = file;
            canon.text("mask.file.digest", digest);
            if let Some((_, MaskSource { path: _, digest, active: _ })) = with {
                canon.text("mask.other.digest", digest);
            }
        }
    }
    if *modules != Modules::ALL {
        canon.text("mask.modules", modules.text());
    }
    match control {
        Control::None => {}
        Control::Complement => canon.text("mask.control", control.word()),
        Control::Permuted { seed } => {
            canon.text("mask.control", control.word());
            canon.whole("mask.control_seed", *seed);
        }
    }
}

fn put_choice(canon: &mut Canon<'_>, choice: &Choice, own: Scope) {
    let Choice { sparsity, rounding: _, scope, unit } = choice;
    canon.number("mask.sparsity", *sparsity);
    if *scope != own {
        canon.text("mask.scope", scope.word());
    }
    if let Scope::PerGroup(group) = scope {
        canon.whole("mask.group", *group);
    }
    if *unit != Unit::Entry {
        canon.text("mask.unit", unit.word());
    }
}

pub(super) fn put_fisher(canon: &mut Canon<'_>, fisher: &FisherSpec) {
    let FisherSpec { estimator, episodes, seed } = fisher;
    canon.text("fisher.estimator", estimator.word());
    canon.whole("fisher.episodes", *episodes);
    canon.whole("fisher.seed", *seed);
}
