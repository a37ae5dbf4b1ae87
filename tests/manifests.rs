//! Every committed manifest loads, says what it asks, and plans to the runs that are on record.
//!
//! `UPDATE_GOLDEN=1 cargo test --test manifests` rewrites `tests/golden`; review the difference: an id that moves
//! makes every stored result of that run unreachable.

mod manifest_support;

use std::fmt::Write;
use std::path::Path;

use manifest_support::plan_of;
use tickets::cli::plan::{StateView, print};

/// Files in `manifests/`, as names.
fn committed() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
        let entry = entry.expect("readable");
        if entry.path().extension().is_some_and(|ending| ending == "toml") {
            let name = entry.path().strip_prefix(&root).expect("below the root").with_extension("");
            names.push(name.to_str().expect("UTF-8").to_owned());
        }
    }
    names
}

#[test]
#[expect(clippy::disallowed_methods, reason = "golden files are rewritten on request")]
fn plans_equal_their_golden_files() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    for name in committed() {
        let plan = plan_of(&name, &[], &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(plan.manifest.name, name);
        assert!(!plan.manifest.question.is_empty(), "{name} has no question");
        assert_ne!(plan.manifest.title, name, "{name} has no title");
        let text = &plan.manifest.main().source.text;
        for word in ["# Question:", "# Hypothesis:", "# Falsified if:"] {
            assert!(text.contains(word), "{name} does not open with `{word}`");
        }
        let mut lines =
            String::from("# label run-id base scores mask train (12 digits each but the run's)\n");
        for run in &plan.runs {
            let short = |id: Option<&String>| id.map_or("-", |id| &id[..12]).to_owned();
            let stages = &run.stages;
            let (base, scores) = (&stages.base[..12], short(stages.scores.as_ref()));
            let (mask, train) = (short(stages.mask.as_ref()), &stages.train[..12]);
            writeln!(lines, "{} {} {base} {scores} {mask} {train}", run.label, run.id).expect("a String");
        }
        let path = golden.join(format!("{}.txt", name.replace('/', "__")));
        if update {
            std::fs::write(&path, &lines).expect("written");
        }
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            lines, recorded,
            "{name}: ids or labels moved; if that is meant, run with UPDATE_GOLDEN=1"
        );
    }
}

#[test]
fn labels_and_ids_are_unique_and_labels_are_file_names() {
    for name in committed() {
        let plan = plan_of(&name, &[], &[]).expect("planned");
        let mut seen = std::collections::BTreeSet::new();
        for run in &plan.runs {
            assert!(seen.insert(run.label.clone()) && seen.insert(run.id.to_string()));
            assert!(
                run.label.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c)),
                "{}",
                run.label
            );
        }
    }
}

#[test]
fn the_table_shows_runs_axes_states_and_counts() {
    let plan = plan_of("smoke", &["exec.jobs=2"], &[]).expect("planned");
    let states = [
        StateView { state: "done".into(), step: Some(4), reason: String::new() },
        StateView { state: "failed".into(), step: Some(2), reason: "nan: the loss is not finite".into() },
        StateView::pending(),
    ];
    let shown = print(&plan, &states, false);
    let line = |label: &str| {
        let found = shown.lines().find(|line| line.split_whitespace().nth(1) == Some(label)).expect(label);
        found.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ")
    };
    let short = |run: usize| plan.runs[run].id.short();
    assert_eq!(line("full"), format!("full | full | {} | done | 4", short(0)));
    let failed = format!("fisher | fisher | {} | failed | 2 | nan: the loss is not finite", short(1));
    assert_eq!(line("fisher"), failed);
    assert!(shown.contains("\n3 runs: 1 done, 1 failed, 1 pending\n"), "{shown}");
    assert!(shown.contains("override: exec.jobs = 2 (--set)"), "{shown}");
}

#[test]
fn json_has_everything_a_script_needs() {
    let plan = plan_of("smoke", &[], &[]).expect("planned");
    let states =
        [StateView { state: "resumable".into(), step: Some(2), reason: "checkpoint at step 2".into() }];
    let object: serde_json::Value = serde_json::from_str(&print(&plan, &states, true)).expect("JSON");
    assert_eq!(object["title"], plan.manifest.title);
    assert_eq!(object["manifest"], "smoke");
    let runs = object["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[0]["id"], plan.runs[0].id.as_str());
    assert_eq!((&runs[0]["state"], &runs[0]["step"]), (&"resumable".into(), &2.into()));
    assert_eq!(runs[0]["reason"], "checkpoint at step 2");
    assert_eq!(runs[1]["axes"]["mask.type"], "fisher");
    assert_eq!(runs[1]["state"], "pending");
    assert!(runs[1]["step"].is_null() && runs[0]["stages"]["mask"].is_null());
    assert_eq!(runs[1]["stages"]["scores"], plan.runs[1].stages.scores.clone().expect("a Fisher run"));
}
