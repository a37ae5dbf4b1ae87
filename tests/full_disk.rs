//! A sweep on a disk that is really full pauses, damages nothing, and goes on to the same numbers when there is room.
//!
//! The disk is a small file system of its own, mounted in a namespace of its own (`unshare -rm`); where that is not possible the
//! test says so and ends.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use std::fs;
use std::process::Command;

use common::Bench;

const GRID: &str = "grpo.steps = 8\neval.every = 4\nexec.checkpoint_every = 2\n\
    grid = [{ mask.type = ['full', 'random', 'fisher'] }]";

/// Sweeps with more and more room, and then copies the results out of the file system.
const SCRIPT: &str = r#"
    mkdir disk && mount -t tmpfs -o size=300k tmpfs disk || exit 90
    for size in 300k 500k 700k 900k 1100k 1400k 30m; do
        mount -o remount,size=$size disk || exit 91
        "$TICKETS" sweep grid.toml --results disk/results --no-preflight > "said.$size" 2>&1
        echo "sweep $?"
        if [ -e disk/results/.store/format ]; then
            "$TICKETS" verify store --results disk/results > verified 2>&1 || { cat verified; exit 92; }
        fi
    done
    cp -r disk/results results
"#;

#[test]
fn a_full_disk_pauses_the_grid_and_damages_nothing() {
    let bench = Bench::new();
    bench.manifest("grid.toml", GRID);
    let possible = Command::new("unshare").args(["-rm", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: `unshare -rm` does not work here, so nothing can be mounted");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", SCRIPT]).current_dir(bench.path("."));
    let done =
        command.env("TICKETS", env!("CARGO_BIN_EXE_tickets")).env_remove("TICKETS_TORTURE_ROUNDS").output();
    let done = done.expect("unshare can be started");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    let codes: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("sweep ")).collect();
    assert_eq!(codes.last(), Some(&"0"), "{said}");
    assert!(codes.iter().all(|code| ["0", "5"].contains(code)) && codes.contains(&"5"), "{said}");
    let texts = ["300k", "500k", "700k", "900k", "1100k"]
        .map(|size| fs::read_to_string(bench.path(format!("said.{size}"))));
    let texts = texts.map(|text| text.expect("what was said")).concat();
    assert!(texts.contains("disk-full") && texts.contains("the same command goes on from here"), "{texts}");
    assert!(!texts.contains("moved to"), "{texts}");

    let fresh = Bench::new();
    fresh.manifest("grid.toml", GRID);
    fresh.run(&["sweep", "grid.toml"]).ends(0);
    assert_eq!(bench.outcomes(&["grid.toml"]), fresh.outcomes(&["grid.toml"]));
}
