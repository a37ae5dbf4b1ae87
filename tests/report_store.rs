//! `tickets report` on a real plan and store, and again on the committed files alone.

#![cfg(feature = "tables")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::{Value, json};
use tickets::cli::report::{ReportArgs, run};
use tickets::exit::{Code, Failure};
use tickets::manifest::{Overrides, load};
use tickets::plan::{Plan, expand};
use tickets::report::{Row, State, collect};
use tickets::store::{Stage, Store};

const MANIFEST: &str = r#"
title = "Small & exact"
question = "Does it add up?"

[model.pretrain]
layers = 1

[task]
type = "alphabet_sort"

[[grid]]
mask.type = "full"
optimizer.lr = [1e-4, 1e-3]

[[grid]]
mask.type = "random"
mask.sparsity = 0.5
mask.seed = [0, 1]
optimizer.lr = 1e-3

[[grid]]
mask.type = "fisher"
mask.sparsity = 0.5
optimizer.lr = 1e-3
"#;

/// A clone with a manifest and a results folder.
struct Clone {
    folder: tempfile::TempDir,
    plan: Plan,
}

fn row(value: Value) -> Row {
    let Value::Object(row) = value else { panic!("not an object: {value}") };
    row
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ReportArgs,
}

#[expect(clippy::disallowed_methods, reason = "a test sets the scene")]
fn clone() -> Clone {
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().join("manifests/micro");
    std::fs::create_dir_all(&manifests).expect("made");
    let path = manifests.join("small.toml");
    std::fs::write(&path, MANIFEST).expect("written");
    let manifest = load(path.to_str().expect("utf-8"), &Overrides::default()).expect("a manifest");
    Clone { plan: expand(manifest).expect("a plan"), folder }
}

/// A safetensors file of int32 vectors: an 8-byte header length, JSON, data.
fn mask_file(tensors: &[(&str, &[i32])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, indices) in tensors {
        let start = data.len();
        data.extend(indices.iter().flat_map(|index| index.to_le_bytes()));
        let entry = json!({"dtype": "I32", "shape": [indices.len()], "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text, &data].concat()
}

impl Clone {
    fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    fn mask(&self, store: &Store, run: usize, tensors: &[(&str, &[i32])], active: u64) {
        let id = self.plan.runs[run].stages.mask.clone().expect("a mask");
        let meta = json!({"active": active, "total": 10});
        store
            .publish(Stage::Mask, &id, &[("mask.safetensors", &mask_file(tensors))], meta)
            .expect("published");
    }

    fn finish(&self, store: &Store, run: usize, score: f64) {
        self.finish_with(store, run, score, json!({"invariant": {"holds": true}}));
    }

    fn finish_with(&self, store: &Store, run: usize, score: f64, meta: Value) {
        let mut attempt = store.begin(self.plan.runs[run].id.as_str()).expect("begun");
        for (step, score) in [(0, 0.25), (2, score)] {
            attempt
                .eval(&row(json!({"step": step, "eval/score": score, "eval/stderr": 0.01})))
                .expect("a row");
        }
        for step in 1..=2 {
            attempt.metrics(&row(json!({"step": step, "reward/mean": 0.5, "kl/base": null}))).expect("a row");
        }
        attempt.finish(&[], meta).expect("finished");
    }

    /// Two of five runs are finished, one has failed.
    fn fill(&self) {
        let store = Store::open(&self.results()).expect("a store");
        self.finish(&store, 0, 0.75);
        self.finish(&store, 2, 0.5);
        let attempt = store.begin(self.plan.runs[3].id.as_str()).expect("begun");
        attempt
            .fail(&json!({"class": "nan", "step": 1, "message": "the loss is not finite"}))
            .expect("recorded");
        self.mask(&store, 2, &[("w", &[0, 1, 2]), ("x", &[0, 3])], 5);
        self.mask(&store, 3, &[("w", &[1, 2, 4, 5, 6])], 5);
    }

    fn report(&self, flags: &[&str]) -> Result<String, Failure> {
        let manifest = self.plan.manifest.path.display().to_string();
        let results = self.results().display().to_string();
        let line = [&["report", &manifest, "--no-env", "--results", &results], flags].concat();
        let mut out = Vec::new();
        let code = run(&Line::parse_from(line).args, &mut out)?;
        assert_eq!(code, Code::Ok);
        Ok(String::from_utf8(out).expect("utf-8"))
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.results().join("micro/small")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), std::fs::read(path).expect("a file"));
                }
            }
        }
        files
    }
}

#[test]
fn results_are_collected_with_settings_states_and_overlaps() {
    let clone = clone();
    clone.fill();
    let store = Store::open_read_only(&clone.results()).expect("a store");
    let set = collect(&clone.plan, &store).expect("results");
    assert_eq!((set.title.as_str(), set.manifest.as_str()), ("Small & exact", "micro/small"));
    let states: Vec<State> = set.runs.iter().map(|run| run.state).collect();
    assert_eq!(states, [State::Done, State::Pending, State::Done, State::Failed, State::Pending]);
    assert_eq!(set.runs[0].step, Some(2));
    assert_eq!(set.runs[3].reason.as_deref(), Some("nan: the loss is not finite"));
    let axes = |run: usize| {
        set.runs[run].axes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(axes(0), ["mask.type=\"full\"", "optimizer.lr=0.0001"]);
    assert_eq!(axes(2), ["mask.type=\"random\"", "mask.sparsity=0.5", "mask.seed=0", "optimizer.lr=0.001"]);
    assert!(!set.runs[0].metrics[0].contains_key("kl/base"), "null is missing");
    // w has 1 and 2 in common; 5 + 5 - 2 = 8; both densities are 1/2: 0.25 / 0.75.
    let [pair] = &set.overlaps[..] else { panic!("{:?}", set.overlaps) };
    assert_eq!((pair.a.as_str(), pair.b.as_str()), ("random-0.5-s0", "random-0.5-s1"));
    assert_eq!((pair.count_a, pair.count_b, pair.intersection, pair.union, pair.total), (5, 5, 2, 8, 10));
    let is = |got: Option<f64>, wanted: f64| (got.expect("a number") - wanted).abs() < 1e-15;
    assert!(is(pair.jaccard, 0.25) && is(pair.chance, 1.0 / 3.0), "{pair:?}");
    // Mean 2.5, variance 2.5 · 0.5 · 5/9 = 6.25/9: (2 - 2.5)/(2.5/3). Of how many entries w is nobody says.
    assert!(is(pair.z, -0.6), "{pair:?}");
    assert_eq!((pair.chance_per_tensor, pair.z_per_tensor), (None, None));
}

#[test]
fn every_setting_but_the_operational_ones_is_kept() {
    let clone = clone();
    let run = &clone.plan.runs[4];
    let selection = tickets::manifest::Selection::of(&run.config);
    let kept: Vec<String> = tickets::plan::settings(&run.config).into_iter().map(|(key, _)| key).collect();
    for key in tickets::manifest::KEYS {
        // Which names of a row an episode takes has a meaning for a name list of one's own alone.
        let own_names = key.path == "task.row_names";
        // A key that came later is left out at the value that stands for what was before it, and one without a value too.
        let new = [
            "grpo.level",
            "grpo.kl_corrected",
            "grpo.activations_mib",
            "optimizer.schedule",
            "optimizer.warmup_steps",
            "optimizer.decay",
            "task.episodes",
            "task.order",
            "eval.rows",
            "mask.unit",
            "mask.keep",
            "mask.modules",
            "mask.control",
        ];
        let later = new.contains(&key.path) || (key.preset().is_none() && key.path != "task.type");
        // Which split of a dataset is taken has a meaning for a dataset alone.
        let of_dataset = key.path == "task.split";
        let local = key.path.starts_with("exec.") || key.path == "model.path";
        if selection.applies(key.path) && !(local || own_names || later || of_dataset) {
            let item = format!("{}.", key.path);
            let found = kept.iter().any(|kept| kept == key.path || kept.starts_with(&item));
            assert!(found, "{} is not in runs.json", key.path);
        }
    }
}

#[test]
fn a_report_is_written_checked_and_restored_without_the_store() {
    let clone = clone();
    clone.fill();
    let said = clone.report(&[]).expect("a report");
    assert!(said.contains("PARTIAL 2/5 runs: 2 done, 1 failed, 2 pending."), "{said}");
    assert!(said.contains("failed: random-0.5-s1-lr1e-3 at step 1: nan: the loss is not finite"), "{said}");
    assert!(said.contains("index.html"), "{said}");
    let written = clone.files();
    assert!(written.keys().any(|path| path.ends_with("figures/jaccard.svg")));
    clone.report(&["--check"]).expect("nothing would change");

    // What a clone has: the files, no store.
    #[expect(clippy::disallowed_methods, reason = "a clone has no store")]
    std::fs::remove_dir_all(clone.results().join(".store")).expect("removed");
    clone.report(&["--check"]).expect("nothing would change");
    let object: Value = serde_json::from_str(&clone.report(&["--json"]).expect("a report")).expect("JSON");
    assert_eq!(
        (&object["changed"], &object["complete"], &object["note"]),
        (&json!([]), &json!(false), &Value::Null)
    );
    assert_eq!(object["runs"][0]["eval/score"], 0.75);
    assert_eq!(clone.files(), written);
    assert!(!clone.results().join(".store").exists(), "a report of files alone makes no store");

    // A figure that was touched is found by --check, and written again without it.
    let figure = clone.results().join("micro/small/figures/lr_sweep.svg");
    spoil(&figure);
    let failure = clone.report(&["--check"]).expect_err("a file differs");
    assert_eq!(failure.code, Code::Store);
    assert!(failure.to_string().contains("1 of "), "{failure}");
    assert!(failure.to_string().contains("figures/lr_sweep.svg"), "{failure}");
    assert_ne!(clone.files(), written, "--check writes nothing");
    clone.report(&[]).expect("a report");
    assert_eq!(clone.files(), written);
}

#[expect(clippy::disallowed_methods, reason = "a test spoils a file")]
fn spoil(path: &Path) {
    std::fs::write(path, "spoiled").expect("written");
}

#[test]
fn a_plan_without_any_result_has_a_report() {
    let clone = clone();
    let said = clone.report(&[]).expect("a report");
    assert!(said.contains("PARTIAL 0/5 runs: 5 pending."), "{said}");
}

#[test]
fn a_mask_that_contradicts_its_record_is_an_error() {
    let clone = clone();
    clone.fill();
    let store = Store::open(&clone.results()).expect("a store");
    clone.mask(&store, 4, &[("w", &[3, 2])], 2);
    let failure = clone.report(&[]).expect_err("indices do not ascend");
    let said = failure.to_string();
    assert!(said.contains("of fisher-0.5: read the mask "), "{said}");
    assert!(said.contains("mask.safetensors: tensor w, position 1: index 2 comes after 3"), "{said}");
    assert_eq!(failure.code, Code::Store);
}

#[test]
fn classes_are_kept_apart_until_they_are_mixed() {
    let clone = clone();
    let store = Store::open(&clone.results()).expect("a store");
    let class = |threads: u32| json!({"device": "cpu", "threads": threads, "inputs": {"mask": threads}});
    for (run, score, threads) in [(0, 0.75, 1), (2, 0.5, 1), (3, 0.25, 2)] {
        clone.finish_with(&store, run, score, json!({"classes": [class(threads)]}));
    }
    let ids = clone.plan.runs.iter().map(|run| run.id.as_str());
    let found = store.run_classes(ids).expect("classes");
    let of = |run: usize| found.finished[run].1.clone().expect("a class");
    assert_eq!((found.finished.len(), found.several()), (3, true));
    assert_eq!(found.finished[2].0, clone.plan.runs[3].id.as_str());
    assert_eq!(found.majority.as_ref(), Some(&of(0)));
    drop(store);

    let line = |said: &str| said.lines().find(|line| line.starts_with("classes: ")).map(str::to_owned);
    let object = |flags: &[&str]| -> Value {
        serde_json::from_str(&clone.report(&[flags, &["--json"]].concat()).expect("a report")).expect("JSON")
    };
    let said = clone.report(&[]).expect("a report");
    assert_eq!(
        line(&said).expect("a line"),
        "classes: The finished runs are of 2 classes, which differ in threads: no curve, mean or best rate is over \
         runs of two of them. --mix-classes mixes them."
    );
    assert!(said.contains(&format!("random 50 % [class {}]", of(2))), "{said}");
    let apart = clone.files();
    let told = object(&[]);
    assert_eq!(
        (&told["mix_classes"], &told["classes_differ_in"], &told["runs"][1]["class"]),
        (&json!(false), &json!(["threads"]), &Value::Null)
    );
    assert_eq!(told["runs"][3]["class"], of(2));
    assert_eq!(
        told["classes"][0],
        json!({"class": of(0), "runs": 2, "description": "cpu, 1 thread", "made_with": [{"device": "cpu", "threads": 1}]})
    );

    // The check is of the report that is there; with the flag it is of the report that the flag would make.
    clone.report(&["--check"]).expect("nothing would change");
    let failure = clone.report(&["--check", "--mix-classes"]).expect_err("it is not mixed");
    assert!(failure.to_string().contains("runs.json"), "{failure}");
    let said = clone.report(&["--mix-classes"]).expect("a report");
    assert!(
        line(&said)
            .expect("a line")
            .starts_with("classes: Runs of 2 classes are mixed, which differ in threads")
    );
    let mixed = clone.files();
    assert_ne!(mixed, apart);
    assert_eq!(object(&["--check", "--mix-classes"])["mix_classes"], true);
    let said = clone.report(&["--check"]).expect("nothing would change");
    assert!(line(&said).expect("a line").starts_with("classes: Runs of 2 classes are mixed"), "{said}");
    // A sweep's report goes on as the report that is there.
    let store = Store::open(&clone.results()).expect("a store");
    tickets::cli::report::write_report(&clone.plan, &store).expect("a report");
    assert_eq!(clone.files(), mixed);
    drop(store);

    // The same from the files alone.
    #[expect(clippy::disallowed_methods, reason = "a clone has no store")]
    std::fs::remove_dir_all(clone.results().join(".store")).expect("removed");
    clone.report(&["--check"]).expect("nothing would change");
    clone.report(&["--mix-classes"]).expect("a report");
    assert_eq!(clone.files(), mixed);
    clone.report(&[]).expect("a report");
    assert_eq!(clone.files(), apart);
    clone.report(&["--check"]).expect("nothing would change");
}
