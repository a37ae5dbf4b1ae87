//! A disk that is full or may not be written: an error with advice, and nothing left.

use std::fs;
use std::process::Command;

use serde_json::json;
use tickets::sparsity::Mask;

use crate::common::Bench;
use crate::support::{mask, names, put, size};

/// A mask of many small tensors: its header is larger than its indices.
fn wordy() -> Mask {
    let sizes = (0..2000).map(|layer| size(&format!("model.layers.{layer}.mlp.up_proj.weight"), &[64, 64]));
    Mask::new(sizes.collect(), vec![vec![1]; 2000]).expect("a mask")
}

/// A file system of 64 KiB: an export (8 MB) is refused before it is begun, indices (8 kB by the count of entries, 200 kB with
/// the header) fail when they are written.
const SCRIPT: &str = r#"
    mkdir disk && mount -t tmpfs -o size=64k tmpfs disk || exit 90
    for command in union intersect; do
        "$TICKETS" masks $command wordy wordy --out disk/new 2>> said
        echo "$command $?"
    done
    for command in complement export import; do
        "$TICKETS" masks $command wordy --out disk/new 2>> said
        echo "$command $?"
    done
    find disk -type f
"#;

#[test]
fn a_full_disk_leaves_nothing() {
    let bench = Bench::new();
    put(&bench, "wordy", &wordy(), &json!({}));
    let possible = Command::new("unshare").args(["-rm", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: `unshare -rm` does not work here, so nothing can be mounted");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", SCRIPT]).current_dir(bench.path("."));
    let done =
        command.env("TICKETS", env!("CARGO_BIN_EXE_tickets")).output().expect("unshare can be started");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(said, "union 5\nintersect 5\ncomplement 5\nexport 5\nimport 5\n");
    let said = fs::read_to_string(bench.path("said")).expect("what was said");
    assert_eq!(said.matches("no space left to write").count(), 3, "{said}");
    assert_eq!(said.matches("are free there").count(), 2, "{said}");
    assert_eq!(
        said.matches("name another place by --out: nothing is left half-written").count(),
        5,
        "{said}"
    );
}

#[test]
fn a_folder_that_is_a_file_is_named() {
    let bench = Bench::new();
    put(&bench, "m", &mask([&[0]; 6]), &json!({}));
    let said = bench.run(&["masks", "complement", "m", "--out", "m/new"]).ends(5);
    let _ = said.names(&["a part of this path is a file"]);
    assert_eq!(names(&bench), ["m"]);
}
