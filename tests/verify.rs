//! Runs that are executed again, with the real program: an interrupted one equals an uninterrupted one, a stored one comes
//! out the same, and one that another number of threads made is not judged.

#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]

mod common;

use common::{Bench, contents};
use serde_json::json;

/// Saved after every second step, evaluated after every third.
const GRID: &str = r#"
    grpo = { steps = 6, rollouts_per_step = 8, micro_batch = 8 }
    optimizer = { lr = 3e-3 }
    eval.every = 3
    grid = [{ mask.type = ["random", "full"] }]
"#;

#[test]
fn the_trainer_goes_on_as_if_nothing_had_been_and_repeats_what_is_stored() {
    let bench = Bench::new();
    bench.manifest("manifests/grid.toml", GRID);
    bench.give_base("results");
    let resume = ["verify", "resume", "grid", "--run", "random", "--at"];
    let said = bench.run(&[&resume[..], &["3,5", "--json"]].concat()).ends(0).json();
    assert_eq!(said["equal"], true, "{said:#}");
    assert_eq!(said["executions"][0]["stops"], json!([{ "after": 3, "from": 2 }, { "after": 5, "from": 4 }]));
    assert_eq!(said["executions"][1]["stops"], json!([{ "after": 3, "from": 3 }, { "after": 5, "from": 5 }]));
    bench.run(&[&resume[..], &["7"]].concat()).ends(2).names(&["name steps from 1 to 6"]);

    bench.run(&["sweep", "grid"]).ends(0);
    let before = contents(&bench.results());
    let said = bench.run(&["verify", "sample", "100%", "--json"]).ends(0).json();
    assert_eq!((&said["chosen"], &said["equal"]), (&json!(2), &json!(true)), "{said:#}");
    for run in said["runs"].as_array().expect("a list") {
        assert_eq!(
            (&run["result"], &run["class"], &run["manifest"]),
            (&json!("equal"), &json!([]), &json!("grid"))
        );
    }
    // Threads are no part of a run's id: the stored run is another class then.
    let other = ["verify", "sample", "1", "grid", "--set", "exec.threads=2"];
    let said = bench.run(&other).ends(0);
    said.names(&["1 of 2 finished runs executed again", "another class", "threads: 1 -> 2"]);
    assert_eq!(contents(&bench.results()), before, "nothing in the store is changed");

    // The grid was changed: one of its runs cannot be executed again.
    bench.manifest("manifests/grid.toml", &GRID.replace("[\"random\", \"full\"]", "\"random\""));
    let said = bench.run(&["verify", "sample", "100%"]).ends(0);
    said.names(&["1 of 1 finished runs executed again", "not re-executable: 1", "grid no longer holds it"]);
}
