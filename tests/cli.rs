//! The commands as a user meets them: a grid from nothing to its report, the same command again, bad input of every
//! kind, a run that diverges. With the real program.
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod common;

use std::fs;

use common::{Bench, contents, only, rows, wait_for};
use serde_json::Value;

/// A bench with a manifest over a base that is there already.
fn bench(changes: &str) -> Bench {
    let bench = Bench::new();
    bench.manifest("grid.toml", changes);
    bench.give_base("results");
    bench
}

#[test]
fn a_grid_is_planned_run_reported_and_not_run_again() {
    let bench = Bench::new();
    bench.manifest("my grids/a grid.toml", "");
    let results = "my results";
    let sweep = ["sweep", "my grids/a grid.toml", "--results", results];
    let with = |command: &[&'static str]| [command, &["my grids/a grid.toml", "--results", results]].concat();

    let plan = bench.run(&[with(&["plan"]), vec!["--json"]].concat()).ends(0).json();
    let runs = plan["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        for key in ["id", "label", "axes", "state", "step", "reason"] {
            assert!(run.get(key).is_some(), "{key} is missing in {run}");
        }
        assert_eq!(run["state"], "pending");
    }
    assert!(!bench.path(results).exists(), "planning writes nothing");

    bench.run(&sweep).ends(0).names(&["3 of 3 runs done", "report:"]);
    assert!(!bench.results().exists(), "--results moves everything");
    let report = only_report(&bench, results);
    for file in [
        "summary.csv",
        "summary.md",
        "jaccard.csv",
        "index.html",
        "figures/lr_sweep.svg",
        "figures/lr_sweep.png",
    ] {
        assert!(report.join(file).is_file(), "{file}");
    }
    let header = fs::read_to_string(report.join("summary.csv")).unwrap();
    let columns: Vec<&str> = header.lines().next().unwrap().split(',').collect();
    let named = [
        "run",
        "mask.type",
        "mask.sparsity",
        "mask.seed",
        "optimizer.lr",
        "base/score",
        "eval/score",
        "state",
    ];
    assert!(named.iter().all(|name| columns.contains(name)), "{columns:?}");

    let before = contents(&bench.path(results));
    bench.run(&sweep).ends(0).names(&["all 3 runs are done already"]);
    assert_eq!(contents(&bench.path(results)), before, "nothing was repeated or rewritten");
    bench.run(&[with(&["report"]), vec!["--check"]].concat()).ends(0);
    let status = bench.run(&[with(&["status"]), vec!["--json"]].concat()).ends(0).json();
    assert_eq!(status["counts"]["done"], 3);

    let id = runs[1]["id"].as_str().unwrap();
    let shown = bench.run(&["show", &id[..10], "--results", results, "--json"]).ends(0).json();
    for key in ["weights_digest", "moments_digest"] {
        assert_eq!(shown[key].as_str().unwrap().len(), 64, "{key}");
    }
    // What it was made with, and what figures draw.
    let made = &shown["attempts"][0]["provenance"];
    assert_eq!(made["build"]["digest"].as_str().unwrap().len(), 64);
    assert_eq!((&made["device"], &made["libtorch"]), (&Value::from("cpu"), &Value::from("2.11.0")));
    assert!(made["command"].as_array().unwrap().iter().any(|word| word == "stage"), "{made}");
    for curve in ["eval/score", "reward/mean"] {
        let points = shown["curves"][curve].as_array().unwrap();
        assert_eq!(points.last().unwrap()[0], status["runs"][1]["steps"], "{curve}: {points:?}");
    }

    // How the scores came about, and how far their halves agree.
    let fisher = with(&["show"]);
    let fisher = [&fisher[..2], &["fisher"], &fisher[2..]].concat();
    bench
        .run(&fisher)
        .ends(0)
        .names(&["batch, square, 16 episodes, seed 0, float32", "halves of 8 and 8 episodes share 0."]);
    let shown = bench.run(&[fisher, vec!["--json"]].concat()).ends(0).json();
    let made = &shown["stages"]["scores"]["made"];
    assert_eq!((&made["loss"]["grpo.group_size"], &made["halves"]["episodes"][1]), (&4.into(), &8.into()));

    // The committed files alone are enough for the report.
    let alone = Bench::new();
    alone.manifest("my grids/a grid.toml", "");
    common::copy(&report, &alone.path(results).join(report.file_name().unwrap()));
    alone.run(&[with(&["report"]), vec!["--check"]].concat()).ends(0);
}

fn only_report(bench: &Bench, results: &str) -> std::path::PathBuf {
    let mut folders = fs::read_dir(bench.path(results)).unwrap().map(|entry| entry.unwrap().path());
    folders.find(|path| !path.ends_with(".store")).unwrap()
}

/// Sets every element of a float32 tensor of a safetensors file.
fn fill(bytes: &mut [u8], tensor: &str, value: f32) {
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offset = |i: usize| usize::try_from(header[tensor]["data_offsets"][i].as_u64().unwrap()).unwrap();
    for element in bytes[8 + length + offset(0)..8 + length + offset(1)].chunks_exact_mut(4) {
        element.copy_from_slice(&value.to_le_bytes());
    }
}

#[test]
fn a_run_that_is_not_finite_fails_with_its_step_and_the_others_finish() {
    let bench = bench("");
    let base = only(&bench.results().join(".store/base"));
    for folder in ["good", "bad"] {
        common::copy(&base, &bench.path(folder));
    }
    // Every weight is finite, but the logits of the second model are not.
    let weights = bench.path("bad/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    fill(&mut bytes, "model.norm.weight", 3e38);
    fs::write(&weights, bytes).unwrap();
    let text = common::tiny("grid = [{ mask.type = 'full', model.path = ['bad', 'good'] }]\ngrpo.steps = 2");
    let mut table: toml::Table = text.parse().unwrap();
    table
        .insert("model".into(), toml::Value::Table(toml::Table::from_iter([("path".into(), "good".into())])));
    bench.write("two.toml", &table.to_string());

    bench.run(&["sweep", "two.toml"]).ends(6).names(&[
        "1 of 2 runs done",
        "1 failed",
        "nan",
        "step 0",
        "finite",
    ]);
    let summary = fs::read_to_string(only_report(&bench, "results").join("summary.csv")).unwrap();
    assert!(summary.contains(",failed,") && summary.contains(",done,"), "{summary}");
    let status = bench.run(&["status", "two.toml", "--json"]).ends(0).json();
    let classes: Vec<&Value> = status["runs"].as_array().unwrap().iter().map(|run| &run["class"]).collect();
    assert_eq!(classes, [&Value::from("nan"), &Value::Null]);
}

#[test]
fn a_second_sweep_shares_the_work_of_the_first() {
    let bench = bench("grpo.steps = 60\neval.every = 60\ngrid = [{ mask.type = 'full' }]");
    let mut first = bench.start(&["sweep", "grid.toml"]);
    wait_for("rows", || bench.rows_written("results") > 1 || first.ended());
    let status = bench.run(&["status", "grid.toml", "--json"]).ends(0).json();
    assert_eq!(status["runs"][0]["state"], "running", "{status}");
    assert!(status["runs"][0]["eta_seconds"].as_f64() > Some(0.0), "{status}");
    let holder = status["runs"][0]["holder"]["pid"].to_string();
    let text = bench.run(&["status", "grid.toml"]).ends(0).names(&["running", &holder, "left"]);
    drop(text);
    // A worker has nothing to do here and says so; a sweep stays, because it writes the report.
    bench.run(&["work", "grid.toml"]).ends(0).names(&["1 under way elsewhere", &holder]);
    let second = bench.start(&["sweep", "grid.toml"]);
    first.finish().ends(0);
    second.finish().ends(0).names(&["1 of 1 runs done, 1 of them by other workers", "report: "]);
    assert_eq!(bench.run(&["show", "grid.toml", "full", "--json"]).ends(0).json()["attempt"], 1);
}

#[test]
fn bad_manifests_are_errors_that_name_the_place_and_the_remedy() {
    let bench = Bench::new();
    bench.write("empty.toml", "");
    bench.write("broken.toml", "title = \"x\"\n[grpo\nsteps = 3\n");
    bench.manifest("typo.toml", "grpo.stpes = 3");
    bench.manifest("range.toml", "mask.sparsity = 1.5");
    bench.manifest("type.toml", "grpo.steps = 'many'");
    bench.manifest("axis.toml", "grid = [{ mask.type = ['full'], exec.jobs = [1, 2] }]");
    for (manifest, phrases) in [
        ("nowhere.toml", &["nowhere.toml"][..]),
        ("broken.toml", &["broken.toml", "2"]),
        ("typo.toml", &["typo.toml", "stpes", "steps"]),
        ("range.toml", &["range.toml", "mask.sparsity", "1.5"]),
        ("type.toml", &["type.toml", "grpo.steps", "many"]),
        ("axis.toml", &["axis.toml", "exec.jobs"]),
        ("empty.toml", &["empty.toml"]),
    ] {
        for command in ["plan", "sweep"] {
            bench.run(&[command, manifest]).ends(3).names(phrases);
        }
    }
    assert!(!bench.results().exists(), "nothing was begun");
    bench.run(&["sweep"]).ends(2);
    bench.run(&["swep", "x.toml"]).ends(2);
}

#[test]
fn bad_surroundings_are_errors_that_name_the_thing() {
    let bench = bench("grid = [{ mask.type = 'full' }]");
    bench.write("file", "not a folder");
    bench.run(&["sweep", "grid.toml", "--results", "file/results"]).ends(5).names(&["file"]);
    bench.manifest("names.toml", "task.names = 'names.jsonl'");
    bench.run(&["sweep", "names.toml"]).ends(3).names(&["names.jsonl"]);
    bench.write("names.jsonl", "{\"names\": [\"Ada\"]}\n");
    let short = bench.run(&["sweep", "names.toml"]);
    assert!([3, 7].contains(&short.code), "{}", short.all());
    short.names(&["at most 1 distinct name"]);
    bench.write("names.jsonl", "{\"names\": 7}\n");
    bench.run(&["sweep", "names.toml"]).ends(7).names(&["names.jsonl", "line 1"]);
    // On a machine with a GPU this is no error.
    if std::env::var("TICKETS_REQUIRE_CUDA").is_err() && !std::path::Path::new("/dev/nvidiactl").exists() {
        bench.run(&["sweep", "grid.toml", "--set", "exec.device=\"cuda\""]).ends(7).names(&["CUDA", "hint"]);
    }
}

#[test]
fn a_model_directory_serves_as_base_and_its_damage_is_named() {
    let bench = bench("");
    let base = only(&bench.results().join(".store/base"));
    common::copy(&base, &bench.path("model"));
    let text = common::tiny("grid = [{ mask.type = 'random' }]\ngrpo.steps = 2");
    let mut table: toml::Table = text.parse().unwrap();
    table.insert(
        "model".into(),
        toml::Value::Table(toml::Table::from_iter([("path".into(), "model".into())])),
    );
    bench.write("dir.toml", &table.to_string());
    bench.run(&["sweep", "dir.toml", "--results", "a"]).ends(0);

    let weights = bench.path("model/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    bench.run(&["sweep", "dir.toml", "--results", "b"]).ends(6).names(&["model.safetensors", "bad-input"]);
    let config = fs::read_to_string(bench.path("model/config.json")).unwrap();
    fs::write(&weights, &whole).unwrap();
    bench.write(
        "model/config.json",
        &config.replace("\"intermediate_size\": 64", "\"intermediate_size\": 48"),
    );
    bench.run(&["sweep", "dir.toml", "--results", "c"]).ends(6).names(&["gate_proj", "[64, 32]", "[48, 32]"]);
    fs::remove_file(&weights).unwrap();
    let said = bench.run(&["sweep", "dir.toml", "--results", "d"]);
    assert_ne!(said.code, 0);
    said.names(&["model.path", "safetensors"]);
}

#[test]
fn a_trained_run_is_exported_and_runs_again_as_a_base() {
    let bench = bench("grid = [{ mask.type = 'full' }]\noptimizer.lr = 1e-2");
    bench.run(&["export", "grid.toml", "--run", "full", "--out", "early"]).names(&["not in the store"]);
    bench.run(&["sweep", "grid.toml"]).ends(0);
    bench.run(&["export", "grid.toml", "--run", "full", "--out", "trained"]).ends(0);
    bench.run(&["export", "grid.toml", "--base", "--out", "base"]).ends(0);
    let weights = |folder: &str| fs::read(bench.path(folder).join("model.safetensors")).unwrap();
    assert_ne!(weights("trained"), weights("base"));
    assert_eq!(
        weights("base"),
        fs::read(only(&bench.results().join(".store/base")).join("model.safetensors")).unwrap()
    );
    let mut table: toml::Table = common::tiny("grid = [{ mask.type = 'full' }]").parse().unwrap();
    table.insert(
        "model".into(),
        toml::Value::Table(toml::Table::from_iter([("path".into(), "trained".into())])),
    );
    bench.write("again.toml", &table.to_string());
    bench.run(&["sweep", "again.toml"]).ends(0);
    // The exported model scores at step 0 what the run scored at its end: the same weights, questions and draws.
    let scores = |name: &str| {
        let plan = bench.run(&["plan", name, "--json"]).ends(0).json();
        let run = bench.results().join(".store/run").join(plan["runs"][0]["id"].as_str().unwrap());
        let evals = rows(&common::newest_attempt(&run).unwrap().join("eval.jsonl"));
        evals.iter().map(|row| row["eval/score"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(scores("again.toml").first(), scores("grid.toml").last());
}

#[test]
fn parallel_and_sequential_sweeps_agree_to_the_bit() {
    let outcome = |jobs: &str| {
        let bench = bench("");
        bench.run(&["sweep", "grid.toml", "--jobs", jobs]).ends(0);
        let report = only_report(&bench, "results");
        ["metrics.csv", "evals.csv"].map(|file| common::reproducible_csv(&report.join(file)))
    };
    assert_eq!(outcome("1"), outcome("2"));
}

#[test]
fn a_task_can_be_looked_at() {
    let bench = Bench::new();
    bench.manifest("grid.toml", "task.max_turns = 2\ntask.min_turns = 2");
    bench.run(&["task", "show", "grid.toml", "-n", "2"]).ends(0).names(&[
        "episode 1",
        "turn 2",
        "reward of these answers: 1",
    ]);
    let said = bench.run(&["task", "show", "grid.toml", "-n", "3", "--json"]).ends(0);
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[0]["prompts"].as_array().unwrap().len(), lines[0]["expected"].as_array().unwrap().len()),
        (2, 2)
    );
}

#[test]
fn a_mask_drawn_by_numpy_is_stored_and_says_so() {
    let bench = bench("grid = [{ mask.type = 'random', mask.rng = 'numpy', mask.seed = 5 }]\ngrpo.steps = 1");
    bench.run(&["sweep", "grid.toml"]).ends(0);
    let folder = only(&bench.path("results/.store/mask"));
    let path = folder.join("mask.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = tickets::data::safetensors::metadata(&bytes, &path).unwrap();
    let recipe: Value = serde_json::from_str(&header["recipe"]).unwrap();
    assert_eq!((&recipe["rng"], &recipe["seed"]), (&"numpy".into(), &5.into()));
    // The embedding is drawn first: a tenth of 384 rows of 32.
    let file = tickets::data::safetensors::parse(&bytes, &path).unwrap();
    let stored = file.tensor("model.embed_tokens.weight").unwrap().data().to_vec();
    let mut drawn = tickets::generators::numpy::Generator::new(5).choice(12_288, 1_228).unwrap();
    drawn.sort_unstable();
    assert_eq!(stored, drawn.iter().flat_map(|index| index.to_le_bytes()).collect::<Vec<u8>>());
}
