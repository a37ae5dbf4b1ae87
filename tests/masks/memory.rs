//! A file with a byte per entry of the model is never in memory as a whole, in neither direction.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tickets::sparsity::Mask;

use crate::common::Bench;
use crate::support::{digest, put, size};

/// Peak resident memory of a command, in KiB, as the kernel counts it up to shortly before its end; the command must succeed.
fn peak(bench: &Bench, arguments: &[&str]) -> u64 {
    let mut child = bench.command(arguments).spawn().expect("the program can be started");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(found.unwrap_or(0));
        if let Some(ended) = child.try_wait().expect("it is ours") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(ended.success(), "{arguments:?}");
    peak
}

#[test]
fn booleans_of_64_mib_take_a_few_mib() {
    let bench = Bench::new();
    let tensors = vec![size("model.embed_tokens.weight", &[8192, 8192]), size("model.norm.weight", &[8192])];
    let every_thousandth = (0..8192 * 8192).step_by(1000).collect();
    let mask = Mask::new(tensors, vec![every_thousandth, vec![0, 8191]]).expect("a mask");
    put(&bench, "m", &mask, &json!({ "type": "by hand", "active": mask.active(), "total": mask.total() }));
    // What the program takes without any of it. The last sample of a short run may be early, so it is run more than once.
    let looks = (0..5).map(|_| peak(&bench, &["masks", "describe", "m"]));
    let own = looks.max().expect("some");
    for arguments in
        [["masks", "export", "m", "--out", "bools"], ["masks", "import", "bools", "--out", "back"]]
    {
        let taken = peak(&bench, &arguments).saturating_sub(own);
        assert!(taken < 24 << 10, "{arguments:?}: {taken} KiB more than to look at a mask");
    }
    assert!(fs::metadata(bench.path("bools")).expect("a file").len() > 64 << 20);
    assert_eq!(digest(&bench.path("back")), digest(&bench.path("m")));
}
