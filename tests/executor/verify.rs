//! Runs that are executed again: interrupted as planned, or compared with what the store has. A trainer that is not
//! reproducible must be caught.

use crate::bench::*;
use std::cell::RefCell;
use std::fs;

use serde_json::{Value, json};
use tickets::cli::args::{LookArgs, ManifestArgs};
use tickets::cli::verify::{Program, ResumeArgs, SampleArgs, Share, resume, sample};
use tickets::execute::{Again, Ended, Event, FailureClass, PlannedStop, StopHow, Verdict};
use tickets::exit::{Code, Failure};
use tickets::store::{Stage, Store};

fn program(bench: &Bench) -> Program {
    let options = bench.options();
    Program { program: options.program, arguments: options.arguments }
}

fn resumed(bench: &Bench, at: &[u32], json: bool, keep: bool) -> Result<(Code, String), Failure> {
    let common = ManifestArgs {
        manifest: bench.manifest().display().to_string(),
        set: Vec::new(),
        no_env: true,
        results: bench.folder.clone(),
    };
    let args = ResumeArgs { common, run: bench.run("fisher").label, at: at.to_vec(), json, keep };
    let mut out = Vec::new();
    let code = resume(&args, &program(bench), &mut out)?;
    Ok((code, String::from_utf8(out).unwrap()))
}

fn resumed_json(bench: &Bench, at: &[u32]) -> (Code, Value) {
    let (code, text) = resumed(bench, at, true, false).unwrap();
    (code, serde_json::from_str(&text).unwrap())
}

fn sampled(bench: &Bench, share: &str, manifest: Option<&str>) -> (Code, Value) {
    let look = LookArgs { results: bench.folder.clone(), set: Vec::new(), no_env: true, json: true };
    let share: Share = share.parse().unwrap();
    let args = SampleArgs { share, manifest: manifest.map(str::to_owned), seed: 0, look };
    let mut out = Vec::new();
    let code = sample(&args, &program(bench), &mut out).unwrap();
    (code, serde_json::from_slice(&out).unwrap())
}

/// Every file below the store, with its length.
fn files(bench: &Bench) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![bench.folder.join(".store")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path().display().to_string(), entry.metadata().unwrap().len()));
        }
    }
    found.retain(|(path, _)| fs::metadata(path).is_ok_and(|meta| meta.is_file()) || path.contains(".tmp-"));
    found.sort();
    found
}

#[test]
fn a_trainer_that_saves_everything_passes_and_leaves_nothing_behind() {
    let bench = Bench::new(&json!({}));
    let (code, said) = resumed_json(&bench, &[7, 3]);
    assert_eq!(code, Code::Ok, "{said:#}");
    assert_eq!((&said["equal"], &said["at"], &said["kept"]), (&json!(true), &json!([3, 7]), &Value::Null));
    // Checkpoints stand at even steps: a kill loses the step after one, a pause saves it.
    let stops = |how: &str| {
        let ways = said["executions"].as_array().unwrap();
        ways.iter().find(|way| way["how"] == how).unwrap()["stops"].clone()
    };
    assert_eq!(stops("killed"), json!([{ "after": 3, "from": 2 }, { "after": 7, "from": 6 }]));
    assert_eq!(stops("paused"), json!([{ "after": 3, "from": 3 }, { "after": 7, "from": 7 }]));
    assert_eq!(files(&bench), []);
    // The shared stages are made once, and the run is begun once and then three times twice.
    let calls = bench.calls();
    let counts = counts(&calls);
    assert_eq!((counts["base"], counts["scores"], counts["run fisher from 0"]), (1, 1, 3), "{calls:?}");
    let (_, text) = resumed(&bench, &[3], false, false).unwrap();
    assert!(text.contains("interrupted and resumed equals uninterrupted"), "{text}");
    assert!(text.contains("killed after 3"), "{text}");
}

#[test]
fn stages_of_the_store_are_used_and_the_store_is_not_changed() {
    let bench = Bench::new(&json!({}));
    bench.sweep();
    bench.calls();
    let before = files(&bench);
    assert_eq!(resumed_json(&bench, &[1, 9]).0, Code::Ok);
    let calls = bench.calls();
    assert!(!calls.iter().any(|call| call == "base" || call == "scores"), "{calls:?}");
    assert_eq!(files(&bench), before);
}

#[test]
fn a_trainer_that_forgets_something_is_caught_at_the_step() {
    let bench = Bench::new(&json!({ "forgets": 1e-9 }));
    let (code, said) = resumed_json(&bench, &[3]);
    assert_eq!((code, &said["equal"]), (Code::RunsFailed, &json!(false)));
    let [killed, paused] = [0, 1].map(|way: usize| said["executions"][way].clone());
    assert_eq!((&killed["result"], &killed["difference"]["part"]), (&json!("differs"), &json!("metrics")));
    assert_eq!((&killed["difference"]["step"], &paused["difference"]["step"]), (&json!(3), &json!(4)));
    assert_eq!(killed["difference"]["column"], "reward");
    let values = ["expected", "found"].map(|side| killed["difference"][side].as_f64().unwrap());
    assert!((values[1] - values[0] - 0.9e-9).abs() < 1e-12, "{values:?}");

    let (_, text) = resumed(&bench, &[3], false, true).unwrap();
    assert!(text.contains("metrics of step 3, reward: "), "{text}");
    assert!(text.contains("2 of 2 interrupted executions do not equal"), "{text}");
    let kept = text.lines().find_map(|line| line.strip_prefix("kept: ")).unwrap();
    assert!(fs::metadata(kept).unwrap().is_dir());
    let paused = Store::open_read_only(&std::path::Path::new(kept).join("paused")).unwrap();
    assert!(paused.result(bench.run("fisher").id.as_str()).unwrap().is_some());
}

#[test]
fn a_trainer_without_a_fixed_order_of_sums_is_caught() {
    let bench = Bench::new(&json!({ "noise": 1e-12 }));
    let (code, said) = resumed_json(&bench, &[5]);
    assert_eq!(code, Code::RunsFailed, "{said:#}");
    assert_eq!(said["executions"][0]["difference"]["step"], 1);
}

#[test]
fn steps_outside_the_run_and_a_run_that_fails_are_said() {
    let bench = Bench::new(&json!({ "fisher": { "class": "nan", "step": 6 } }));
    let failure = resumed(&bench, &[3, 10], false, false).unwrap_err();
    assert_eq!((failure.code, failure.hint.as_deref()), (Code::Usage, Some("name steps from 1 to 9")));
    let failure = resumed(&bench, &[3], false, false).unwrap_err();
    assert_eq!(failure.code, Code::RunsFailed);
    assert!(failure.to_string().contains("fails without any interruption: nan at step 6"), "{failure}");
    assert_eq!(files(&bench), []);
}

#[test]
fn an_interruption_that_does_not_come_is_no_pass() {
    let bench = Bench::new(&json!({}));
    let (plan, options) = (bench.plan(), bench.options());
    let run = plan.runs.iter().position(|run| key(run) == "full").unwrap();
    let notes = RefCell::new(0);
    let say = |_: &Event| *notes.borrow_mut() += 1;
    let again = Again { plan: &plan, run, options: &options, say: &say };
    let scratch = bench.store().scratch().unwrap();
    let bed = scratch.store("one").unwrap();
    let late = PlannedStop { how: StopHow::Killed, after: STEPS + 1 };
    let Ended::Failed(failure) = again.execute(&bed, &[late]).unwrap() else { panic!("it passed") };
    assert_eq!(failure.message, "it ended without being killed after step 10");
    assert!(*notes.borrow() > 8);
    // The result of the run itself is whole.
    assert_eq!(again.compare(&bed, &bed).unwrap().verdict, Verdict::Equal);
    // A request to stop ends it at once.
    let asked = bench.options();
    asked.requests.raise(1);
    let again = Again { options: &asked, ..again };
    assert_eq!(again.execute(&scratch.store("two").unwrap(), &[]).unwrap(), Ended::Interrupted);
}

#[test]
fn a_sample_is_judged_against_the_store() {
    let bench = Bench::new(&json!({ "classes": [{ "threads": 1 }] }));
    bench.sweep();
    let manifest = bench.manifest().display().to_string();
    let before = files(&bench);
    let (code, said) = sampled(&bench, "30%", Some(&manifest));
    assert_eq!(code, Code::Ok, "{said:#}");
    assert_eq!((&said["finished"], &said["chosen"], &said["equal"]), (&json!(4), &json!(2), &json!(true)));
    assert!(said["runs"].as_array().unwrap().iter().all(|run| run["result"] == "equal"), "{said:#}");
    assert_eq!(files(&bench), before);

    // The same class and other numbers: caught, and where.
    bench.script(&json!({ "classes": [{ "threads": 1 }], "noise": 1e-12 }));
    let (code, said) = sampled(&bench, "1", Some(&manifest));
    assert_eq!(code, Code::RunsFailed, "{said:#}");
    assert_eq!(
        (&said["runs"][0]["result"], &said["runs"][0]["difference"]["step"]),
        (&json!("differs"), &json!(1))
    );

    // Another class: a difference says nothing, equality does.
    bench.script(&json!({ "classes": [{ "threads": 2 }], "noise": 1e-12 }));
    let (code, said) = sampled(&bench, "100%", Some(&manifest));
    assert_eq!((code, &said["equal"], &said["chosen"]), (Code::Ok, &json!(true), &json!(4)));
    let run = &said["runs"][0];
    assert_eq!(run["result"], "another-class");
    assert_eq!(run["class"], json!([{ "field": "threads", "stored": 1, "now": 2 }]));
    bench.script(&json!({ "classes": [{ "threads": 2 }] }));
    assert_eq!(sampled(&bench, "1", Some(&manifest)).1["runs"][0]["result"], "equal");

    // One that fails now is no pass.
    let key = &key(bench.plan().find(run["run"].as_str().unwrap()).unwrap());
    bench.script(&json!({ key.as_str(): { "class": "oom", "step": 2 } }));
    let (code, said) = sampled(&bench, "1", Some(&manifest));
    assert_eq!((code, &said["runs"][0]["failure"]["class"]), (Code::RunsFailed, &json!(FailureClass::Oom)));
    assert_eq!(files(&bench), before);
}

#[test]
fn runs_without_a_manifest_are_listed_and_damage_is_no_pass() {
    let bench = Bench::new(&json!({}));
    bench.sweep();
    // Their records name a manifest that does not lie below manifests/.
    let (code, said) = sampled(&bench, "100%", None);
    assert_eq!((code, &said["finished"], &said["chosen"]), (Code::Ok, &json!(0), &json!(0)));
    let lost = said["not_reexecutable"].as_array().unwrap();
    assert_eq!(lost.len(), 4);
    assert!(lost[0]["reason"].as_str().unwrap().contains("executor test"), "{said:#}");

    let run = bench.run("full");
    let store = bench.store();
    let result = store.result(run.id.as_str()).unwrap().unwrap();
    fs::write(result.path("final/weight"), [0; 8]).unwrap();
    let base = store.artifact(Stage::Base, &run.stages.base).unwrap().unwrap();
    fs::write(base.path("model"), [1; 8]).unwrap();
    let manifest = bench.manifest().display().to_string();
    let (code, said) = sampled(&bench, "100%", Some(&manifest));
    assert_eq!(code, Code::RunsFailed);
    for judged in said["runs"].as_array().unwrap() {
        let damaged = judged["run"] == run.id.as_str();
        // A damaged base is not used: it is made anew, and comes out the same.
        assert_eq!(judged["result"], if damaged { "failed" } else { "equal" }, "{judged:#}");
    }
    assert!(base.path("model").exists(), "what is damaged is left for the next sweep");
}
