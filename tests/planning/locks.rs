//! Locks, and runs that several manifests have.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use crate::common::contents;
use crate::support::{GRID, bench, finish, of, plan};

#[test]
fn a_result_of_another_manifest_is_shared_and_said() {
    let bench = bench();
    bench.manifest(
        "manifests/sub/other.toml",
        "grpo = { steps = 8 }\neval.every = 4\ngrid = [{ mask.type = 'full' }]",
    );
    let other = plan(&bench, "sub/other.toml");
    finish(&bench, "sub/other", &other.runs[0], 0.5);
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(of(&object, "full-lr1e-3", "state"), "done");
    assert_eq!(of(&object, "full-lr1e-3", "shared_with"), &json!(["sub/other"]));
    assert_eq!(of(&object, "full-lr1e-3", "reason"), "finished; shared with sub/other");
    assert_eq!(of(&object, "random-s0-lr1e-3", "shared_with"), &json!([]));
    // A lock says the same of runs that nobody has begun.
    bench.manifest("manifests/third.toml", GRID);
    bench.run(&["plan", "third", "--lock"]).ends(0);
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(of(&object, "full-lr1e-3", "shared_with"), &json!(["sub/other", "third"]));
    assert_eq!(of(&object, "random-s0-lr1e-3", "shared_with"), &json!(["third"]));
    let said = bench.run(&["plan", "grid"]).ends(0);
    assert!(said.out.contains("\nshared with sub/other (1 of 5 runs), third\n"), "{}", said.out);
    // Its own lock and its own results are not somebody else's.
    bench.run(&["plan", "grid", "--lock"]).ends(0);
    let object = bench.run(&["plan", "third", "--json"]).ends(0).json();
    assert_eq!(of(&object, "random-s0-lr1e-3", "shared_with"), &json!(["grid"]));
}

#[test]
fn a_lock_shows_what_an_edit_adds_drops_and_keeps() {
    let bench = bench();
    bench
        .run(&["plan", "grid", "--check"])
        .ends(4)
        .names(&["there is no results/grid/plan.lock", "--lock` writes it"]);
    bench.run(&["plan", "grid", "--lock"]).ends(0).names(&["results/grid/plan.lock written: 5 runs"]);
    let path = bench.path("results/grid/plan.lock");
    let first = fs::read_to_string(&path).expect("a lock");
    let planned = plan(&bench, "grid.toml");
    let mut wanted = [Vec::new(), Vec::new()];
    for run in &planned.runs {
        wanted[0].push(run.id.to_string());
        wanted[1].push(format!("{} {}", run.label, run.id.short()));
    }
    let [ids, labels] = wanted.map(|mut lines| {
        lines.sort_unstable();
        lines.join("\n")
    });
    assert!(first.ends_with(&format!("\n\n# ids\n{ids}\n\n# labels\n{labels}\n")), "{first}");
    bench.run(&["plan", "grid", "--check"]).ends(0).names(&["is up to date: 5 runs"]);
    bench.run(&["plan", "grid", "--lock"]).ends(0).names(&["as it was"]);

    // A comment, a title and [exec] change no run; another rate drops two and adds two.
    let text = fs::read_to_string(bench.path("manifests/grid.toml")).expect("a manifest");
    bench.write("manifests/grid.toml", &format!("# a remark\n{}", text.replace("Tiny", "Tidy")));
    bench.run(&["plan", "grid", "--check", "--set", "exec.threads=2"]).ends(0);
    // The lock is of the manifest alone: a variable that was left in the shell does not get into it.
    let overridden = "the lock is of the manifest as it is written, but `seed` is overridden (--set)";
    bench.run(&["plan", "grid", "--lock", "--set", "seed=1"]).ends(4).names(&[overridden]);
    bench.run(&["plan", "grid", "--check", "--set", "seed=1"]).ends(4).names(&[overridden]);
    bench.manifest("manifests/grid.toml", &GRID.replace("1e-2]", "3e-2]"));
    let said = bench.run(&["plan", "grid", "--check"]).ends(4);
    for line in [
        "is out of date",
        "added: random-s0-lr3e-2",
        "added: random-s1-lr3e-2",
        "dropped: random-s0-lr1e-2",
        "dropped: random-s1-lr1e-2",
        "kept: 3",
    ] {
        assert!(said.all().contains(line), "{line}: {}", said.all());
    }
    assert_eq!(fs::read_to_string(&path).expect("a lock"), first, "--check writes nothing");
    let object = bench.run(&["plan", "grid", "--check", "--json"]).ends(4).json();
    assert_eq!((&object["differs"], &object["kept"]), (&json!(true), &json!(3)));
    let object = bench.run(&["plan", "grid", "--lock", "--json"]).ends(0).json();
    assert_eq!((&object["differs"], &object["kept"]), (&json!(true), &json!(3)));
    assert_eq!(object["added"], json!(["random-s0-lr3e-2", "random-s1-lr3e-2"]));
    assert!(!bench.path("results/.store").exists(), "a lock needs no store");

    // Where one axis fewer varies, labels are shorter and ids are the same.
    bench.manifest("manifests/grid.toml", &GRID.replace("[1e-3, 1e-2]", "1e-3"));
    let said = bench.run(&["plan", "grid", "--check"]).ends(4);
    for line in ["renamed: random-s0-lr1e-3 -> random-s0", "dropped: random-s1-lr3e-2", "kept: 3, 3 renamed"]
    {
        assert!(said.all().contains(line), "{line}: {}", said.all());
    }
    // Ids stand alone, so that the difference of the file shows no run that is kept.
    let before = fs::read_to_string(&path).expect("a lock");
    bench.run(&["plan", "grid", "--lock"]).ends(0);
    let after = fs::read_to_string(&path).expect("a lock");
    let ids =
        |text: &str| text.lines().filter(|line| line.len() == 64).map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(ids(&after).is_subset(&ids(&before)) && ids(&after).len() == 3);

    // The same label for another run; a line that is of no lock.
    bench.manifest(
        "manifests/grid.toml",
        &GRID.replace("[1e-3, 1e-2]", "1e-3").replace("steps = 8", "steps = 9"),
    );
    fs::write(&path, after + "<<<<<<< ours\n").expect("written");
    let said = bench.run(&["plan", "grid", "--check"]).ends(4);
    for line in ["changed: random-s0", "not understood: 1 line", "kept: 0"] {
        assert!(said.all().contains(line), "{line}: {}", said.all());
    }
}

#[test]
fn plan_writes_nothing_but_the_lock() {
    let bench = bench();
    finish(&bench, "grid", &plan(&bench, "grid.toml").runs[0], 0.5);
    let before = contents(bench.folder.path());
    for arguments in [
        &["plan", "grid"][..],
        &["plan", "grid", "--json"],
        &["plan", "grid", "--why", "full"],
        &["plan", "grid", "--origins"],
    ] {
        bench.run(arguments).ends(0);
    }
    assert_eq!(contents(bench.folder.path()), before);
}
