//! The disk space of a run before it is run: the files that `torch` and `store` write, counted.
//!
//! In: a configuration and the shape of its base. Out: bytes as `du` counts them: a file takes whole blocks, a folder one.
//! What is large is counted exactly: weights, scores, masks, saved states. What is small is not: rows by their measured
//! length, records and logs by a block each.
//!
//! Not counted: attempts that failed or were killed leave their rows behind, and what is in quarantine is nobody's.

use std::collections::BTreeMap;

use crate::data::Architecture;
use crate::data::safetensors::header_bytes;
use crate::manifest::{EvalSpec, ModelSource, RunConfig};
use crate::masks;
use crate::sparsity::MaskSpec;

use super::active::counts;
use super::architecture;

/// What a file system gives out at a time.
const BLOCK: u64 = 4096;
/// A row of `metrics.jsonl`: 742 bytes in the mean and 772 at most in the quickstart.
const METRICS_ROW: u64 = 800;
/// A row of `eval.jsonl`: 199 bytes in the mean and 205 at most in the quickstart.
const EVAL_ROW: u64 = 240;
/// Records of a run that fit a block: what it is, how it was made, its end, two logs, the claim on it.
const RECORDS: u64 = 6;
/// Folders of a run and of an attempt.
const FOLDERS: u64 = 6;
/// The part of `tokenizer.json` that every vocabulary has, and each token beyond the 256 bytes with its merge; measured
/// on vocabularies of 320 and 384 tokens.
const TOKENIZER: u64 = 8 << 10;
const TOKEN: u64 = 80;
/// Checkpoints of a run that are followed one by one; of more, as many stay as may.
const MOST_FOLLOWED: u64 = 1 << 16;
/// Values and two moments, float32 whatever the type of the weights is.
const PARTS: [&str; 3] = ["value", "first_moment", "second_moment"];

/// Space, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// At its fullest.
    pub peak_bytes: u64,
    /// What stays in the end.
    pub kept_bytes: u64,
}

impl Disk {
    /// Without what is there already.
    #[must_use]
    pub fn less(self, there: u64) -> Self {
        let kept_bytes = self.kept_bytes.saturating_sub(there);
        Self { peak_bytes: self.peak_bytes.saturating_sub(there).max(kept_bytes), kept_bytes }
    }

    /// A grid's: shared stages of so many bytes, and runs of which `jobs` are under way at the same time. Of each of the
    /// runs stays what it keeps; at the fullest moment the `jobs` that take the most beyond that are under way.
    pub fn of_grid(stages: u64, runs: &[Self], jobs: usize) -> Self {
        let mut beyond =
            runs.iter().map(|run| run.peak_bytes.saturating_sub(run.kept_bytes)).collect::<Vec<_>>();
        beyond.sort_unstable_by(|a, b| b.cmp(a));
        let kept_bytes = sum(std::iter::once(stages).chain(runs.iter().map(|run| run.kept_bytes)));
        let beyond = sum(beyond.into_iter().take(jobs.max(1)));
        Self { peak_bytes: kept_bytes.saturating_add(beyond), kept_bytes }
    }
}

/// The space of a run, and of the stages that it stands on and may share with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of the base: of the built-in one; another stays where it is.
    pub base: u64,
    /// Bytes of the scores; 0 where there are none.
    pub scores: u64,
    /// Bytes of the mask; 0 where everything is trained.
    pub mask: u64,
    /// Bytes of one saved state.
    pub state: u64,
    /// Of the run itself.
    pub run: Disk,
}

/// The space of a run; `None` where the shape of its base is not known, see [`architecture`].
pub fn footprint(config: &RunConfig) -> Option<Footprint> {
    architecture(config).map(|shape| footprint_of(config, &shape))
}

/// The space of a run on a base of this shape.
pub fn footprint_of(config: &RunConfig, shape: &Architecture) -> Footprint {
    let parameters = shape.parameters();
    let all = parameters.iter().map(|parameter| parameter.elements() as u64).sum::<u64>();
    let entries = counts(shape, &config.mask);
    let active = entries.iter().sum::<u64>();
    let recipe = [("format", "pt"), ("recipe", &" ".repeat(200))];
    // With the settings of the loss.
    let long_recipe = [("format", "pt"), ("recipe", &" ".repeat(900))];
    // The built-in base is float32, whatever type it is used in.
    let whole =
        || parameters.iter().map(|found| (&*found.name, "F32", &*found.shape, found.elements() as u64));
    let base = match &config.model.source {
        // A run's weights are copied with what stands beside its base.
        ModelSource::Run { .. } => {
            artifact(&[tensors(whole(), all, &[("format", "pt")]), TOKENIZER, 1, 1, 1, 1])
        }
        ModelSource::Pretrain(spec) => {
            let tokens = u64::from(spec.vocab_size.saturating_sub(256));
            let tokenizer = TOKENIZER.saturating_add(tokens.saturating_mul(TOKEN));
            // Four small files beside the two.
            let files = [tensors(whole(), all, &[("format", "pt")]), tokenizer, 1, 1, 1, 1];
            artifact(&files)
        }
        // What was looked at once: names and shapes.
        ModelSource::Directory { .. } | ModelSource::Hub { .. } => {
            artifact(&[sum(parameters.iter().map(|found| found.name.len() as u64 + 120))])
        }
    };
    let scores =
        if config.mask.gradients().is_some() { artifact(&[tensors(whole(), all, &long_recipe)]) } else { 0 };
    let flat = entries.iter().map(|count| [*count as usize]).collect::<Vec<_>>();
    let mask = if config.mask == MaskSpec::Full {
        0
    } else {
        let of = parameters.iter().zip(&flat).map(|(found, n)| (&*found.name, "I32", &n[..], n[0] as u64));
        let shapes = masks::shapes_text(&shape.sizes());
        artifact(&[tensors(of, active, &[recipe[0], recipe[1], ("shapes", &shapes)])])
    };
    let grpo = &config.grpo;
    let updates = u64::from(grpo.steps) * u64::from(grpo.minibatches) * u64::from(grpo.updates_per_batch);
    let names = parameters.iter().flat_map(|found| PARTS.map(|part| format!("{part}/{}", found.name)));
    let names = names.collect::<Vec<_>>();
    let vectors = names.iter().zip(flat.iter().flat_map(|n| [n; PARTS.len()]));
    let vectors = vectors.map(|(name, n)| (name.as_str(), "F32", &n[..], n[0] as u64));
    let metadata = [("format", "pt"), ("optimizer_steps", &*updates.to_string())];
    let state = tensors(vectors, active.saturating_mul(PARTS.len() as u64), &metadata);
    Footprint { base, scores, mask, state, run: run(config, state) }
}

/// A run that saves states of so many bytes.
fn run(config: &RunConfig, state: u64) -> Disk {
    let (steps, exec) = (u64::from(config.grpo.steps), &config.exec);
    let evals = if config.evals.is_empty() {
        evaluations(steps, &config.eval)
    } else {
        sum(config.evals.iter().map(|named| evaluations(steps, &named.eval)))
    };
    let rows = file(steps.saturating_mul(METRICS_ROW)) + file(evals.saturating_mul(EVAL_ROW));
    let small = (RECORDS + FOLDERS) * BLOCK + rows;
    // The state, its marker, their folder.
    let checkpoint = file(state).saturating_add(2 * BLOCK);
    // One of the base, and one after every so many steps but the last.
    let every = exec.checkpoint_every.max(1);
    let saved = 1 + steps.saturating_sub(1) / u64::from(every);
    let newest = saved.min(u64::from(exec.keep_checkpoints.max(1)));
    // Of the older ones that of the base does not stay. At some time as many of them are there as fit.
    let fit = (u64::from(exec.keep_mib) << 20) / state.max(1);
    let older = (saved - newest).saturating_sub(1);
    // One more is being written: a checkpoint, or in the end the state that stays.
    let under_way = (newest + 1).saturating_add(older.min(fit)).saturating_mul(checkpoint);
    let kept = staying(older, saved - 1, every, fit).saturating_mul(checkpoint);
    Disk {
        peak_bytes: small.saturating_add(under_way),
        kept_bytes: small.saturating_add(file(state)).saturating_add(kept),
    }
}

/// How many of `count` checkpoints, one after every `every` steps, stay in the end where no more than `fit` may: when there
/// are more, those stay that lie at multiples of the smallest power of two that serves, as `store::checkpoint` has it. While
/// the run goes on the first `older` come up for this one by one, in the end the others at once.
fn staying(older: u64, count: u64, every: u32, fit: u64) -> u64 {
    if fit == 0 || count <= fit || count > MOST_FOLLOWED {
        return count.min(fit);
    }
    let mut there = Vec::new();
    let thin = |there: &mut Vec<u64>| {
        let mut power = 0;
        while there.len() as u64 > fit && power < u32::BITS {
            there.retain(|step| step.trailing_zeros() >= power);
            power += 1;
        }
    };
    for number in 1..=older {
        there.push(number * u64::from(every));
        thin(&mut there);
    }
    there.extend((older + 1..=count).map(|number| number * u64::from(every)));
    thin(&mut there);
    (there.len() as u64).min(fit)
}

/// How often is evaluated: before the first step, after every so many, after the last.
fn evaluations(steps: u64, eval: &EvalSpec) -> u64 {
    1 + steps.div_ceil(u64::from(eval.every.max(1)))
}

/// A safetensors file of these tensors, given with their elements, of `elements` together; four bytes each.
fn tensors<'a>(
    list: impl Iterator<Item = (&'a str, &'a str, &'a [usize], u64)>,
    elements: u64,
    metadata: &[(&str, &str)],
) -> u64 {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let metadata = metadata.collect::<BTreeMap<_, _>>();
    let list = list.map(|(name, dtype, shape, count)| (name, dtype, shape, count.saturating_mul(4)));
    header_bytes(list, &metadata).saturating_add(elements.saturating_mul(4))
}

/// A folder with these files and its marker.
fn artifact(files: &[u64]) -> u64 {
    sum(files.iter().map(|bytes| file(*bytes)).chain([2 * BLOCK]))
}

/// A file in whole blocks.
fn file(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn sum(bytes: impl IntoIterator<Item = u64>) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}
