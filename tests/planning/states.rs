//! States of runs and of the stages that they share.

use std::fs;

use serde_json::{Value, json};
use tickets::store::{Stage, Store, failure_record};

use crate::common::Bench;
use crate::support::{bench, finish, of, plan, runs};

#[test]
fn a_failed_run_is_told_as_the_sweep_will_treat_it() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let store = Store::open(&bench.results()).expect("a store");
    for (run, class) in planned.runs.iter().zip(["nan", "oom"]) {
        let mut attempt = store.begin(run.id.as_str()).expect("an attempt");
        let row = json!({ "step": 1, "reward/mean": 0.5 });
        attempt.metrics(row.as_object().expect("an object")).expect("written");
        attempt.fail(&failure_record(class, Some(7), "as the test says", None)).expect("written");
    }
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    let [nan, oom] = [&planned.runs[0].label, &planned.runs[1].label];
    assert_eq!((of(&object, nan, "state"), of(&object, nan, "executed")), (&json!("failed"), &json!(false)));
    assert_eq!((of(&object, oom, "state"), of(&object, oom, "executed")), (&json!("failed"), &json!(true)));
    assert_eq!(object["counts"], json!({ "failed": 2, "pending": 3 }));
    // The base, four runs: the one that diverged is left alone. No checkpoint: the other starts from the beginning.
    assert_eq!(object["estimate"]["tasks"], 5);
    assert_eq!(of(&object, oom, "cost"), of(&object, &planned.runs[2].label, "cost"));
    let said = bench.run(&["plan", "grid", "--why", nan]).ends(0);
    assert!(said.out.contains("will not be executed: it failed"), "{}", said.out);
    assert!(said.out.contains("nan: as the test says (tried again with --retry)"), "{}", said.out);
}

#[test]
fn a_damaged_result_is_one_row_of_the_table() {
    let bench = bench();
    let run = plan(&bench, "grid.toml").runs.remove(0);
    finish(&bench, "grid", &run, 0.5);
    fs::write(bench.results().join(".store/run").join(run.id.as_str()).join("DONE.json"), "{")
        .expect("written");
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(
        (of(&object, &run.label, "state"), of(&object, &run.label, "executed")),
        (&json!("damaged"), &json!(true))
    );
    assert_eq!(object["counts"], json!({ "damaged": 1, "pending": 4 }));
}

#[test]
fn runs_of_one_plan_that_share_a_trajectory_say_so() {
    let bench = Bench::new();
    bench.manifest("manifests/lengths.toml", "eval.every = 4\nexec.checkpoint_every = 4\ngrid = [{ mask.type = 'full', grpo.steps = [8, 16], eval.every = [4, 8] }]");
    let object = bench.run(&["plan", "lengths", "--json"]).ends(0).json();
    let told = runs(&object).iter().map(|run| {
        (
            run["label"].as_str().expect("a label").to_owned(),
            run["reuse"]["label"].clone(),
            run["reuse"]["taken_over"].clone(),
        )
    });
    let wanted = [
        ("steps8-every4".to_owned(), Value::Null, Value::Null),
        // Rarer evaluations need nothing that is not there.
        ("steps8-every8".to_owned(), json!("steps8-every4"), json!(8)),
        ("steps16-every4".to_owned(), json!("steps8-every4"), json!(8)),
        ("steps16-every8".to_owned(), json!("steps16-every4"), json!(16)),
    ];
    assert_eq!(told.collect::<Vec<_>>(), wanted);
    assert!(
        bench
            .run(&["plan", "lengths"])
            .ends(0)
            .out
            .contains("takes 8 steps over from steps8-every4 of this plan, computes 8")
    );
}

#[test]
fn the_stages_are_told_with_what_is_there() {
    let bench = bench();
    let planned = plan(&bench, "grid.toml");
    let stages = |object: &Value, stage: &str| {
        let all = object["stages"].as_array().expect("a list").clone();
        all.into_iter().filter(|found| found["stage"] == stage).collect::<Vec<_>>()
    };
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    let [base] = &stages(&object, "base")[..] else { panic!("{object}") };
    assert_eq!((&base["cached"], &base["runs"]), (&json!(false), &json!(5)));
    let masks = stages(&object, "mask");
    assert_eq!(masks.iter().map(|mask| mask["runs"].clone()).collect::<Vec<_>>(), [json!(2), json!(2)]);
    assert!(masks.iter().all(|mask| mask["needs"] == base["id"]));
    let store = Store::open(&bench.results()).expect("a store");
    let id = planned.runs[0].stages.base.as_str();
    store.publish(Stage::Base, id, &[("model", b"weights")], Value::Null).expect("published");
    let object = bench.run(&["plan", "grid", "--json"]).ends(0).json();
    assert_eq!(stages(&object, "base")[0]["cached"], true);
    let said = bench.run(&["plan", "grid"]).ends(0);
    assert!(said.out.contains(&format!("base   {} cached, for 5 runs", &id[..12])), "{}", said.out);
    assert!(said.out.contains(" to be made, for 2 runs, from "), "{}", said.out);
}
