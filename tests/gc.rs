//! `tickets gc`: what goes, what stays whatever the scope, and that nothing is lost on the way. With the real program.
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod common;
mod store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::Bench;
use proptest::prelude::*;
use serde_json::{Value, json};
use store_support::*;
use tickets::manifest::{self, Overrides};
use tickets::plan::{self, Plan};
use tickets::store::{Footing, RubbishKind, RunState, Scope, Stage, Store, Terms, audit};

/// Two manifests over the same base: `full` and `random`; only the second needs a mask.
fn bench() -> (Bench, Store, [Plan; 2]) {
    let bench = Bench::new();
    bench.manifest("manifests/full.toml", "grid = [{ mask.type = 'full', seed = [1, 2] }]");
    bench.manifest("manifests/fisher.toml", "grid = [{ mask.type = 'fisher' }]");
    let store = open(&bench.results());
    let plans = ["full", "fisher"].map(|name| planned(&bench, name, &[]));
    for plan in &plans {
        done(&store, plan);
    }
    (bench, store, plans)
}

fn planned(bench: &Bench, name: &str, set: &[&str]) -> Plan {
    let path = bench.path(format!("manifests/{name}.toml"));
    let set = set.iter().map(|set| (*set).to_owned()).collect();
    let loaded = manifest::load(path.to_str().unwrap(), &Overrides { set, env: false }).unwrap();
    plan::expand(loaded).unwrap()
}

/// Makes everything that a plan asks for.
fn done(store: &Store, plan: &Plan) {
    for run in &plan.runs {
        let id = run.id.to_string();
        for (name, of) in run.stages.named() {
            if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.name() == name) {
                publish(store, stage, of);
            }
        }
        store.describe_run(&id, plan::record(run, &plan.manifest.name)).unwrap();
        finished_run(store, &id);
    }
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.runs.iter().map(|run| run.id.to_string()).collect()
}

/// What `gc` says in JSON, and that it ended well.
fn gc(bench: &Bench, arguments: &[&str]) -> Value {
    bench.run(&[&["gc", "--json"], arguments].concat()).ends(0).json()
}

fn counts(said: &Value) -> BTreeMap<String, u64> {
    let kinds = said["kinds"].as_object().unwrap().iter();
    let counts = kinds.map(|(kind, sums)| (kind.clone(), sums["count"].as_u64().unwrap()));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn expected(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

/// The bytes below the trash, its records aside.
fn trashed(store: &Store) -> u64 {
    let files = contents(&store.layout().root().join("trash")).into_iter();
    files.filter(|(path, _)| !path.ends_with("record.json")).map(|(_, body)| body.len() as u64).sum()
}

#[test]
fn it_has_to_be_said_what_to_keep_and_what_may_go() {
    let (bench, store, _) = bench();
    let before = contents(store.results());
    for (arguments, words) in [
        (&["gc"][..], "--keep"),
        (&["gc", "--all"], "--keep MANIFEST"),
        (&["gc", "--keep", "full"], "--runs, --artifacts"),
        (&["gc", "--purge", "--all"], "cannot be used with"),
        (&["gc", "--keep", "full", "--runs", "--older-than", "1d"], "--purge"),
        (&["gc", "--purge", "--older-than", "7"], "30min"),
    ] {
        bench.run(arguments).ends(2).names(&[words]);
    }
    bench.run(&["gc", "--keep", "nowhere", "--all"]).ends(3);
    // One manifest that cannot be read could be the one that matters.
    bench.write("manifests/deep/er/broken.toml", "grid = 3");
    bench.run(&["gc", "--keep-all", "--all"]).ends(3).names(&["broken.toml"]);
    fs::remove_dir_all(bench.path("manifests")).unwrap();
    bench
        .run(&["gc", "--keep-all", "--all"])
        .ends(3)
        .names(&["--keep-all keeps every manifest below manifests/"]);
    assert_eq!(contents(store.results()), before);
    bench.manifest("manifests/full.toml", "grid = [{ mask.type = 'full' }]");
    gc(&bench, &["--keep", "full", "--all", "--results", "elsewhere"]);
    assert!(!bench.path("elsewhere").exists(), "nothing is made to be collected");
}

#[test]
fn runs_of_no_kept_manifest_go_with_what_they_alone_stand_on() {
    let (bench, store, [full, fisher]) = bench();
    let before = contents(store.results());
    let arguments = ["--keep", "full", "--runs", "--artifacts"];
    let dry = gc(&bench, &[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(contents(store.results()), before, "a dry run changes nothing");
    assert_eq!(dry["trash"], Value::Null);

    let run = &fisher.runs[0];
    let size: usize = before
        .iter()
        .filter(|(path, _)| path.to_string_lossy().contains(run.id.as_str()))
        .map(|(_, body)| body.len())
        .sum();
    let said = gc(&bench, &arguments);
    for key in ["kinds", "total", "by_manifest", "items", "kept"] {
        assert_eq!(said[key], dry[key], "{key}");
    }
    assert_eq!(counts(&said), expected(&[("runs", 1), ("scores", 1), ("masks", 1)]));
    assert_eq!(said["kept"], json!({"manifests": ["full"], "runs": 2}));
    assert_eq!(said["by_manifest"], json!([{"manifest": "fisher", "runs": 1, "bytes": size}]));
    assert_eq!(said["total"]["bytes"], trashed(&store));
    assert!(none_is_lost(&sorted(&before), &bodies(store.results())));

    // What is left is whole, and what went is pending again.
    bench.run(&["verify", "store"]).ends(0);
    let states = |name: &str| bench.run(&["status", name, "--json"]).ends(0).json()["counts"].clone();
    assert_eq!((states("full"), states("fisher")), (json!({"done": 2}), json!({"pending": 1})));
    assert!(store.artifact(Stage::Base, &full.runs[0].stages.base).unwrap().is_some());
    done(&store, &fisher);
    assert_eq!(states("fisher"), json!({"done": 1}));
    let text = bench.run(&["gc", "--keep", "full", "--runs", "--dry-run"]).ends(0);
    text.names(&["of fisher: 1 run would go", "total 1", "dry run: nothing was changed"]);
    bench.run(&["gc", "--keep-all", "--runs", "--artifacts"]).ends(0).names(&["there is nothing to collect"]);
}

fn sorted(contents: &[(PathBuf, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut bodies = contents.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>();
    bodies.sort();
    bodies
}

#[test]
fn artifacts_stay_while_any_run_that_stays_needs_them() {
    let (bench, store, [_, fisher]) = bench();
    publish(&store, Stage::Mask, "orphan");
    // The runs of the other manifest stay, so what they stand on does.
    assert_eq!(counts(&gc(&bench, &["--keep", "full", "--artifacts"])), expected(&[("masks", 1)]));
    // A run of which nobody knows what it stands on keeps everything.
    publish(&store, Stage::Mask, "orphan");
    fs::remove_file(store.layout().run(fisher.runs[0].id.as_str()).join("spec.json")).unwrap();
    let said = gc(&bench, &["--keep", "full", "--artifacts"]);
    assert_eq!(counts(&said), expected(&[]));
    assert!(said["notes"][0].as_str().unwrap().contains("not written down"), "{said}");
    // The manifest knows as well.
    assert_eq!(counts(&gc(&bench, &["--keep-all", "--artifacts"])), expected(&[("masks", 1)]));
    // Runs that are kept and not begun keep what is ready for them.
    let id = fisher.runs[0].id.as_str();
    fs::remove_dir_all(store.layout().run(id)).unwrap();
    assert_eq!(counts(&gc(&bench, &["--keep", "fisher", "--artifacts"])), expected(&[]));
    let said = gc(&bench, &["--keep", "full", "--artifacts"]);
    assert_eq!(counts(&said), expected(&[("masks", 1), ("scores", 1)]));
}

#[test]
fn an_override_keeps_more_and_never_less() {
    let (bench, store, [full, _]) = bench();
    let other = planned(&bench, "full", &["optimizer.lr=0.5"]);
    done(&store, &other);
    let removed = |arguments: &[&str]| {
        gc(&bench, &[&["--keep", "full", "--runs", "--dry-run"], arguments].concat())["total"]["count"]
            .clone()
    };
    assert_eq!(removed(&[]), 3);
    assert_eq!(removed(&["--set", "optimizer.lr=0.5"]), 1, "the manifest without the override stays kept");
    assert_ne!(ids(&full), ids(&other));
    let mut command = bench.command(&["gc", "--keep", "full", "--runs", "--dry-run", "--json"]);
    let output = command.env("TICKETS_OPTIMIZER__LR", "0.5").output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(said["total"]["count"], 1, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn checkpoints_and_attempts_of_finished_runs_go_and_their_results_stay() {
    let (bench, store, [full, fisher]) = bench();
    let open = "unfinished";
    describe(&store, open, "full", &[]);
    open_run(&store, open);
    let rows = |run: &str| store.run_rows(run).unwrap();
    let before = ids(&full).iter().map(|run| rows(run)).collect::<Vec<_>>();
    // Of three runs attempt 1 has one checkpoint, attempt 2 the one that it went on from and two of its own.
    let both = gc(&bench, &["--keep-all", "--attempts", "--checkpoints", "--dry-run"]);
    assert_eq!(counts(&both), expected(&[("attempts", 3), ("checkpoints", 9)]));
    assert_eq!(counts(&gc(&bench, &["--keep-all", "--checkpoints"])), expected(&[("checkpoints", 12)]));
    assert_eq!(counts(&gc(&bench, &["--keep-all", "--attempts"])), expected(&[("attempts", 3)]));
    for (run, before) in ids(&full).iter().zip(&before) {
        assert_eq!(&rows(run), before);
        assert_eq!(store.run_state(run).unwrap(), RunState::Done);
        assert!(store.final_file(run, "weights").unwrap().is_some());
    }
    assert_eq!(store.run_state(open).unwrap(), RunState::Resumable { step: 4 });
    assert_eq!(store.begin(open).unwrap().resumed().unwrap().step(), 4, "nothing of it was touched");
    bench.run(&["verify", "store"]).ends(0);
    // A result that is damaged may need its checkpoints.
    let run = ids(&fisher)[0].clone();
    let mut again = store.begin(&run).unwrap();
    advance(&mut again, 2);
    drop(again);
    fs::remove_file(store.layout().attempt(&run, 2).join("final/weights")).unwrap();
    let said = gc(&bench, &["--keep-all", "--attempts", "--checkpoints"]);
    assert_eq!(counts(&said), expected(&[]));
    assert!(said["notes"][0].as_str().unwrap().contains("stays as it is"), "{said}");
}

#[test]
fn what_was_left_behind_or_set_aside_goes_when_it_is_asked_for() {
    let (bench, store, _) = bench();
    let root = store.layout().root();
    for (leftover, days) in [(".tmp-1-1", 8), ("base/.tmp-1-2", 8), (".tmp-1-3", 6)] {
        write(&root.join(leftover), "half");
        set_age(&root.join(leftover), Duration::from_hours(24 * days));
    }
    write(&root.join("quarantine/base-x-1/model"), "12345");
    write(&root.join("quarantine/base-x-1.reason.txt"), "why\n");
    let said = gc(&bench, &["--keep-all", "--leftovers", "--quarantine"]);
    assert_eq!(counts(&said), expected(&[("leftovers", 2), ("quarantine", 1)]));
    assert!(root.join(".tmp-1-3").exists(), "its maker may be at work");
    assert_eq!(fs::read_dir(root.join("quarantine")).unwrap().count(), 0, "the reason goes too");
    let trash = PathBuf::from(said["trash"].as_str().unwrap());
    let trash = bench.path(trash);
    assert_eq!(fs::read_to_string(trash.join("quarantine/base-x-1.reason.txt")).unwrap(), "why\n");
}

#[test]
fn the_trash_says_where_things_were_and_is_emptied_when_they_are_old() {
    let (bench, store, [full, _]) = bench();
    let before = contents(store.results());
    let said = gc(&bench, &["--keep", "fisher", "--runs"]);
    let trash = bench.path(said["trash"].as_str().unwrap());
    let record: Value = serde_json::from_slice(&fs::read(trash.join("record.json")).unwrap()).unwrap();
    assert_eq!(record["moved"].as_array().unwrap().len(), 2);
    for key in ["from", "kind", "why", "bytes", "manifest"] {
        assert!(!record["moved"][0][key].is_null(), "{key}");
    }
    assert!(record["at"].is_u64() && record["seal"].is_string());

    // By hand it goes back to where it was.
    for moved in record["moved"].as_array().unwrap() {
        let from = moved["from"].as_str().unwrap();
        fs::rename(trash.join(from), store.layout().root().join(from)).unwrap();
    }
    fs::remove_dir_all(store.layout().root().join("trash")).unwrap();
    assert_eq!(contents(store.results()), before);

    gc(&bench, &["--keep", "fisher", "--runs"]);
    bench.run(&["gc", "--purge"]).ends(0).names(&["0 bytes (0 B) freed", "stay in the trash"]);
    let dry = gc(&bench, &["--purge", "--older-than", "0d", "--dry-run"]);
    assert_eq!(dry["total"]["count"], 1);
    assert!(trashed(&store) > 0);
    // An older collection, a removal that was cut short, and a name that is not ours.
    let folder = store.layout().root().join("trash");
    write(&folder.join("1000000000-1/run/x/DONE.json"), "old");
    write(&folder.join(".tmp-9-9/run/y"), "half removed");
    write(&folder.join("mine/letter"), "mine");
    assert_eq!(gc(&bench, &["--purge"])["total"]["count"], 2);
    assert!(trashed(&store) > 4, "the newer collection stays");
    assert_eq!(gc(&bench, &["--purge", "--older-than", "0d"])["purged"].as_array().unwrap().len(), 1);
    assert_eq!(contents(&folder), [(PathBuf::from("mine/letter"), b"mine".to_vec())]);
    assert_eq!(store.run_state(&ids(&full)[0]).unwrap(), RunState::Pending);
    bench.run(&["verify", "store"]).ends(0);
}

#[test]
fn what_is_in_use_stays_and_so_does_what_it_stands_on() {
    let (bench, store, [full, fisher]) = bench();
    let run = &fisher.runs[0];
    bench.manifest("manifests/other.toml", "grid = [{ mask.type = 'random' }]");
    // A run of the same trajectory, which the one at work may take steps over from.
    let related = "related";
    describe(&store, related, "old", &run.stages.named());
    finished_run(&store, related);
    lease(&store, &format!("run-{}", run.id));
    let said = gc(&bench, &["--keep", "other", "--all"]);
    assert_eq!(counts(&said), expected(&[("runs", 2)]), "{said}");
    assert_eq!(said["notes"].as_array().unwrap().len(), 2, "{said}");
    assert_eq!(store.run_state(run.id.as_str()).unwrap(), RunState::Done);
    assert!(store.layout().checkpoint(related, 2, 4).exists());

    // Scores that are being made need their base, though no run at work says so.
    fs::remove_dir_all(store.layout().root().join("leases")).unwrap();
    lease(&store, &format!("scores-{}", run.stages.scores.as_ref().unwrap()));
    assert_eq!(
        counts(&gc(&bench, &["--keep", "other", "--artifacts", "--runs"])),
        expected(&[("runs", 2), ("masks", 1)])
    );
    // Now nobody knows any more what they need.
    publish(&store, Stage::Mask, "orphan");
    let said = gc(&bench, &["--keep", "full", "--all"]);
    assert_eq!(counts(&said), expected(&[]));
    assert!(said["notes"][0].as_str().unwrap().contains("somebody works on scores-"), "{said}");
    assert!(store.artifact(Stage::Base, &full.runs[0].stages.base).unwrap().is_some());
}

#[test]
fn what_a_sweep_has_before_it_stays_though_nobody_works_on_it_yet() {
    let (bench, store, [_, fisher]) = bench();
    let run = &fisher.runs[0];
    fs::remove_dir_all(store.layout().run(run.id.as_str())).unwrap();
    let (scores, mask) = (run.stages.scores.as_ref().unwrap(), run.stages.mask.as_ref().unwrap());
    let needs = [format!("run-{}", run.id), format!("scores-{scores}"), format!("mask-{mask}")];
    let announced = store.announce("a sweep", Terms { lasts: Duration::from_mins(5) }, &needs).unwrap();
    let left = || {
        [(Stage::Scores, scores), (Stage::Mask, mask)].map(|(s, id)| store.artifact(s, id).unwrap().is_some())
    };
    gc(&bench, &["--keep", "full", "--all"]);
    assert_eq!(left(), [true, true]);
    drop(announced);
    gc(&bench, &["--keep", "full", "--all"]);
    assert_eq!(left(), [false, false]);
}

#[test]
fn what_comes_into_use_between_marking_and_moving_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = everything(folder.path());
    publish(&store, Stage::Base, "base2");
    describe(&store, "second", "two", &[("base", "base2"), ("trajectory", "t2")]);
    open_run(&store, "second");
    let all = Scope { runs: true, artifacts: true, ..Scope::default() };
    let marked = store.mark(&BTreeMap::new(), all).unwrap();
    lease(&store, "run-second");
    let done = store.collect(&marked).unwrap();
    assert_eq!(done.notes.len(), 2, "{:?}", done.notes);
    assert_eq!(store.runs().unwrap(), ["second"]);
    assert!(store.artifact(Stage::Base, "base2").unwrap().is_some());
    assert!(store.artifact(Stage::Base, "base1").unwrap().is_none());
    assert!(done.moved.iter().all(|thing| thing.kind != RubbishKind::Leftover));
}

/// What of a run's folder must never change while it is kept: all of it but dead temporary files, and of a finished run
/// but for checkpoints and other attempts than the one that finished.
fn untouchable(store: &Store, run: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = contents(&store.layout().run(run));
    let finished = store.result(run).unwrap().map(|result| result.folder().file_name().unwrap().to_owned());
    files.retain(|(path, _)| {
        let parts = path.iter().collect::<Vec<_>>();
        let temporary = parts.iter().any(|part| part.to_string_lossy().starts_with(".tmp-"));
        let spare = finished.as_ref().is_some_and(|finished| {
            parts[0] == "attempts" && (parts[1] != finished || parts[2] == "checkpoints")
        });
        !temporary && !spare
    });
    files
}

/// A store of runs `r0`, `r1`, ...: each with a base, perhaps a mask, a state.
fn random_store(results: &Path, runs: &[(u8, Option<u8>, u8, bool)]) -> Store {
    let store = open(results);
    for (i, (base, mask, state, described)) in runs.iter().enumerate() {
        let (run, base) = (format!("r{i}"), format!("b{base}"));
        let mask = mask.map(|mask| format!("m{mask}"));
        let mut stages = vec![("base", base.as_str())];
        stages.extend(mask.as_deref().map(|mask| ("mask", mask)));
        for (stage, id) in [(Stage::Base, Some(&base)), (Stage::Mask, mask.as_ref())] {
            if let Some(id) = id {
                publish(&store, stage, id);
            }
        }
        if *described {
            describe(&store, &run, "m", &stages);
        }
        match state {
            0 => drop(store.begin(&run).unwrap()),
            1 => open_run(&store, &run),
            _ => finished_run(&store, &run),
        }
        if *state == 1 {
            let leftover = store.layout().run(&run).join("attempts/0001/.tmp-1-1");
            write(&leftover, "half");
            set_age(&leftover, Duration::from_hours(24 * 30));
        }
    }
    publish(&store, Stage::Scores, "orphan");
    store
}

fn a_run() -> impl Strategy<Value = (u8, Option<u8>, u8, bool)> {
    (0..3_u8, proptest::option::of(0..3_u8), 0..3_u8, proptest::bool::weighted(0.9))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_kept_run_is_never_touched(
        runs in proptest::collection::vec(a_run(), 1..5),
        keeps in proptest::collection::vec(any::<bool>(), 5),
        flags in proptest::collection::vec(any::<bool>(), 6),
        leased in proptest::option::of(0..5_usize),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = random_store(folder.path(), &runs);
        let known = |i: usize| -> Footing {
            let (base, mask, _, _) = &runs[i];
            let (base, mask) = (format!("b{base}"), mask.map(|mask| format!("m{mask}")));
            Footing::of([("base", base.as_str())].into_iter().chain(mask.as_deref().map(|id| ("mask", id))))
        };
        let kept = (0..runs.len()).filter(|i| keeps[*i]).collect::<Vec<_>>();
        let keep = kept.iter().map(|i| (format!("r{i}"), known(*i))).collect::<BTreeMap<_, _>>();
        let leased = leased.filter(|i| *i < runs.len());
        if let Some(i) = leased {
            lease(&store, &format!("run-r{i}"));
        }
        let scope = Scope {
            runs: flags[0], artifacts: flags[1], checkpoints: flags[2],
            attempts: flags[3], leftovers: flags[4], quarantine: flags[5],
        };
        let stand = kept.iter().copied().chain(leased).collect::<BTreeSet<_>>();
        let look = || stand.iter().map(|i| untouchable(&store, &format!("r{i}"))).collect::<Vec<_>>();
        let states = || kept.iter().map(|i| store.run_state(&format!("r{i}")).unwrap()).collect::<Vec<_>>();
        let before = (look(), states(), bodies(folder.path()));
        let whole = leased.map(|i| contents(&store.layout().run(&format!("r{i}"))));

        let marked = store.mark(&keep, scope).unwrap();
        let done = store.collect(&marked).unwrap();

        prop_assert_eq!(&(look(), states()), &(before.0, before.1));
        prop_assert_eq!(whole, leased.map(|i| contents(&store.layout().run(&format!("r{i}")))), "in use");
        prop_assert!(none_is_lost(&before.2, &bodies(folder.path())), "something was removed");
        // What stays has what it stands on, kept or not.
        for run in store.runs().unwrap() {
            let footing = known(run[1..].parse().unwrap());
            for (stage, id) in &footing.artifacts {
                prop_assert!(store.verified_artifact(*stage, id).unwrap().is_some(), "{} of {}", id, run);
            }
        }
        for id in keep.values().flat_map(|footing| &footing.artifacts) {
            prop_assert!(store.artifact(id.0, &id.1).unwrap().is_some());
        }
        prop_assert_eq!(done.moved.len(), marked.rubbish.len());
        prop_assert!(audit(folder.path(), false).unwrap().is_clean());
        // Once is enough.
        prop_assert!(store.mark(&keep, scope).unwrap().rubbish.is_empty());
        if scope.runs && leased.is_none() {
            let left = store.runs().unwrap().into_iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(left, keep.keys().cloned().collect::<BTreeSet<_>>());
        }
    }
}

#[test]
fn a_kill_at_any_time_loses_nothing() {
    let (bench, store, [full, _]) = bench();
    for number in 0..60 {
        let run = format!("old{number:02}");
        describe(&store, &run, "old", &[("base", "gone")]);
        open_run(&store, &run);
    }
    publish(&store, Stage::Base, "gone");
    let kept = || ids(&full).iter().map(|run| untouchable(&store, run)).collect::<Vec<_>>();
    let (result, before) = (kept(), bodies(store.results()));
    let mut cut_short = 0;
    for round in 0..40 {
        let mut running =
            bench.command(&["gc", "--keep", "full", "--all"]).stdout(Stdio::null()).spawn().unwrap();
        // Before it has begun, or at some moment after the first runs are gone.
        let runs = store.runs().unwrap().len();
        while round > 0 && store.runs().unwrap().len() == runs && running.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(300 * round));
        let _ = running.kill();
        let ended = running.wait().unwrap();
        assert_eq!(kept(), result);
        assert!(none_is_lost(&before, &bodies(store.results())), "round {round}");
        assert!(audit(store.results(), false).unwrap().is_clean());
        let left = store.runs().unwrap().len();
        cut_short += usize::from(left > 2 && left < 63);
        if ended.success() {
            break;
        }
    }
    gc(&bench, &["--keep", "full", "--all"]);
    assert_eq!(store.runs().unwrap().len(), 2);
    assert!(store.artifact(Stage::Base, "gone").unwrap().is_none());
    assert_eq!(kept(), result);
    assert!(cut_short > 0, "no kill came in the middle");
    gc(&bench, &["--purge", "--older-than", "0d"]);
    assert_eq!(bench.run(&["status", "full", "--json"]).ends(0).json()["counts"], json!({"done": 2}));
}
