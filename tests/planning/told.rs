//! Why a run is executed, where values come from, what differs between two runs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::Bench;
use crate::support::{bench, finish, plan, runs};

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
fn what_is_provisional_or_outside_the_project_is_said() {
    let bench = Bench::new();
    bench.write("elsewhere/parent.toml", "[grpo]\nsteps = 3\n");
    bench.write("elsewhere/names.jsonl", "{\"names\": [\"Ann Lee\", \"Bob Ray\"]}\n");
    let text = "extends = \"../../elsewhere/parent.toml\"\n[model]\nid = \"owner/model\"\n[task]\ntype = \"alphabet_sort\"\nepisodes = \"python\"\nnames = \"../../elsewhere/names.jsonl\"\n";
    bench.write("project/manifests/m.toml", text);
    let said = bench.run(&["plan", "project/manifests/m.toml"]).ends(0);
    for line in [
        "provisional ids (marked ?): set `model.revision`",
        "elsewhere/parent.toml (extends)",
        "elsewhere/names.jsonl (task.names)",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let object = bench.run(&["plan", "project/manifests/m.toml", "--json"]).ends(0).json();
    assert_eq!(runs(&object)[0]["provisional"], json!(["model.revision"]));
    assert_eq!(runs(&object)[0]["not_built"], json!([]));
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
    // Where the file lies and how many workers there are depends on the machine, and so does what they take.
    let shown = shown.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let mut count = 0;
    for line in shown.map(|line| line.trim_start_matches("    ")).filter(|line| !line.is_empty()) {
        let next = lines.by_ref().find(|said| !said.is_empty());
        let by_machine = ["...", "what is left takes", "disk: "].iter().any(|start| line.starts_with(start));
        if !by_machine {
            assert_eq!(next, Some(line));
        }
        count += 1;
    }
    assert!(count > 12, "{count} lines");
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
