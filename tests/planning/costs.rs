//! Predicted time and memory.

use serde_json::{Value, json};

use crate::support::{bench, finish, of, plan, runs};

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
