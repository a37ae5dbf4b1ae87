//! Every committed manifest loads, says what it asks, and plans to the runs that are on record.
//!
//! `UPDATE_GOLDEN=1 cargo test --test manifests` rewrites `tests/golden`; review the difference: an id that moves
//! makes every stored result of that run unreachable.

mod manifest_support;

use std::fmt::Write;
use std::path::Path;

use manifest_support::plan_of;
use tickets::cli::plan::{StateView, Survey, print};
use tickets::plan::{LOCK, lock_text};

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
        let depth = name.matches('/').count();
        let schema =
            format!("#:schema {}schema.json\n", if depth == 0 { "./".into() } else { "../".repeat(depth) });
        assert!(text.starts_with(&schema), "{name} does not begin with {schema}");
        let head =
            text.lines().skip(1).take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
        for word in ["# Question:", "# Hypothesis:", "# Falsified if:"] {
            assert!(head.contains(word), "{name} does not open with `{word}`");
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
fn every_committed_lock_is_that_of_its_manifest() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    for name in committed() {
        let plan = plan_of(&name, &[], &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lock = std::fs::read_to_string(results.join(&name).join(LOCK)).unwrap_or_default();
        assert_eq!(lock, lock_text(&plan), "{name}: `tickets plan {name} --lock --no-env` writes it");
    }
}

/// Runs of every manifest, counted by hand: blog figures by their points, the paper's grids by their rows.
const COUNTS: &[(&str, usize)] = &[
    ("base/alphabet_sort_blog", 1),
    ("base/alphabet_sort_paper", 1),
    ("base/gsm8k", 1),
    ("base/math", 1),
    ("blog/fig1", 3),
    ("blog/fig2", 4),
    // 6 full, 8 and 9 and 9 random 99 %, 9 random 99.9 %.
    ("blog/fig3", 41),
    ("blog/fig4", 41),
    ("blog/fig5", 4),
    ("blog/threshold", 8),
    ("lr_random", 41),
    ("micro/criteria", 13),
    ("micro/density", 14),
    ("micro/fisher", 3),
    // 1 full, 3 seeds x 2 rates, 2 layers x 2 rates.
    ("micro/layers", 11),
    ("micro/lr_random", 19),
    ("micro/overlap", 4),
    ("micro/seeds", 20),
    ("micro/tasks", 4),
    // 1 full, 5 seeds x 3 rates, 2 layers x 4 rates.
    ("paper/alphabet_sort", 24),
    // 3 full, 5 seeds x 3 rates, 4 seeds more.
    ("paper/gsm8k", 22),
    // 6 full, 12 of layers; random: 39 of 99 %, 18 of 99.5, 20 of 99.9, 18 of 99.95, 25 of 99.99, 16 of 99.999.
    ("paper/math", 154),
    // 1 full, 2 layers x 6 rates, 5 masks.
    ("paper/math_layers", 18),
    // 2 full, 20 masks.
    ("paper/math_masks", 22),
    ("quickstart", 8),
    ("smoke", 3),
];

#[test]
fn manifests_have_as_many_runs_as_the_study() {
    let found = committed().into_iter().map(|name| {
        let runs = plan_of(&name, &[], &[]).expect("planned").runs.len();
        (name, runs)
    });
    let wanted = COUNTS.iter().map(|(name, runs)| ((*name).to_owned(), *runs));
    assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}

/// The runs of a plan that have these settings.
fn having(
    plan: &tickets::plan::Plan,
    wanted: &[(&str, serde_json::Value)],
) -> Vec<Vec<(String, serde_json::Value)>> {
    let all = plan.runs.iter().map(|run| tickets::plan::settings(&run.config));
    let has = |settings: &Vec<(String, serde_json::Value)>| {
        wanted.iter().all(|(key, value)| settings.iter().any(|(known, found)| known == key && found == value))
    };
    all.filter(has).collect()
}

fn rates(runs: &[Vec<(String, serde_json::Value)>]) -> Vec<f64> {
    let rate = |settings: &Vec<(String, serde_json::Value)>| {
        settings.iter().find(|(key, _)| key == "optimizer.lr").and_then(|(_, value)| value.as_f64())
    };
    runs.iter().filter_map(rate).collect()
}

#[test]
fn every_series_of_figures_3_and_4_has_the_rates_of_its_points() {
    let plan = plan_of("lr_random", &[], &[]).expect("planned");
    let common = [1e-7, 1e-6, 5e-6, 1e-5, 5e-5, 1e-4];
    let with = |more: &[f64]| common.iter().chain(more).copied().collect::<Vec<_>>();
    let random = |sparsity: f64, seed: u64| {
        let wanted = [
            ("mask.type", "random".into()),
            ("mask.sparsity", sparsity.into()),
            ("mask.seed", seed.into()),
            ("mask.rng", "numpy".into()),
        ];
        rates(&having(&plan, &wanted))
    };
    assert_eq!(rates(&having(&plan, &[("mask.type", "full".into())])), common);
    assert_eq!(random(0.99, 0), with(&[5e-4, 5e-3]));
    assert_eq!(random(0.99, 2001), with(&[5e-4, 1e-3, 1e-2]));
    assert_eq!(random(0.99, 42), with(&[5e-4, 1e-3, 5e-3]));
    assert_eq!(random(0.999, 42), with(&[5e-4, 1e-3, 5e-3]));
    // The figures are two looks at the same runs.
    let ids = |name: &str| {
        plan_of(name, &[], &[]).expect("planned").runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(ids("blog/fig3"), ids("lr_random"));
    assert_eq!(ids("blog/fig4"), ids("lr_random"));
}

#[test]
fn the_mathematics_grid_has_its_rows() {
    let plan = plan_of("paper/math", &[], &[]).expect("planned");
    let random = |sparsity: f64| {
        vec![("mask.type", "random".into()), ("mask.sparsity", serde_json::Value::from(sparsity))]
    };
    let counts =
        [0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999].map(|sparsity| having(&plan, &random(sparsity)).len());
    assert_eq!(counts, [39, 18, 20, 18, 25, 16]);
    let mut at_one_rate = random(0.99);
    at_one_rate.push(("optimizer.lr", 1e-4.into()));
    let seeds = having(&plan, &at_one_rate).into_iter().flatten().filter(|(key, _)| key == "mask.seed");
    let mut seeds = seeds.filter_map(|(_, value)| value.as_u64()).collect::<Vec<_>>();
    seeds.sort_unstable();
    let wanted = [0, 10, 20, 30, 40, 42, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 1002, 2001];
    assert_eq!(seeds, wanted);
    assert_eq!(plan.merged, 6, "five seeds of 1e-4 are in two blocks, and full 1e-6 of seed 42 is");
}

#[test]
fn every_claim_of_the_study_that_can_be_tested_is_in_a_manifest() {
    let mut sources = std::collections::BTreeSet::new();
    for name in committed() {
        for claim in plan_of(&name, &[], &[]).expect("planned").manifest.claims {
            assert!(!claim.statement.is_empty(), "{name}: {}", claim.id);
            sources.insert(claim.source);
        }
    }
    // C19, the rank of 150 step gradients, needs a measurement that runs do not make.
    let wanted = (1..=22).filter(|number| *number != 19).map(|number| format!("C{number}"));
    assert_eq!(sources, wanted.collect());
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
    let failed = "nan: the loss is not finite";
    let states = vec![
        StateView { state: "done".into(), step: Some(4), ..StateView::default() },
        StateView { state: "failed".into(), step: Some(2), reason: failed.into(), ..StateView::default() },
        StateView::pending(),
    ];
    let shown = print(&plan, &Survey { states, ..Survey::default() }, false, false);
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
    let reason = "checkpoint at step 2".into();
    let states = vec![StateView { state: "resumable".into(), step: Some(2), reason, ..StateView::default() }];
    let survey = Survey { states, ..Survey::default() };
    let object: serde_json::Value = serde_json::from_str(&print(&plan, &survey, true, false)).expect("JSON");
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
