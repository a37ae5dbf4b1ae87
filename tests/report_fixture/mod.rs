//! Results that look like those of a quickstart: full, Fisher and random masks, several rates and seeds, one failed
//! run, one pending. Deterministic: noise comes from the counter-based generator.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use tickets::counter::Counter;
use tickets::report::masks::{NamedMask, overlaps};
use tickets::report::{ResultSet, Row, RunResult, State, read, render};
use tickets::sparsity::{Mask, TensorSize};

/// Training steps of a finished run.
pub const STEPS: u32 = 150;

/// A run's recipe.
pub struct Recipe {
    pub mask: &'static str,
    pub sparsity: Option<f64>,
    pub seed: Option<u64>,
    pub lr: f64,
    /// Score at the end.
    pub target: f64,
    pub state: State,
}

const fn recipe(
    mask: &'static str,
    sparsity: Option<f64>,
    seed: Option<u64>,
    lr: f64,
    target: f64,
) -> Recipe {
    Recipe { mask, sparsity, seed, lr, target, state: State::Done }
}

/// The grid of a quickstart.
pub fn quickstart() -> ResultSet {
    let one = Some(0.99);
    let mut recipes = vec![
        recipe("full", None, None, 1e-4, 0.37),
        recipe("full", None, None, 3e-4, 0.43),
        recipe("full", None, None, 1e-3, 0.20),
        recipe("fisher", one, None, 3e-4, 0.24),
        recipe("fisher", one, None, 1e-3, 0.30),
        recipe("random", one, Some(0), 3e-3, 0.22),
        recipe("random", one, Some(1), 3e-3, 0.235),
        recipe("random", one, Some(0), 1e-2, 0.29),
        recipe("random", one, Some(1), 1e-2, 0.27),
        recipe("random", one, Some(0), 3e-2, 0.15),
        recipe("random", one, Some(1), 3e-2, 0.2),
    ];
    recipes[9].state = State::Failed;
    recipes[10].state = State::Pending;
    build("quickstart", &recipes)
}

/// Results of any grid.
pub fn build(manifest: &str, recipes: &[Recipe]) -> ResultSet {
    let runs: Vec<RunResult> =
        recipes.iter().enumerate().map(|(index, recipe)| run(index as u64, recipe)).collect();
    ResultSet {
        title: "Quickstart: three kinds of masks on a tiny base".to_owned(),
        question: "Does training 1 % of the parameters improve a tiny model as much as training all of them?"
            .to_owned(),
        manifest: manifest.to_owned(),
        overlaps: overlaps(&masks(recipes)),
        scores: Vec::new(),
        runs,
        mix_classes: false,
    }
    .normalised()
}

fn run(index: u64, recipe: &Recipe) -> RunResult {
    let mut axes = vec![("mask.type".to_owned(), json!(recipe.mask))];
    let mut label = recipe.mask.to_owned();
    if let Some(sparsity) = recipe.sparsity {
        axes.push(("mask.sparsity".to_owned(), json!(sparsity)));
        write!(label, "-{sparsity}").expect("a String");
    }
    if let Some(seed) = recipe.seed {
        axes.push(("mask.seed".to_owned(), json!(seed)));
        write!(label, "-s{seed}").expect("a String");
    }
    axes.push(("optimizer.lr".to_owned(), json!(recipe.lr)));
    write!(label, "-lr{:e}", recipe.lr).expect("a String");
    let last = match recipe.state {
        State::Done => STEPS,
        State::Failed => 41,
        State::Resumable => 80,
        State::Pending => 0,
    };
    let mut config = axes.clone();
    config.push(("grpo.steps".to_owned(), json!(STEPS)));
    let mut noise = Counter::new(index, "fixture", &[]);
    let base = 0.131;
    let metrics = (1..=last).map(|step| metric(step, base, recipe, &mut noise)).collect();
    let evaluated = if recipe.state == State::Pending { 0 } else { last / 25 + 1 };
    let evals = (0..evaluated)
        .map(|n| {
            let step = n * 25;
            let noise = if step == 0 { 0.0 } else { 0.012 * noise.normal() };
            row(json!({
                "step": step,
                "eval/score": (level(step, base, recipe.target) + noise).clamp(0.0, 1.0),
                "eval/stderr": 0.021,
                "eval/examples": 256,
                "eval/length": 31.5,
                "eval/truncated": 0.0,
                "eval_seconds": 0.61,
            }))
        })
        .collect();
    RunResult {
        id: blake3::hash(label.as_bytes()).to_hex().to_string(),
        label,
        axes,
        config,
        state: recipe.state,
        step: (recipe.state != State::Pending).then_some(u64::from(last)),
        reason: (recipe.state == State::Failed)
            .then(|| "nan: loss is not finite at step 41: reward 0.31, gradient norm inf".to_owned()),
        metrics,
        evals,
        done: (recipe.state == State::Done)
            .then(|| json!({"invariant": {"holds": true, "checked": 782_100, "changed": 0}, "weights_digest": "00ff", "device": "cpu", "threads": 1, "libtorch": "2.11.0"})),
    }
}

fn level(step: u32, base: f64, target: f64) -> f64 {
    base + (target - base) * (1.0 - (-f64::from(step) / 55.0).exp())
        / (1.0 - (-f64::from(STEPS) / 55.0).exp())
}

fn metric(step: u32, base: f64, recipe: &Recipe, noise: &mut Counter) -> Row {
    let density = recipe.sparsity.map_or(1.0, |sparsity| 1.0 - sparsity);
    let moved = recipe.lr * f64::from(step).powf(0.7);
    row(json!({
        "step": step,
        "reward/mean": (level(step, base, recipe.target) + 0.028 * noise.normal()).clamp(0.0, 1.0),
        "reward/std": 0.21,
        "groups/zero_variance": 0.0625,
        "entropy": 0.28 + 0.55 * (-f64::from(step) * recipe.lr.sqrt() * 1.2).exp() + 0.012 * noise.normal(),
        "kl/base": null,
        "clip_share": 0.0,
        "length/mean": 31.0,
        "grad_norm/masked": 0.8,
        "grad_norm/dense": 1.9,
        "grad_share/masked": density.sqrt(),
        "update/l2": moved * density.sqrt() * 900.0,
        "update/linf": moved,
        "update/changed_fp32": density * (1.0 - (-3.0 * f64::from(step)).exp()) * 0.9998,
        "update/changed_bf16": density * (moved / (moved + 0.004)),
        "update/changed_1e-5": density * (1.0 - (-moved / 1e-5 * 0.3).exp()),
        "rollout_tokens_per_second": 5123.25,
        "train_tokens_per_second": 9001.5,
        "rollout_seconds": 0.125,
        "train_seconds": 0.0625,
        "peak_memory_bytes": 412_876_800,
    }))
}

/// One random index set per distinct mask; Fisher's leans towards low indices, so that it is above chance with itself.
pub fn masks(recipes: &[Recipe]) -> Vec<NamedMask> {
    let mut masks: Vec<NamedMask> = Vec::new();
    for recipe in recipes {
        let Some(sparsity) = recipe.sparsity else { continue };
        let mut name = format!("{}-{sparsity}", recipe.mask);
        if let Some(seed) = recipe.seed {
            write!(name, "-s{seed}").expect("a String");
        }
        if masks.iter().any(|mask| mask.name == name) {
            continue;
        }
        let total = 790_000u64;
        let count = (total as f64 * (1.0 - sparsity)) as usize;
        let mut draw = Counter::new(masks.len() as u64, "mask", &[]);
        let mut indices: Vec<u32> = (0..count)
            .map(|_| {
                let place = draw.uniform();
                let place = if recipe.mask == "random" { place } else { place.powf(1.6) };
                (place * total as f64) as u32
            })
            .collect();
        indices.sort_unstable();
        indices.dedup();
        let tensors = vec![TensorSize { name: "w".to_owned(), shape: vec![total as usize] }];
        let mask = Mask::new(tensors, vec![indices]).expect("a mask");
        masks.push(NamedMask { name, mask, total: None });
    }
    masks
}

/// An object as a row.
pub fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        other => panic!("not an object: {other}"),
    }
}

/// What a report is, by path.
pub fn files(set: &ResultSet) -> BTreeMap<String, Vec<u8>> {
    render(set).expect("a report").into_iter().collect()
}

/// A file as text.
pub fn text(files: &BTreeMap<String, Vec<u8>>, path: &str) -> String {
    String::from_utf8(files[path].clone()).expect("utf-8")
}

/// Writes the files of a report.
#[expect(clippy::disallowed_methods, reason = "a test stands in for the store")]
pub fn write(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
}

/// Writes, reads back, and requires the same results and the same bytes.
pub fn restores(set: &ResultSet) -> BTreeMap<String, Vec<u8>> {
    let first = files(set);
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &first);
    let restored = read(dir.path()).expect("a report");
    assert_eq!(&restored, set);
    assert_eq!(files(&restored), first);
    first
}
