//! Interrupted and resumed equals uninterrupted, bit for bit: weights, moments, metrics, evaluations. With the real
//! program, real signals and real kills, on a grid that uses every path of a step.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::{Bench, Outcome, Running, newest_attempt, parent_of, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use tickets::store::{Stage, Store};

/// Two turns, several minibatches and passes, a KL term, micro-batches that do not divide, both types; steps, evaluations
/// and checkpoints at different periods, so that a kill finds them in every order.
const EVERYTHING: &str = r#"
    task = { max_turns = 2, max_names_per_turn = 1 }
    grpo = { steps = 10, rollouts_per_step = 8, minibatches = 2, updates_per_batch = 2, micro_batch = 3, kl_coef = 0.05, clip_low = 0.05, clip_high = 0.1, advantage = "mean_std" }
    optimizer = { lr = 3e-3, clip_norm = 0.1 }
    eval.every = 3
    exec.checkpoint_every = 4
    grid = [{ mask.type = "full" }, { mask.type = ["fisher", "random"] }, { mask.type = "random", model.dtype = "bfloat16" }]
"#;

/// Runs of that grid, and steps of a run.
const RUNS: usize = 4;
const STEPS: usize = 10;

/// Every run's result, by label; all must be complete.
fn results(bench: &Bench) -> BTreeMap<String, Outcome> {
    let results = bench.outcomes(&["grid.toml"]);
    assert_eq!(results.len(), RUNS);
    results
}

/// The grid, done without a stop, and its results.
fn reference() -> &'static (Bench, BTreeMap<String, Outcome>) {
    static REFERENCE: OnceLock<(Bench, BTreeMap<String, Outcome>)> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let bench = Bench::new();
        bench.manifest("grid.toml", EVERYTHING);
        bench.run(&["sweep", "grid.toml"]).ends(0);
        let results = results(&bench);
        (bench, results)
    })
}

/// A bench with the grid's shared stages and none of its runs.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.manifest("grid.toml", EVERYTHING);
    for stage in ["base", "scores"] {
        let relative = Path::new("results/.store").join(stage);
        common::copy(&reference().0.path(&relative), &bench.path(&relative));
    }
    bench
}

/// Starts the sweep and waits until so many rows are there.
fn start(bench: &Bench, rows: usize) -> Running {
    let mut sweep = bench.start(&["sweep", "grid.toml", "--jobs", "2"]);
    wait_for("rows", || bench.rows_written("results") >= rows || sweep.ended());
    assert!(!sweep.ended(), "{}", sweep.finish().all());
    sweep
}

/// The steps of the checkpoints from which the runs' newest attempts went on, as their own logs say, ascending.
fn resumed_at(bench: &Bench) -> Vec<u32> {
    let runs = fs::read_dir(bench.results().join(".store/run")).expect("a folder");
    let log = |run: std::path::PathBuf| fs::read_to_string(newest_attempt(&run)?.join("log.txt")).ok();
    let logs = runs.filter_map(|run| log(run.expect("readable").path()));
    let mut steps: Vec<u32> =
        logs.filter_map(|log| log.split_once("the checkpoint of step ")?.1.trim().parse().ok()).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn the_reference_has_something_to_compare() {
    let (_, results) = reference();
    for (label, result) in results {
        assert_eq!((result.metrics.len(), result.evals.len()), (STEPS, 5), "{label}");
        let values =
            |column: &str| result.metrics.iter().filter_map(|row| row[column].as_f64()).collect::<Vec<_>>();
        assert!(values("grad_norm/dense").iter().all(|norm| *norm > 0.0), "{label} has gradients");
        assert!(
            values("kl/base").len() == STEPS && values("kl/base")[STEPS - 1] > 0.0,
            "{label} moves away from the base"
        );
        assert!(values("clip_share").iter().any(|share| *share > 0.0), "{label} clips ratios");
    }
    let digests: std::collections::BTreeSet<String> =
        results.values().map(|r| r.weights.to_string()).collect();
    assert_eq!(digests.len(), RUNS, "the runs differ");
}

/// A signal in mid-run, the end of the sweep, and the same command again.
fn stopped_by(signal: Signal, after: usize) {
    let bench = bench();
    let mut sweep = start(&bench, after);
    let workers = sweep.workers();
    assert!(!workers.is_empty());
    sweep.signal(signal);
    let said = sweep.finish().ends(99).names(&["the same command goes on from here", "paused"]);
    assert!(!said.all().contains("failed"), "{}", said.all());
    assert!(workers.iter().all(|worker| parent_of(*worker).is_none()), "{workers:?}");
    // Nothing that was done is lost: each unfinished run is saved at its last row.
    let status = bench.run(&["status", "grid.toml", "--json"]).ends(0).json();
    let mut saved: Vec<u32> = Vec::new();
    for run in status["runs"].as_array().expect("an array").iter().filter(|run| run["state"] == "resumable") {
        assert_eq!(run["saved_step"], run["step"], "{run}");
        saved.push(run["saved_step"].as_u64().expect("a step") as u32);
    }
    bench.run(&["sweep", "grid.toml", "--jobs", "2"]).ends(0);
    saved.sort_unstable();
    assert_eq!(resumed_at(&bench), saved);
    assert!(saved.iter().any(|step| *step > 0), "{saved:?}");
    assert_eq!(&results(&bench), &reference().1);
}

#[test]
fn ctrl_c() {
    stopped_by(Signal::INT, 3);
}

#[test]
fn sigterm() {
    stopped_by(Signal::TERM, STEPS * 2 + 4);
}

#[test]
fn kill_9_again_and_again() {
    let bench = bench();
    let mut resumed = Vec::new();
    let mut before = 0;
    // Six rows further each time: some runs are then four steps past their last checkpoint, others one.
    for _ in 0..3 {
        let mut sweep = start(&bench, 0);
        wait_for("more rows", || bench.rows_written("results") >= before + 6 || sweep.ended());
        assert!(!sweep.ended(), "{}", sweep.finish().all());
        before = bench.rows_written("results");
        let workers = sweep.workers();
        assert!(!workers.is_empty());
        sweep.signal(Signal::KILL);
        sweep.finish();
        resumed.extend(resumed_at(&bench));
        wait_for("the workers to end", || workers.iter().all(|worker| parent_of(*worker).is_none()));
    }
    bench.run(&["sweep", "grid.toml", "--jobs", "2"]).ends(0).names(&["taken over"]);
    resumed.extend(resumed_at(&bench));
    assert!(resumed.iter().any(|step| *step > 0), "{resumed:?}");
    assert_eq!(&results(&bench), &reference().1);
}

#[test]
fn a_killed_worker_fails_its_run_alone_and_the_next_sweep_goes_on() {
    let bench = bench();
    let mut sweep = start(&bench, 6);
    let victim = sweep.workers()[0];
    let killed = std::process::Command::new("kill").args(["-9", &victim.to_string()]).status();
    assert!(killed.expect("kill").success());
    sweep.finish().ends(0).names(&["killed", "tries again (1 of 2)", "4 of 4 runs done"]);
    assert_eq!(&results(&bench), &reference().1);
    // What went wrong is still known.
    let status = bench.run(&["status", "grid.toml", "--json"]).ends(0).json();
    let failed = status["runs"].as_array().expect("a list").iter();
    assert_eq!(failed.filter(|run| run["failed_attempts"] == 1).count(), 1, "{status}");
}

/// The real program, because what ends it is said from another thread than the one that works.
#[test]
fn a_worker_whose_lease_is_gone_ends_and_its_sweep_goes_on() {
    let bench = Bench::new();
    bench.manifest("one.toml", ONE);
    bench.give_base("results");
    let mut sweep =
        bench.start(&["sweep", "one.toml", "--set", "exec.lease_seconds=2", "--set", "grpo.steps=400"]);
    wait_for("rows", || bench.rows_written("results") >= 3 || sweep.ended());
    let workers = sweep.workers();
    let leases = bench.results().join(".store/leases");
    for lease in fs::read_dir(&leases).expect("a folder").map(|entry| entry.expect("readable").path()) {
        if lease.file_name().expect("a name").to_string_lossy().starts_with("run-") {
            fs::remove_file(lease).expect("removed");
        }
    }
    wait_for("the worker to end", || workers.iter().all(|worker| parent_of(*worker).is_none()));
    wait_for("another one", || !sweep.workers().is_empty() || sweep.ended());
    assert!(!sweep.ended(), "{}", sweep.finish().all());
    sweep.signal(Signal::INT);
    sweep.finish().ends(99).names(&["lost its lease and ends"]);
    bench.run(&["verify", "store"]).ends(0);
}

/// At moments that nobody chose: `TICKETS_TORTURE_ROUNDS` multiplies the grids.
#[test]
fn kill_9_at_random_moments() {
    let rounds: u64 =
        std::env::var("TICKETS_TORTURE_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    let mut kills = 0;
    for round in 0..rounds {
        let bench = bench();
        for tries in 0.. {
            let draw = tickets::counter::Counter::new(round, "kill", &[tries]).uniform();
            let mut sweep = bench.start(&["sweep", "grid.toml", "--jobs", "2"]);
            // The longer it is tried, the later the kill comes: every grid ends.
            let until =
                std::time::Instant::now() + std::time::Duration::from_secs_f64(draw * (4.0 + tries as f64));
            wait_for("the moment", || sweep.ended() || std::time::Instant::now() >= until);
            if sweep.ended() {
                sweep.finish().ends(0);
                break;
            }
            kills += 1;
            let workers = sweep.workers();
            sweep.signal(Signal::KILL);
            sweep.finish();
            wait_for("the workers to end", || workers.iter().all(|worker| parent_of(*worker).is_none()));
            bench.run(&["verify", "store"]).ends(0);
        }
        assert_eq!(&results(&bench), &reference().1);
        // The tables too, but for what measures time.
        for table in ["summary.csv", "metrics.csv", "evals.csv", "jaccard.csv"] {
            let csv = |bench: &Bench| common::reproducible_csv(&bench.results().join("grid").join(table));
            assert_eq!(csv(&bench), csv(&reference().0), "{table}");
        }
    }
    println!("{kills} kills over {rounds} grids");
}

/// A bench whose one run was asked to stop after some steps.
fn paused() -> Bench {
    let bench = Bench::new();
    bench.manifest("one.toml", ONE);
    bench.give_base("results");
    let mut sweep = bench.start(&["sweep", "one.toml"]);
    wait_for("rows", || bench.rows_written("results") >= 3 || sweep.ended());
    sweep.signal(Signal::INT);
    sweep.finish().ends(99);
    bench
}

/// Long enough to be stopped on the way.
const ONE: &str = "grpo.steps = 12\ngrid = [{ mask.type = 'random' }]";

#[test]
fn a_run_that_goes_on_otherwise_says_so_and_both_ways_are_recorded() {
    let bench = paused();
    let said = bench.run(&["sweep", "one.toml", "--set", "exec.threads=2"]).ends(0);
    said.names(&["with another threads: 1 -> 2: from here the promise of equal bits does not hold"]);
    let run = common::only(&bench.results().join(".store/run"));
    let done: Value =
        serde_json::from_slice(&fs::read(run.join("DONE.json")).expect("a marker")).expect("JSON");
    let classes = done["meta"]["classes"].as_array().expect("a list");
    assert_eq!(classes.iter().map(|class| &class["threads"]).collect::<Vec<_>>(), [1, 2]);
    let store = Store::open_read_only(&bench.results()).expect("a store");
    let id = run.file_name().expect("a name").to_str().expect("UTF-8");
    let made = |attempt| store.provenance(id, attempt).expect("readable").expect("a record");
    for (attempt, threads) in [(1, 1), (2, 2)] {
        let made = made(attempt);
        assert_eq!((&made["threads"], &made["device"]), (&threads.into(), &"cpu".into()));
        assert_eq!(made["build"]["digest"], classes[0]["build"]);
        assert_eq!(made["environment"]["OMP_NUM_THREADS"], threads.to_string());
    }
}

#[test]
fn saved_steps_of_another_base_are_set_aside() {
    let bench = paused();
    // The same weights in other bits: what a warm start on another machine might leave under the same id.
    let folder = common::only(&bench.results().join(".store/base"));
    let store = Store::open(&bench.results()).expect("a store");
    let id = folder.file_name().expect("a name").to_str().expect("UTF-8");
    let base = store.artifact(Stage::Base, id).expect("readable").expect("a base");
    let file = |name: &String| (name.clone(), base.read(name).expect("sound"));
    let mut files = base.files().keys().map(file).collect::<BTreeMap<_, _>>();
    files.get_mut("config.json").expect("a configuration").push(b'\n');
    fs::remove_dir_all(&folder).expect("removed");
    let views = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>();
    store.publish(Stage::Base, id, &views, base.meta().clone()).expect("published");

    let said = bench.run(&["sweep", "one.toml"]).ends(0);
    said.names(&["was made from other bits of the base than are there now", "moved to"]);
    let fresh = Bench::new();
    fresh.manifest("one.toml", ONE);
    fresh.give_base("results");
    fresh.run(&["sweep", "one.toml"]).ends(0);
    assert_eq!(bench.outcomes(&["one.toml"]), fresh.outcomes(&["one.toml"]));
}
