//! A run that differs from an earlier one in its evaluations or in its length alone takes that one's steps over, and
//! equals, bit for bit, a run that does everything itself.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use common::{Bench, Outcome, copy, newest_attempt, parent_of, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use tickets::store::Store;

/// Evaluated after 0, 3, 6, 9 and 10 steps, saved after every second; the distance to the base is measured where the run
/// is evaluated.
const GRID: &str = r#"
    grpo = { steps = 10, rollouts_per_step = 8, micro_batch = 8 }
    optimizer = { lr = 3e-3 }
    eval.every = 3
    exec.checkpoint_every = 2
    grid = [{ mask.type = ["full", "random"] }]
"#;

/// The grid, done once.
fn earlier() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let bench = Bench::new();
        bench.manifest("grid.toml", GRID);
        bench.give_base("results");
        bench.run(&["sweep", "grid.toml"]).ends(0);
        bench
    })
}

/// A bench of its own with everything that the first sweep left.
fn bench() -> Bench {
    let bench = Bench::new();
    copy(earlier().folder.path(), bench.folder.path());
    bench
}

/// What runs that share nothing with earlier ones come to.
fn alone(set: &[&str]) -> BTreeMap<String, Outcome> {
    let bench = Bench::new();
    bench.manifest("grid.toml", GRID);
    bench.give_base("results");
    bench.run(&[&["sweep", "grid.toml"], set].concat()).ends(0);
    bench.outcomes(&[&["grid.toml"], set].concat())
}

/// The steps that each run took over, as its marker says, and all its steps.
fn taken(bench: &Bench, set: &[&str]) -> BTreeMap<String, u64> {
    let plan = bench.run(&[&["plan", "grid.toml", "--json"], set].concat()).ends(0).json();
    let runs = plan["runs"].as_array().expect("an array").iter();
    runs.map(|run| {
        let path = bench.results().join(".store/run").join(run["id"].as_str().expect("an id"));
        let done: Value =
            serde_json::from_slice(&fs::read(path.join("DONE.json")).expect("a marker")).expect("JSON");
        let parts = done["meta"]["taken_over"].as_array().expect("a list");
        let step = |part: &Value, key: &str| part[key].as_u64().expect("a step");
        let steps = parts.iter().map(|part| step(part, "to") - step(part, "after"));
        (run["label"].as_str().expect("a label").to_owned(), steps.sum())
    })
    .collect()
}

/// Sweeps with overrides on top of the earlier results: the same outcome as alone, with so many steps taken over.
fn equals_alone(set: &[&str], steps: u64) {
    let bench = bench();
    let planned = bench.run(&[&["plan", "grid.toml", "--json"], set].concat()).ends(0).json();
    for run in planned["runs"].as_array().expect("an array") {
        assert_eq!(run["reuse"]["taken_over"], steps, "{run}");
    }
    let said = bench.run(&[&["sweep", "grid.toml"], set].concat()).ends(0);
    assert!(said.all().contains(&format!("takes {steps} of ")), "{}", said.all());
    assert_eq!(bench.outcomes(&[&["grid.toml"], set].concat()), alone(set));
    assert!(taken(&bench, set).values().all(|taken| *taken == steps), "{:?}", taken(&bench, set));
}

#[test]
fn rarer_evaluations_compute_nothing() {
    equals_alone(&["--set", "eval.every=9"], 10);
}

#[test]
fn more_evaluations_replay_from_kept_checkpoints() {
    // Due after 2, 4, 6, 8, 10 steps; known after 6 and 10. A step that is evaluated is computed from the checkpoint
    // before it: 1 and 2, 3 and 4; 5 and 6 are spared by the state of 6; then 7 and 8; 9 and 10 are spared.
    equals_alone(&["--set", "eval.every=2"], 4);
}

#[test]
fn a_longer_run_goes_on_from_the_end_of_the_shorter() {
    equals_alone(&["--set", "grpo.steps=13"], 10);
}

#[test]
fn a_shorter_run_ends_where_a_checkpoint_is() {
    // The last step is evaluated, so it is computed: 1 to 6 are spared, 7 and 8 are not.
    equals_alone(&["--set", "grpo.steps=8"], 6);
}

#[test]
fn other_questions_are_asked_of_the_same_trajectory() {
    // The evaluation is another one; rows of steps and the states after 6 and 10 steps serve it, those after 3 and 9 were
    // not kept, so these two steps are computed.
    equals_alone(&["--set", "eval.examples=5"], 8);
}

#[test]
fn a_grid_over_lengths_trains_each_step_once() {
    let bench = Bench::new();
    bench.manifest(
        "grid.toml",
        &GRID.replace("mask.type = [\"full\", \"random\"]", "mask.type = \"full\", grpo.steps = [6, 10]"),
    );
    bench.give_base("results");
    // Two workers: the longer run waits for the shorter all the same.
    bench.run(&["sweep", "grid.toml", "--jobs", "2"]).ends(0);
    assert_eq!(
        taken(&bench, &[]).into_iter().collect::<Vec<_>>(),
        [("steps10".to_owned(), 6), ("steps6".to_owned(), 0)]
    );
    let longer = bench.outcomes(&["grid.toml"]).remove("steps10");
    assert_eq!(longer, alone(&[]).remove("full"));
}

#[test]
fn steps_of_another_number_of_threads_are_not_taken_over() {
    let bench = bench();
    let set = ["--set", "eval.every=9", "--set", "exec.threads=2"];
    let planned = bench.run(&[&["plan", "grid.toml", "--json"][..], &set[..]].concat()).ends(0).json();
    assert!(
        planned["runs"].as_array().expect("a list").iter().all(|run| run["reuse"].is_null()),
        "{planned}"
    );
    bench.run(&[&["sweep", "grid.toml", "--jobs", "1"][..], &set[..]].concat()).ends(0);
    assert!(taken(&bench, &set).values().all(|taken| *taken == 0), "{:?}", taken(&bench, &set));
}

#[test]
fn a_replay_that_is_killed_goes_on() {
    let bench = bench();
    let set = ["--set", "eval.every=1"];
    let before = bench.rows_written("results");
    let mut sweep = bench.start(&["sweep", "grid.toml", "--set", "eval.every=1"]);
    wait_for("rows", || bench.rows_written("results") >= before + 5 || sweep.ended());
    assert!(!sweep.ended(), "{}", sweep.finish().all());
    let workers = sweep.workers();
    sweep.signal(Signal::KILL);
    sweep.finish();
    wait_for("the workers to end", || workers.iter().all(|worker| parent_of(*worker).is_none()));
    bench.run(&["sweep", "grid.toml", "--set", "eval.every=1"]).ends(0);
    assert_eq!(bench.outcomes(&["grid.toml", "--set", "eval.every=1"]), alone(&set));
}

#[test]
fn an_unfinished_run_is_gone_on_from_too() {
    let bench = Bench::new();
    bench.manifest("grid.toml", GRID);
    bench.give_base("results");
    let mut sweep = bench.start(&["sweep", "grid.toml", "--jobs", "2"]);
    wait_for("rows", || bench.rows_written("results") >= 9 || sweep.ended());
    sweep.signal(Signal::INT);
    sweep.finish().ends(99);
    // The researcher asks for fewer evaluations: what was done is not lost.
    let set = ["--set", "eval.every=9"];
    bench.run(&["sweep", "grid.toml", "--set", "eval.every=9"]).ends(0);
    assert_eq!(bench.outcomes(&["grid.toml", "--set", "eval.every=9"]), alone(&set));
    assert!(taken(&bench, &set).values().all(|taken| *taken > 0), "{:?}", taken(&bench, &set));
}

#[test]
fn a_damaged_earlier_run_costs_time_and_nothing_else() {
    let bench = bench();
    for run in fs::read_dir(bench.results().join(".store/run")).expect("a folder") {
        let attempt = newest_attempt(&run.expect("readable").path()).expect("an attempt");
        let file = attempt.join("final/state.safetensors");
        let mut bytes = fs::read(&file).expect("a state");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&file, bytes).expect("written");
    }
    let set = ["--set", "grpo.steps=12"];
    bench.run(&["sweep", "grid.toml", "--set", "grpo.steps=12"]).ends(0);
    assert_eq!(bench.outcomes(&["grid.toml", "--set", "grpo.steps=12"]), alone(&set));
}

#[test]
fn an_earlier_run_that_is_not_repeated_is_not_mixed_in() {
    let bench = bench();
    // A run that says to be of the same trajectory and has other numbers: as another machine would leave it.
    let store = Store::open(&bench.results()).expect("a store");
    for id in store.runs().expect("runs") {
        let rows = store.run_rows(&id).expect("rows");
        let state = store.final_file(&id, "state.safetensors").expect("readable").expect("a state");
        let mut what = store.described(&id).expect("readable").expect("a record");
        for key in ["format", "seal"] {
            what.remove(key);
        }
        let forged = format!("{}{}", &id[..32], &"0".repeat(32));
        let folder = store.layout().run(&id);
        let mut attempt = store.begin(&forged).expect("an attempt");
        for row in &rows.metrics {
            let mut row = row.clone();
            row.insert("reward/mean".into(), json!(row["reward/mean"].as_f64().expect("a number") + 1e-9));
            attempt.metrics(&row).expect("written");
        }
        for row in &rows.evals {
            attempt.eval(row).expect("written");
        }
        attempt.finish(&[("state.safetensors", &state)], rows.done.expect("finished")).expect("finished");
        store.describe_run(&forged, what).expect("written");
        fs::remove_dir_all(folder).expect("removed");
    }
    // Longer than the forged run, and evaluated where that one was not: some of its steps are computed again.
    let set = ["--set", "eval.every=5", "--set", "grpo.steps=12"];
    let said = bench.run(&[&["sweep", "grid.toml"][..], &set[..]].concat()).ends(0);
    assert!(said.all().contains("is not repeated here: reward/mean was"), "{}", said.all());
    assert_eq!(bench.outcomes(&[&["grid.toml"][..], &set[..]].concat()), alone(&set));
    assert!(taken(&bench, &set).values().all(|taken| *taken == 0), "nothing is taken over");
}
