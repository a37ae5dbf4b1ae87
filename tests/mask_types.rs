//! Every type of mask in training, with the real program: the store's mask is what the commands build from the same files, and
//! nothing else is trained (a run checks that itself, bit by bit, before it is done).
#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use common::{Bench, only};
use tickets::masks;
use tickets::sparsity::{Mask, ModuleKind, layer_of};

/// The runs of a plan: ids, masks and scores by label.
fn runs(bench: &Bench, manifest: &str) -> BTreeMap<String, Value> {
    let plan = bench.run(&["plan", manifest, "--json"]).ends(0).json();
    let label = |run: &Value| run["label"].as_str().unwrap().to_owned();
    plan["runs"].as_array().unwrap().iter().map(|run| (label(run), run.clone())).collect()
}

fn stage(run: &Value, stage: &str) -> String {
    run["stages"][stage].as_str().unwrap_or_else(|| panic!("{stage}: {run}")).to_owned()
}

fn mask_path(bench: &Bench, run: &Value) -> PathBuf {
    bench.results().join(".store/mask").join(stage(run, "mask")).join("mask.safetensors")
}

fn read(path: &Path) -> Mask {
    masks::read(path, None).unwrap_or_else(|error| panic!("{error}")).mask
}

fn recipe(path: &Path) -> Value {
    masks::read(path, None).unwrap().recipe.unwrap()
}

const GRID: &str = r#"
    grpo = { steps = 1, rollouts_per_step = 8 }
    optimizer.lr = 1e-2
    fisher.episodes = 16
    mask.sparsity = 0.75
    grid = [
        { mask.type = "full" },
        { mask.type = "random", mask.scope = ["global", "per_layer"], mask.rng = "numpy" },
        { mask.type = "random", mask.scope = "per_group", mask.group = 8 },
        { mask.type = "random", mask.unit = ["row", "column"], mask.modules = "attention+mlp" },
        { mask.type = ["fisher", "gradient", "snip"], mask.rounding = "ceil" },
        { mask.type = "fisher", mask.rounding = "floor", mask.scope = "per_layer", mask.modules = "-embeddings" },
        { mask.type = "magnitude", mask.keep = ["high", "low"], mask.scope = "per_tensor" },
        { mask.type = "magnitude", mask.unit = "row", mask.scope = "global" },
        { mask.type = "snip", mask.control = ["complement", "permuted"] },
        { mask.type = "layers", mask.layers = "last", mask.modules = ["all", "mlp"] },
        { mask.type = "modules", mask.modules = ["norms+biases", "-norms-biases"] },
    ]
"#;

/// What a run varies in, and arguments.
type Same = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// Runs by what they vary in, and what builds the same mask from files: `SCORES` stands for the scores of the run.
#[rustfmt::skip]
const SAME: &[Same] = &[
    (&[("type", "random"), ("scope", "global")], &["--scope", "global", "--rng", "numpy"]),
    (&[("type", "random"), ("scope", "per_layer")], &["--scope", "per_layer", "--rng", "numpy"]),
    (&[("type", "random"), ("scope", "per_group")], &["--scope", "per_group", "--group", "8"]),
    (&[("type", "random"), ("unit", "row")], &["--unit", "row", "--modules", "attention+mlp"]),
    (&[("type", "random"), ("unit", "column")], &["--unit", "column", "--modules", "mlp+attention"]),
    (&[("type", "fisher"), ("rounding", "ceil")], &["--rounding", "ceil", "--scores", "SCORES"]),
    (&[("type", "fisher"), ("scope", "per_layer")], &["--scope", "per_layer", "--modules", "-embeddings", "--scores", "SCORES"]),
    (&[("type", "gradient")], &["--rounding", "ceil", "--scores", "SCORES"]),
    (&[("type", "snip"), ("rounding", "ceil")], &["--rounding", "ceil", "--scores", "SCORES"]),
    (&[("type", "snip"), ("control", "complement")], &["--scores", "SCORES", "--control", "complement"]),
    (&[("type", "snip"), ("control", "permuted")], &["--scores", "SCORES", "--control", "permuted"]),
    (&[("type", "magnitude"), ("keep", "low")], &["--scope", "per_tensor", "--keep", "low"]),
    (&[("type", "magnitude"), ("unit", "row")], &["--unit", "row"]),
    (&[("type", "layers"), ("modules", "mlp")], &["--layers", "last", "--modules", "mlp"]),
    (&[("type", "modules"), ("modules", "-norms-biases")], &["--modules", "-norms-biases"]),
];

/// The only run whose mask is so.
fn run_of<'r>(runs: &'r BTreeMap<String, Value>, wanted: &[(&str, &str)]) -> &'r Value {
    let is = |run: &&Value| wanted.iter().all(|(key, value)| run["axes"][format!("mask.{key}")] == *value);
    let found: Vec<&Value> = runs.values().filter(is).collect();
    let [run] = found.as_slice() else { panic!("{wanted:?}: {:#?}", runs.keys()) };
    run
}

#[test]
fn every_type_trains_its_own_entries_and_the_commands_build_the_same() {
    let bench = Bench::new();
    bench.manifest("grid.toml", GRID);
    bench.run(&["sweep", "grid.toml"]).ends(0);
    let base = only(&bench.results().join(".store/base"));
    let base = base.to_str().unwrap();
    let runs = runs(&bench, "grid.toml");
    let labels: Vec<&str> = runs.keys().map(String::as_str).collect();
    assert_eq!(runs.len(), 19, "{labels:#?}");
    for (label, run) in runs.iter().filter(|(label, _)| !label.starts_with("full")) {
        let path = mask_path(&bench, run);
        let (mask, recipe) = (read(&path), recipe(&path));
        assert_eq!(recipe["active"].as_u64().unwrap() as usize, mask.active(), "{label}");
        assert_eq!(recipe["type"], run["axes"]["mask.type"], "{label}");
    }
    for (number, (wanted, arguments)) in SAME.iter().enumerate() {
        let run = run_of(&runs, wanted);
        let scores = run["stages"]["scores"].as_str().map(|id| {
            let file = bench.results().join(".store/scores").join(id).join("scores.safetensors");
            file.to_str().unwrap().to_owned()
        });
        let word = |word: &&str| if *word == "SCORES" { scores.clone().unwrap() } else { (*word).to_owned() };
        let arguments: Vec<String> = arguments.iter().map(word).collect();
        let out = format!("built-{number}.safetensors");
        let mut all = vec!["masks", "build", "--model", base, "--out", &out, "--type", wanted[0].1];
        if !["layers", "modules"].contains(&wanted[0].1) {
            all.extend(["--sparsity", "0.75"]);
        }
        all.extend(arguments.iter().map(String::as_str));
        bench.run(&all).ends(0);
        assert_eq!(read(&bench.path(&out)), read(&mask_path(&bench, run)), "{wanted:?}");
    }
    let of = |wanted: &[(&str, &str)]| read(&mask_path(&bench, run_of(&runs, wanted)));
    // Controls: no entry in common with the mask, or as many of every tensor.
    let (snip, others, permuted) = (
        of(&[("type", "snip"), ("rounding", "ceil")]),
        of(&[("control", "complement")]),
        of(&[("control", "permuted")]),
    );
    assert!(snip.overlap(&others).unwrap().intersection <= 1, "floor and ceil differ by an entry");
    assert_eq!(
        others.complement().indices().iter().map(Vec::len).collect::<Vec<_>>(),
        permuted.indices().iter().map(Vec::len).collect::<Vec<_>>()
    );
    // Squares and absolute values of one gradient rank alike; they are scores of their own all the same.
    let (fisher, gradient) = (of(&[("type", "fisher"), ("rounding", "ceil")]), of(&[("type", "gradient")]));
    assert!(fisher.overlap(&gradient).unwrap().jaccard().unwrap() > 0.99);
    let parts = |mask: &Mask, keep: &dyn Fn(&str) -> bool| {
        mask.tensors()
            .iter()
            .zip(mask.indices())
            .all(|(tensor, indices)| indices.len() == if keep(&tensor.name) { tensor.elements() } else { 0 })
    };
    let last = |name: &str| layer_of(name) == Some(1);
    assert!(parts(&of(&[("type", "layers"), ("modules", "all")]), &last));
    let small = |name: &str| matches!(ModuleKind::of(name), ModuleKind::Norms | ModuleKind::Biases);
    assert!(parts(&of(&[("type", "modules"), ("modules", "norms+biases")]), &small));
    let status = bench.run(&["status", "grid.toml", "--json"]).ends(0).json();
    assert_eq!(status["counts"]["done"], 19, "{status}");
}

#[test]
fn the_oracle_subnetwork_is_made_of_a_finished_full_run_which_goes_first() {
    let bench = Bench::new();
    bench.manifest("full.toml", "grpo.steps = 2\noptimizer.lr = 1e-2\ngrid = [{ mask.type = 'full' }]");
    let full = runs(&bench, "full.toml").into_values().next().unwrap();
    let id = full["id"].as_str().unwrap();
    let grid =
        |types: &str| format!("grpo.steps = 2\noptimizer.lr = 1e-2\nmask.sparsity = 0.9\ngrid = [{types}]");
    let moved = format!("{{ mask.type = 'moved', mask.run = '{id}' }}");
    // Alone it cannot be made, and says what is missing.
    bench.manifest("moved.toml", &grid(&moved));
    bench.run(&["sweep", "moved.toml"]).names(&[&id[..12], "it has no result in this results folder"]);
    // Beside the full run it waits for it, though it stands before it.
    bench.manifest("both.toml", &grid(&format!("{moved}, {{ mask.type = 'full' }}")));
    bench.run(&["sweep", "both.toml"]).ends(0);
    let found = runs(&bench, "both.toml");
    let run = run_of(&found, &[("type", "moved")]);
    let mask = mask_path(&bench, run);
    assert_eq!(recipe(&mask)["run"], id);
    // The same from what the run exports.
    bench.run(&["export", "both.toml", &id[..16], "--format", "hf", "--out", "trained"]).ends(0);
    let base = only(&bench.results().join(".store/base"));
    let base = base.to_str().unwrap();
    let tail = ["--type", "moved", "--moved", "trained", "--sparsity", "0.9", "--out", "built.safetensors"];
    bench.run(&[&["masks", "build", "--model", base], tail.as_slice()].concat()).ends(0);
    assert_eq!(read(&bench.path("built.safetensors")), read(&mask));
    // A kept run keeps the run that chose its mask, though no kept manifest has that one.
    let gc = ["gc", "--keep", "moved.toml", "--runs", "--dry-run", "--json"];
    let said = bench.run(&gc).ends(0);
    assert!(!said.out.contains(id), "{}", said.all());
    // A sparse run's changes are no oracle.
    let sparse = run["id"].as_str().unwrap().to_owned();
    bench.manifest("again.toml", &grid(&moved.replace(id, &sparse)));
    bench.run(&["sweep", "again.toml"]).names(&["it is no full run"]);
}

#[test]
fn masks_from_files_train_and_are_checked_again() {
    let bench = Bench::new();
    bench.give_base("results");
    bench.manifest("grid.toml", "grpo.steps = 1\ngrid = [{ mask.type = 'full' }]");
    bench.run(&["sweep", "grid.toml"]).ends(0);
    let base = only(&bench.results().join(".store/base"));
    let base = base.to_str().unwrap();
    for seed in ["1", "2"] {
        let out = format!("m{seed}.safetensors");
        let head = ["masks", "build", "--model", base, "--out", &out];
        bench.run(&[&head[..], &["--type", "random", "--sparsity", "0.5", "--seed", seed]].concat()).ends(0);
    }
    bench.run(&["masks", "export", "m1.safetensors", "--out", "bools.safetensors"]).ends(0);
    bench.manifest(
        "files.toml",
        "grpo.steps = 1\ngrid = [{ mask.type = 'file', mask.file = 'bools.safetensors' }, { mask.type = ['union', 'intersection'], \
         mask.file = 'm1.safetensors', mask.other = 'm2.safetensors' }]",
    );
    bench.run(&["sweep", "files.toml"]).ends(0);
    let (one, two) = (read(&bench.path("m1.safetensors")), read(&bench.path("m2.safetensors")));
    for run in runs(&bench, "files.toml").values() {
        let mask = read(&mask_path(&bench, run));
        let expected = match run["axes"]["mask.type"].as_str().unwrap() {
            "file" => one.clone(),
            "union" => one.union(&two).unwrap(),
            _ => one.intersection(&two).unwrap(),
        };
        assert_eq!(mask, expected, "{run}");
    }
}
