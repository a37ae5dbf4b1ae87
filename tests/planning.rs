//! What `plan` says before a GPU hour is spent, and `diff` afterwards: through the real program, on stores in which runs
//! were finished by hand.

#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Bench, contents};
use serde_json::{Value, json};
use tickets::manifest::load_with;
use tickets::plan::{Plan, RunSpec, expand, record};
use tickets::store::{Stage, Store, failure_record};

/// Two rates of two masks; 8 steps, evaluated after every fourth.
const GRID: &str = r#"
    grpo = { steps = 8 }
    eval.every = 4
    grid = [{ mask.type = "random", mask.seed = [0, 1], optimizer.lr = [1e-3, 1e-2] }, { mask.type = "full" }]
"#;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.manifest("manifests/grid.toml", GRID);
    bench
}

fn plan(bench: &Bench, name: &str) -> Plan {
    let path = bench.path("manifests").join(name);
    expand(load_with(path.to_str().expect("UTF-8"), &[], &[]).expect("loaded")).expect("planned")
}

/// Finishes a run as a trainer would, with scores that tell runs apart.
fn finish(bench: &Bench, manifest: &str, run: &RunSpec, score: f64) {
    let store = Store::open(&bench.results()).expect("a store");
    let mut attempt = store.begin(run.id.as_str()).expect("an attempt");
    let row = |value: Value| value.as_object().expect("an object").clone();
    let steps = run.config.grpo.steps;
    for step in 1..=steps {
        let kl = if step % run.config.eval.every == 0 || step == steps { json!(0.5) } else { Value::Null };
        attempt
            .metrics(&row(
                json!({ "step": step, "reward/mean": score, "kl/base": kl, "train_seconds": score }),
            ))
            .expect("written");
    }
    for step in (0..=steps).filter(|step| step % run.config.eval.every == 0 || *step == steps) {
        attempt.eval(&row(json!({ "step": step, "eval/score": score }))).expect("written");
    }
    attempt.finish(&[("state.safetensors", b"state")], json!({ "optimizer_steps": 8 })).expect("finished");
    store.describe_run(run.id.as_str(), record(run, manifest)).expect("written");
}

fn runs(object: &Value) -> &Vec<Value> {
    object["runs"].as_array().expect("a list")
}

/// What a run of `plan --json` says under a key, by label.
fn of<'j>(object: &'j Value, label: &str, key: &str) -> &'j Value {
    &runs(object).iter().find(|run| run["label"] == label).unwrap_or_else(|| panic!("no {label}"))[key]
}

#[test]
fn a_result_of_another_manifest_is_shared_and_said() {
    let bench = bench();
    bench.manifest(
        "manifests/sub/other.toml",
        "grpo = { steps = 8 }\neval.every = 4\ngrid = [{ mask.type = 'full' }]",
    );
    let other = plan(&bench, "sub/other.toml");
    finish(&bench, "sub/other", &other.runs[0], 0.5);
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(of(&object, "full-lr1e-3", "state"), "done");
    assert_eq!(of(&object, "full-lr1e-3", "shared_with"), &json!(["sub/other"]));
    assert_eq!(of(&object, "full-lr1e-3", "reason"), "finished; shared with sub/other");
    assert_eq!(of(&object, "random-s0-lr1e-3", "shared_with"), &json!([]));
    // A lock says the same of runs that nobody has begun.
    bench.manifest("manifests/third.toml", GRID);
    bench.run(&["plan", "third", "--lock"]).ends(0);
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(of(&object, "full-lr1e-3", "shared_with"), &json!(["sub/other", "third"]));
    assert_eq!(of(&object, "random-s0-lr1e-3", "shared_with"), &json!(["third"]));
    let said = bench.run(&["plan", "grid"]).ends(0);
    assert!(said.out.contains("\nshared with sub/other (1 of 5 runs), third\n"), "{}", said.out);
    // Its own lock and its own results are not somebody else's.
    bench.run(&["plan", "grid", "--lock"]).ends(0);
    let object = bench.run(&["plan", "third", "--json"]).ends(0).json();
    assert_eq!(of(&object, "random-s0-lr1e-3", "shared_with"), &json!(["grid"]));
}

#[test]
fn a_lock_shows_what_an_edit_adds_drops_and_keeps() {
    let bench = bench();
    bench
        .run(&["plan", "grid", "--check"])
        .ends(4)
        .names(&["there is no results/grid/plan.lock", "--lock` writes it"]);
    bench.run(&["plan", "grid", "--lock"]).ends(0).names(&["results/grid/plan.lock written: 5 runs"]);
    let path = bench.path("results/grid/plan.lock");
    let first = fs::read_to_string(&path).expect("a lock");
    let planned = plan(&bench, "grid.toml");
    let mut wanted = [Vec::new(), Vec::new()];
    for run in &planned.runs {
        wanted[0].push(run.id.to_string());
        wanted[1].push(format!("{} {}", run.label, run.id.short()));
    }
    let [ids, labels] = wanted.map(|mut lines| {
        lines.sort_unstable();
        lines.join("\n")
    });
    assert!(first.ends_with(&format!("\n\n# ids\n{ids}\n\n# labels\n{labels}\n")), "{first}");
    bench.run(&["plan", "grid", "--check"]).ends(0).names(&["is up to date: 5 runs"]);
    bench.run(&["plan", "grid", "--lock"]).ends(0).names(&["as it was"]);

    // A comment, a title and [exec] change no run; another rate drops two and adds two.
    let text = fs::read_to_string(bench.path("manifests/grid.toml")).expect("a manifest");
    bench.write("manifests/grid.toml", &format!("# a remark\n{}", text.replace("Tiny", "Tidy")));
    bench.run(&["plan", "grid", "--check", "--set", "exec.threads=2"]).ends(0);
    // The lock is of the manifest alone: a variable that was left in the shell does not get into it.
    let overridden = "the lock is of the manifest as it is written, but `seed` is overridden (--set)";
    bench.run(&["plan", "grid", "--lock", "--set", "seed=1"]).ends(4).names(&[overridden]);
    bench.run(&["plan", "grid", "--check", "--set", "seed=1"]).ends(4).names(&[overridden]);
    bench.manifest("manifests/grid.toml", &GRID.replace("1e-2]", "3e-2]"));
    let said = bench.run(&["plan", "grid", "--check"]).ends(4);
    for line in [
        "is out of date",
        "added: random-s0-lr3e-2",
        "added: random-s1-lr3e-2",
        "dropped: random-s0-lr1e-2",
        "dropped: random-s1-lr1e-2",
        "kept: 3",
    ] {
        assert!(said.all().contains(line), "{line}: {}", said.all());
    }
    assert_eq!(fs::read_to_string(&path).expect("a lock"), first, "--check writes nothing");
    let object = bench.run(&["plan", "grid", "--check", "--json"]).ends(4).json();
    assert_eq!((&object["differs"], &object["kept"]), (&json!(true), &json!(3)));
    let object = bench.run(&["plan", "grid", "--lock", "--json"]).ends(0).json();
    assert_eq!((&object["differs"], &object["kept"]), (&json!(true), &json!(3)));
    assert_eq!(object["added"], json!(["random-s0-lr3e-2", "random-s1-lr3e-2"]));
    assert!(!bench.path("results/.store").exists(), "a lock needs no store");

    // Where one axis fewer varies, labels are shorter and ids are the same.
    bench.manifest("manifests/grid.toml", &GRID.replace("[1e-3, 1e-2]", "1e-3"));
    let said = bench.run(&["plan", "grid", "--check"]).ends(4);
    for line in ["renamed: random-s0-lr1e-3 -> random-s0", "dropped: random-s1-lr3e-2", "kept: 3, 3 renamed"]
    {
        assert!(said.all().contains(line), "{line}: {}", said.all());
    }
    // Ids stand alone, so that the difference of the file shows no run that is kept.
    let before = fs::read_to_string(&path).expect("a lock");
    bench.run(&["plan", "grid", "--lock"]).ends(0);
    let after = fs::read_to_string(&path).expect("a lock");
    let ids =
        |text: &str| text.lines().filter(|line| line.len() == 64).map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(ids(&after).is_subset(&ids(&before)) && ids(&after).len() == 3);

    // The same label for another run; a line that is of no lock.
    bench.manifest(
        "manifests/grid.toml",
        &GRID.replace("[1e-3, 1e-2]", "1e-3").replace("steps = 8", "steps = 9"),
    );
    fs::write(&path, after + "<<<<<<< ours\n").expect("written");
    let said = bench.run(&["plan", "grid", "--check"]).ends(4);
    for line in ["changed: random-s0", "not understood: 1 line", "kept: 0"] {
        assert!(said.all().contains(line), "{line}: {}", said.all());
    }
}

#[test]
fn a_failed_run_is_told_as_the_sweep_will_treat_it() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let store = Store::open(&bench.results()).expect("a store");
    for (run, class) in planned.runs.iter().zip(["nan", "oom"]) {
        let mut attempt = store.begin(run.id.as_str()).expect("an attempt");
        let row = json!({ "step": 1, "reward/mean": 0.5 });
        attempt.metrics(row.as_object().expect("an object")).expect("written");
        attempt.fail(&failure_record(class, Some(7), "as the test says", None)).expect("written");
    }
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    let [nan, oom] = [&planned.runs[0].label, &planned.runs[1].label];
    assert_eq!((of(&object, nan, "state"), of(&object, nan, "executed")), (&json!("failed"), &json!(false)));
    assert_eq!((of(&object, oom, "state"), of(&object, oom, "executed")), (&json!("failed"), &json!(true)));
    assert_eq!(object["counts"], json!({ "failed": 2, "pending": 3 }));
    // The base, four runs: the one that diverged is left alone. No checkpoint: the other starts from the beginning.
    assert_eq!(object["estimate"]["tasks"], 5);
    assert_eq!(of(&object, oom, "cost"), of(&object, &planned.runs[2].label, "cost"));
    let said = bench.run(&["plan", "grid", "--why", nan]).ends(0);
    assert!(said.out.contains("will not be executed: it failed"), "{}", said.out);
    assert!(said.out.contains("nan: as the test says (tried again with --retry)"), "{}", said.out);
}

#[test]
fn a_damaged_result_is_one_row_of_the_table() {
    let bench = bench();
    let run = plan(&bench, "grid.toml").runs.remove(0);
    finish(&bench, "grid", &run, 0.5);
    fs::write(bench.results().join(".store/run").join(run.id.as_str()).join("DONE.json"), "{")
        .expect("written");
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(
        (of(&object, &run.label, "state"), of(&object, &run.label, "executed")),
        (&json!("damaged"), &json!(true))
    );
    assert_eq!(object["counts"], json!({ "damaged": 1, "pending": 4 }));
}

#[test]
fn runs_of_one_plan_that_share_a_trajectory_say_so() {
    let bench = Bench::new();
    bench.manifest("manifests/lengths.toml", "eval.every = 4\nexec.checkpoint_every = 4\ngrid = [{ mask.type = 'full', grpo.steps = [8, 16], eval.every = [4, 8] }]");
    let object = bench.run(&["plan", "lengths", "--json"]).ends(0).json();
    let told = runs(&object).iter().map(|run| {
        (
            run["label"].as_str().expect("a label").to_owned(),
            run["reuse"]["label"].clone(),
            run["reuse"]["taken_over"].clone(),
        )
    });
    let wanted = [
        ("steps8-every4".to_owned(), Value::Null, Value::Null),
        // Rarer evaluations need nothing that is not there.
        ("steps8-every8".to_owned(), json!("steps8-every4"), json!(8)),
        ("steps16-every4".to_owned(), json!("steps8-every4"), json!(8)),
        ("steps16-every8".to_owned(), json!("steps16-every4"), json!(16)),
    ];
    assert_eq!(told.collect::<Vec<_>>(), wanted);
    assert!(
        bench
            .run(&["plan", "lengths"])
            .ends(0)
            .out
            .contains("takes 8 steps over from steps8-every4 of this plan, computes 8")
    );
}

#[test]
fn why_names_the_settings_that_keep_a_run_from_an_earlier_one() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let label = |name: &str| planned.find(name).expect("a run");
    finish(&bench, "grid", label("random-s0-lr1e-3"), 0.25);
    finish(&bench, "grid", label("full"), 0.5);
    let object = bench.run(&["plan", "grid", "--why", "random-s0-lr1e-2", "--json"]).ends(0).json();
    assert_eq!((&object["executed"], &object["state"]), (&json!(true), &json!("pending")));
    let nearest = object["nearest"].as_array().expect("a list");
    assert_eq!(nearest[0]["label"], "random-s0-lr1e-3");
    assert_eq!(nearest[0]["differences"], json!([{ "key": "optimizer.lr", "here": 0.01, "there": 0.001 }]));
    assert_eq!(nearest[0]["same_stages"], json!(["base", "mask"]));
    let keys = |near: &Value| {
        near["differences"].as_array().expect("a list").iter().map(|d| d["key"].clone()).collect::<Vec<_>>()
    };
    let wanted = ["optimizer.lr", "mask.type", "mask.sparsity", "mask.seed", "mask.rng"];
    assert_eq!(keys(&nearest[1]), wanted);
    let setting = |key: &str| {
        let all = object["settings"].as_array().expect("a list");
        all.iter().find(|found| found["key"] == key).unwrap_or_else(|| panic!("no {key}")).clone()
    };
    let origin = setting("optimizer.lr")["origin"].as_str().expect("a place").to_owned();
    assert!(origin.starts_with("manifests/grid.toml:"), "{origin}");
    assert_eq!(setting("optimizer.eps")["origin"], Value::Null);

    let said = bench.run(&["plan", "grid", "--why", "random-s0-lr1e-2"]).ends(0);
    assert!(said.out.contains("will be executed: no result in the store has this id"), "{}", said.out);
    assert!(
        said.out.contains("done, random-s0-lr1e-3 of grid): 1 setting differs\n  optimizer.lr is 1e-2 ("),
        "{}",
        said.out
    );

    // In the other direction: which result it equals, and every key of it.
    let said = bench.run(&["plan", "grid", "--why", "full", "--set", "eval.every=4"]).ends(0);
    let id = label("full").id.as_str();
    assert!(said.out.contains(&format!(
        "will not be executed: the store has its result, {id}, begun as full-lr1e-3 of grid"
    )));
    assert!(said.out.contains("  eval.every = 4  (--set)"), "{}", said.out);
    assert!(said.out.contains("  mask.type = full  (manifests/grid.toml:"), "{}", said.out);

    // A run that differs in its evaluations alone shares the training, and says what that spares.
    let said = bench.run(&["plan", "grid", "--why", "full", "--set", "eval.every=8"]).ends(0);
    assert!(said.out.contains("resumable; takes 8 steps over from run"), "{}", said.out);
    assert!(said.out.contains("stages in common: base, trajectory, train, eval"), "{}", said.out);
    bench.run(&["plan", "grid", "--why", "nothing"]).ends(4).names(&["has no run `nothing`"]);
}

#[test]
fn origins_say_where_a_value_comes_from_and_what_it_hides() {
    let bench = bench();
    bench.write("manifests/child.toml", "extends = \"grid.toml\"\n[grpo]\nsteps = 12\n");
    let mut command = bench.command(&["plan", "child", "--json", "--set", "optimizer.eps=1e-6"]);
    command.env("TICKETS_SAMPLING__TEMPERATURE", "9e-1");
    let object: Value = serde_json::from_slice(&command.output().expect("run").stdout).expect("JSON");
    let origin = |key: &str, block: Value| {
        let all = object["origins"].as_array().expect("a list");
        all.iter()
            .find(|o| o["key"] == key && o["block"] == block)
            .unwrap_or_else(|| panic!("no {key}"))
            .clone()
    };
    let steps = origin("grpo.steps", Value::Null);
    assert_eq!((&steps["value"], &steps["place"]), (&json!("12"), &json!("manifests/child.toml:3:9")));
    assert_eq!(steps["hides"][0]["value"], "8");
    assert_eq!(origin("optimizer.eps", Value::Null)["place"], "--set");
    let temperature = origin("sampling.temperature", Value::Null);
    assert_eq!(temperature["place"], "environment variable TICKETS_SAMPLING__TEMPERATURE");
    assert_eq!(temperature["value"], "0.9");
    assert_eq!(origin("mask.seed", json!(1))["value"], "0, 1");
    let said = bench.run(&["plan", "child", "--origins"]).ends(0);
    assert!(said.out.contains("values that are not defaults:"), "{}", said.out);
}

#[test]
fn what_is_provisional_unbuilt_or_outside_the_project_is_said() {
    let bench = Bench::new();
    bench.write("elsewhere/parent.toml", "[grpo]\nsteps = 3\n");
    bench.write("elsewhere/names.jsonl", "{\"names\": [\"Ann Lee\", \"Bob Ray\"]}\n");
    let text = "extends = \"../../elsewhere/parent.toml\"\n[model]\nid = \"owner/model\"\n[task]\ntype = \"alphabet_sort\"\nnames = \"../../elsewhere/names.jsonl\"\n";
    bench.write("project/manifests/m.toml", text);
    let said = bench.run(&["plan", "project/manifests/m.toml"]).ends(0);
    for line in [
        "provisional ids (marked ?): set `model.revision`",
        "not built yet, so `sweep` refuses 1 run: `model.id`",
        "elsewhere/parent.toml (extends)",
        "elsewhere/names.jsonl (task.names)",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let object = bench.run(&["plan", "project/manifests/m.toml", "--json"]).ends(0).json();
    assert_eq!(runs(&object)[0]["provisional"], json!(["model.revision"]));
    assert_eq!(runs(&object)[0]["not_built"], json!(["`model.id`"]));
    assert_eq!(object["outside"].as_array().map(Vec::len), Some(2));
    bench.run(&["plan", "project/manifests/m.toml", "--lock"]).ends(0);
    let lock = fs::read_to_string(bench.path("results/m/plan.lock")).expect("a lock");
    assert!(lock.trim_end().ends_with("(provisional)"), "{lock}");
    // Pinned, and inside: nothing to say.
    let pinned = "[model]\nid = \"owner/model\"\nrevision = \"0123456789012345678901234567890123456789\"\n[task]\ntype = \"alphabet_sort\"\n";
    bench.write("project/manifests/m.toml", pinned);
    let said = bench.run(&["plan", "project/manifests/m.toml"]).ends(0);
    assert!(!said.out.contains("provisional") && !said.out.contains("outside the project"), "{}", said.out);
}

#[test]
fn the_stages_are_told_with_what_is_there() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let stages = |object: &Value, stage: &str| {
        let all = object["stages"].as_array().expect("a list").clone();
        all.into_iter().filter(|found| found["stage"] == stage).collect::<Vec<_>>()
    };
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    let [base] = &stages(&object, "base")[..] else { panic!("{object}") };
    assert_eq!((&base["cached"], &base["runs"]), (&json!(false), &json!(5)));
    let masks = stages(&object, "mask");
    assert_eq!(masks.iter().map(|mask| mask["runs"].clone()).collect::<Vec<_>>(), [json!(2), json!(2)]);
    assert!(masks.iter().all(|mask| mask["needs"] == base["id"]));
    let store = Store::open(&bench.results()).expect("a store");
    let id = planned.runs[0].stages.base.as_str();
    store.publish(Stage::Base, id, &[("model", b"weights")], Value::Null).expect("published");
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(stages(&object, "base")[0]["cached"], true);
    let said = bench.run(&["plan", "grid"]).ends(0);
    assert!(said.out.contains(&format!("base   {} cached, for 5 runs", &id[..12])), "{}", said.out);
    assert!(said.out.contains(" to be made, for 2 runs, from "), "{}", said.out);
}

#[test]
fn time_and_memory_are_predicted_and_corrected_by_what_was_measured() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let before = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    let estimate = &before["estimate"];
    assert_eq!((&estimate["measured_runs"], &estimate["unknown"]), (&json!(0), &json!(0)));
    // The base and five runs are left to do.
    assert_eq!(estimate["tasks"], 6);
    assert!(estimate["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    let cost = |object: &Value, label: &str| of(object, label, "cost").clone();
    let seconds =
        |cost: &Value, key: &str| cost[key].as_f64().unwrap_or_else(|| panic!("no {key} in {cost}"));
    let first = cost(&before, "random-s1-lr1e-2");
    assert_eq!(first["measured"], false);
    assert!(seconds(&first, "memory_bytes") > 1e6);

    // A run whose training took a thousand times what was predicted: the others will take as long.
    let run = &planned.runs[0];
    let factor = 1000.0;
    finish(&bench, "grid", run, seconds(&first, "train_seconds") * factor / f64::from(run.config.grpo.steps));
    let after = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!((&after["estimate"]["measured_runs"], &after["estimate"]["tasks"]), (&json!(1), &json!(5)));
    let second = cost(&after, "random-s1-lr1e-2");
    let ratio = seconds(&second, "train_seconds") / seconds(&first, "train_seconds");
    assert!((ratio / factor - 1.0).abs() < 1e-9, "{ratio}");
    let done = cost(&after, &run.label);
    assert_eq!(done["measured"], true);
    assert!((seconds(&done, "seconds") / seconds(&first, "train_seconds") / factor - 1.0).abs() < 1e-9);
    let said = bench.run(&["plan", "grid"]).ends(0);
    assert!(said.out.contains("(corrected by 1 measured run)"), "{}", said.out);

    // Steps that are taken over cost nothing: of nine steps one is left, which is evaluated.
    let longer = bench.run(&["plan", "grid", "--json", "--set", "grpo.steps=9"]).ends(0).json();
    let left = cost(&longer, &run.label);
    assert_eq!(of(&longer, &run.label, "reuse")["computed"], 1);
    assert!(
        seconds(&left, "train_seconds") < seconds(&cost(&longer, "random-s1-lr1e-2"), "train_seconds") / 4.0
    );

    // Where the shape of the base is not known, nothing is made up.
    bench.write(
        "manifests/hub.toml",
        "[model]\nid = \"owner/unheard-of\"\n[task]\ntype = \"alphabet_sort\"\n",
    );
    let object = bench.run(&["plan", "hub", "--json"]).ends(0).json();
    assert_eq!((&runs(&object)[0]["cost"], &object["estimate"]["unknown"]), (&Value::Null, &json!(1)));
    let said = bench.run(&["plan", "hub"]).ends(0);
    assert!(said.out.contains("time and memory are not known"), "{}", said.out);
}

#[test]
fn the_readme_shows_what_plan_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a page");
    let (_, shown) =
        readme.split_once("    $ target/release/tickets plan smoke.toml\n").expect("a transcript");
    let bench = Bench::new();
    let mut command = bench.command(&["plan", "smoke.toml", "--results"]);
    let said = command.arg(bench.results()).current_dir(root).output().expect("run").stdout;
    let said = String::from_utf8(said).expect("UTF-8");
    let mut lines = said.lines();
    // Where the file lies and how many workers there are depends on the machine.
    let shown = shown.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let mut count = 0;
    for line in shown.map(|line| line.trim_start_matches("    ")).filter(|line| !line.is_empty()) {
        let next = lines.by_ref().find(|said| !said.is_empty());
        if line != "..." && !line.starts_with("what is left takes") {
            assert_eq!(next, Some(line));
        }
        count += 1;
    }
    assert!(count > 12, "{count} lines");
}

#[test]
fn plan_writes_nothing_but_the_lock() {
    let bench = bench();
    finish(&bench, "grid", &plan(&bench, "grid.toml").runs[0], 0.5);
    let before = contents(bench.folder.path());
    for arguments in [
        &["plan", "grid"][..],
        &["plan", "grid", "--json"],
        &["plan", "grid", "--why", "full"],
        &["plan", "grid", "--origins"],
    ] {
        bench.run(arguments).ends(0);
    }
    assert_eq!(contents(bench.folder.path()), before);
}

#[test]
fn diff_shows_what_differs_and_nothing_else() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let (left, right) = (&planned.runs[0], &planned.runs[1]);
    finish(&bench, "grid", left, 0.25);
    finish(&bench, "grid", right, 0.5);
    let (a, b) = (&left.id.as_str()[..16], &right.id.as_str()[..16]);
    let object = bench.run(&["diff", a, b, "--json"]).ends(0).json();
    assert_eq!(object["settings"], json!([{ "key": "optimizer.lr", "a": 0.001, "b": 0.01 }]));
    let keys = |part: &str| {
        object[part].as_array().expect("a list").iter().map(|d| d["key"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys("stages"), ["eval", "train", "trajectory"]);
    // The step is the same, and time is measured.
    assert_eq!(keys("metrics"), ["eval/score", "reward/mean"]);
    let said = bench.run(&["diff", "grid", &left.label, &right.label]).ends(0);
    assert!(said.out.contains(&format!("A: {} ({} of grid, done)", &a[..12], left.label)), "{}", said.out);
    assert!(said.out.contains("optimizer.lr") && !said.out.contains("grpo.steps"), "{}", said.out);
    let one = bench.run(&["diff", a, &left.id.as_str()[..20]]).ends(0);
    assert!(one.out.contains("they are one run"), "{}", one.out);
    // A run that is planned and not begun has settings and stages.
    let object = bench.run(&["diff", "grid", &left.label, "full", "--json"]).ends(0).json();
    assert_eq!(object["b"]["state"], "pending");
    assert!(object["settings"].as_array().is_some_and(|found| found.len() > 3));
    bench.run(&["diff", a, "ffff"]).ends(4);
    bench.run(&["diff", a]).ends(2);
}
