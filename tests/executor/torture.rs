//! kill -9 at random moments: of sweeps, of single workers, with one sweep or two at work. `TICKETS_TORTURE_ROUNDS`
//! multiplies the kills.

use crate::bench::*;
use crate::interruption::{wait_for, workers};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tickets::counter::Counter;
use tickets::store::{RunState, audit};

/// Kills in a run of the ordinary tests.
const FEW: u32 = 16;

fn kills_wanted() -> u32 {
    let rounds = std::env::var("TICKETS_TORTURE_ROUNDS").map_or(1, |text| text.parse().unwrap());
    FEW * rounds
}

fn start(bench: &Bench) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["bench::sweeper_process", "--exact", "--nocapture", "--test-threads=1"])
        .env("EXECUTOR_TEST_SWEEP", &bench.folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs that are done; each was acknowledged.
fn done(bench: &Bench) -> BTreeSet<String> {
    let store = bench.store();
    let runs = bench.plan().runs.into_iter().map(|run| run.id.to_string());
    runs.filter(|run| store.run_state(run).unwrap() == RunState::Done).collect()
}

#[test]
fn kill_9_at_random_moments_changes_nothing() {
    let expected = uninterrupted();
    let (mut kills, mut grid) = (0, 0);
    while kills < kills_wanted() {
        let bench = Bench::new(&json!({"sleep_ms": 4}));
        let mut before = BTreeSet::new();
        let mut tries = 0;
        loop {
            let mut dice = (0..8).map(|draw| Counter::new(grid, "kill", &[tries, draw]).uniform());
            let mut roll = || dice.next().unwrap();
            let mut sweeps = vec![start(&bench)];
            if roll() < 0.3 {
                sweeps.push(start(&bench));
            }
            wait_for("the sweep to begin", || bench.folder.join("ready").exists());
            // The longer it is tried, the later the kill comes: every grid ends.
            let most = 350.0 + 40.0 * tries as f64;
            std::thread::sleep(Duration::from_micros((roll() * most * 1000.0) as u64));
            if roll() < 0.3 {
                // One worker alone; its sweep goes on with the rest.
                let found = workers(&bench);
                if !found.is_empty() {
                    let victim = &found[(roll() * found.len() as f64) as usize];
                    let _ = kill_process(Pid::from_raw(victim.parse().unwrap()).unwrap(), Signal::KILL);
                    kills += 1;
                    std::thread::sleep(Duration::from_micros((roll() * 50_000.0) as u64));
                }
            }
            for sweep in &mut sweeps {
                kills += u32::from(sweep.try_wait().unwrap().is_none());
                sweep.kill().unwrap();
                sweep.wait().unwrap();
            }
            wait_for("the workers to end", || workers(&bench).is_empty());
            std::fs::remove_file(bench.folder.join("ready")).unwrap();

            let found = audit(&bench.folder, false).unwrap();
            assert!(found.is_clean(), "grid {grid}, try {tries}: {:?}", found.findings);
            let now = done(&bench);
            assert!(
                before.is_subset(&now),
                "grid {grid}, try {tries}: {:?} vanished",
                before.difference(&now)
            );
            before = now;
            if before.len() == expected.len() {
                break;
            }
            tries += 1;
        }
        assert_eq!(bench.outcome(), expected, "grid {grid}");
        assert!(bench.store().quarantined().unwrap().is_empty(), "grid {grid}: nothing was damaged");
        grid += 1;
    }
    println!("{kills} kills over {grid} grids");
}
