//! A step that finds too little memory: the run begins anew with half as much at a time, says so, notes it, and is then the run
//! that a manifest with the halves would have made. With the real program under a real limit of its address space.
#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests read what the program left")]

mod common;

use std::fs;
use std::process::Stdio;

use common::Bench;
use serde_json::Value;

/// One step of many rollouts, of which everything is kept; and of half as many, of which not.
const WHOLE: [&str; 2] = ["grpo.micro_batch=4096", "grpo.activations_mib=512"];
const HALF: [&str; 2] = ["grpo.micro_batch=2048", "grpo.activations_mib=256"];

const GRID: &str = r#"
    grpo = { steps = 1, rollouts_per_step = 4096, group_size = 4 }
    exec.threads = 1
    grid = [{ mask.type = "full" }]
"#;

/// A seed and sizes as overrides.
fn overrides(seed: u32, sizes: [&str; 2]) -> Vec<String> {
    [format!("seed={seed}"), sizes[0].into(), sizes[1].into()]
        .into_iter()
        .flat_map(|pair| ["--set".to_owned(), pair])
        .collect()
}

fn id(bench: &Bench, overrides: &[String]) -> String {
    let mut arguments = vec!["plan", "grid.toml", "--json"];
    arguments.extend(overrides.iter().map(String::as_str));
    bench.run(&arguments).ends(0).json()["runs"][0]["id"].as_str().expect("an id").to_owned()
}

/// The arguments of the process in which a run is made.
fn stage(bench: &Bench, overrides: &[String]) -> Vec<String> {
    let (manifest, id) = (bench.path("grid.toml").display().to_string(), id(bench, overrides));
    let fixed = ["stage", "--results", "results", "--stage", "run", "--manifest", &manifest, "--run", &id];
    fixed.into_iter().map(str::to_owned).chain(overrides.iter().cloned()).collect()
}

/// The most address space that a run takes, in KiB.
fn address_space(bench: &Bench, overrides: &[String]) -> u64 {
    let arguments = stage(bench, overrides);
    let mut command = bench.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut child = command.env("MALLOC_ARENA_MAX", "1").stdout(Stdio::null()).spawn().expect("started");
    let file = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("a child").is_none() {
        let status = fs::read_to_string(&file).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
        most = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(most);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().expect("ended").success());
    most
}

fn done(bench: &Bench, id: &str) -> Value {
    let marker = bench.results().join(".store/run").join(id).join("DONE.json");
    serde_json::from_slice(&fs::read(marker).expect("a marker")).expect("JSON")
}

#[test]
fn a_run_that_finds_too_little_memory_begins_anew_with_half_as_much_at_a_time() {
    let bench = Bench::new();
    bench.manifest("grid.toml", GRID);
    bench.give_base("results");
    let (whole, half) = (overrides(1, WHOLE), overrides(1, HALF));
    let (most, least) = (address_space(&bench, &whole), address_space(&bench, &half));
    assert!(most > least + (50 << 10), "{most} KiB, halved {least} KiB");
    assert!(done(&bench, &id(&bench, &whole))["meta"]["reduced"].is_null());

    // Another run, with room for the halves alone.
    let (whole, half) = (overrides(2, WHOLE), overrides(2, HALF));
    let _ = address_space(&bench, &half);
    let limit = u64::midpoint(most, least);
    let arguments = stage(&bench, &whole);
    let program = env!("CARGO_BIN_EXE_tickets");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("ulimit -v {limit}; exec \"$0\" \"$@\""), program])
        .args(&arguments)
        .current_dir(bench.path(""))
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("sh can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains(
            "the run begins anew with grpo.micro_batch = 2048 and grpo.activations_mib = 256, which changes float rounding"
        ),
        "{said}"
    );

    let (reduced, declared) = (done(&bench, &id(&bench, &whole)), done(&bench, &id(&bench, &half)));
    let expected = serde_json::json!({ "micro_batch": 2048, "activations_mib": 256 });
    assert_eq!(reduced["meta"]["reduced"], expected);
    // It is told by the class of the run, which tables show.
    assert_eq!(reduced["meta"]["classes"][0]["reduced"], expected);
    for digest in ["weights_digest", "moments_digest"] {
        assert!(reduced["meta"][digest].is_string());
        assert_eq!(reduced["meta"][digest], declared["meta"][digest], "{digest}");
    }
    // What was begun is kept aside.
    let quarantine = bench.results().join(".store/quarantine");
    assert!(fs::read_dir(quarantine).expect("a folder").count() > 0);
}
