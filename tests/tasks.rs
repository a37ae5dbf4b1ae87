//! Tasks through the real program: several of them in a run, conversations that are kept and held, a base from another run,
//! scores of transcripts, programs as tasks in a grid.

#![expect(clippy::disallowed_methods, reason = "tests make files on purpose")]

mod common;

use std::fs;

use common::Bench;
use serde_json::{Value, json};

/// Two small tasks, one base for both.
const SMALL: &str = r#"
    model.pretrain = { mix = "arithmetic+reverse", hidden_size = 32, intermediate_size = 64, layers = 2, heads = 2, kv_heads = 1, vocab_size = 300, steps = 60, batch = 16, lr = 1e-2 }
    task = { type = "reverse", length = 4 }
    grpo = { steps = 3, rollouts_per_step = 16, group_size = 4, micro_batch = 16 }
    optimizer.lr = 1e-3
    sampling.max_tokens = 12
    eval.examples = 6
    eval.every = 2
    eval.sampling.max_tokens = 12
    exec = { device = "cpu", checkpoint_every = 2 }
"#;
/// What it learns, at a pace of its own, and what it may forget.
const NAMED: &str =
    "[eval.learned]\nseed = 9\n[eval.other]\nevery = 3\ntask = { type = \"arithmetic\", digits = 1 }\n";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The id of the first run of a manifest.
fn id(bench: &Bench, manifest: &str) -> String {
    let plan = bench.run(&["plan", manifest, "--json"]).ends(0).json();
    plan["runs"][0]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn several_evaluations_have_columns_figures_and_conversations_of_their_own() {
    let bench = Bench::new();
    bench.write("grid.toml", &format!("{SMALL}{NAMED}"));
    bench.run(&["sweep", "grid.toml"]).ends(0);
    let id = id(&bench, "grid.toml");
    let shown = bench.run(&["show", &id, "--json"]).ends(0).json();
    let curve = |name: &str| -> Vec<u64> {
        let points = shown["curves"][format!("eval/{name}/score")].as_array().expect("a curve");
        points.iter().map(|point| point[0].as_u64().expect("a step")).collect()
    };
    assert_eq!((curve("learned"), curve("other")), (vec![0, 2, 3], vec![0, 3]), "each at its own pace");
    let last = &shown["evals"]["last"];
    for column in [
        "eval/learned/score",
        "eval/other/stderr",
        "eval/learned/rewards/correct",
        "eval/other/rewards/number",
    ] {
        assert!(last[column].is_number(), "{column}: {last}");
    }
    assert!(last.get("eval/score").is_none() && last.get("transcripts").is_none());
    assert!(shown["metrics"]["last"]["rewards/correct"].is_number());

    let report = bench.path("results/grid");
    let summary = fs::read_to_string(report.join("summary.csv")).expect("the summary");
    for column in ["base/learned/score", "eval/other/score", "gain/other"] {
        assert!(summary.lines().next().expect("a header").contains(column), "{summary}");
    }
    assert!(report.join("figures/learning_curves_learned.svg").is_file());
    assert!(
        report.join("figures/lr_sweep_other.svg").is_file() && !report.join("figures/lr_sweep.svg").exists()
    );
    let evals = fs::read_to_string(report.join("evals.csv")).expect("the rows");
    assert!(!evals.contains("transcripts") && evals.contains("eval/other/rewards/number"));
    // The report reads its own files back.
    let again = bench.run(&["report", "grid.toml", "--json"]).ends(0).json();
    assert!(again["runs"][0]["eval/other/score"].is_number(), "{again}");

    // Four conversations of each evaluation stay with the results; those of an earlier step are there too.
    let kept = lines(&bench.run(&["show", &id, "--transcripts", "--json"]).ends(0).out);
    let of = |name: &str| kept.iter().filter(|kept| kept["eval"] == name).count();
    assert_eq!((of("learned"), of("other"), kept.len()), (4, 4, 8));
    assert_eq!(lines(&bench.run(&["show", &id, "--transcripts", "2", "--json"]).ends(0).out).len(), 4);
    bench.run(&["show", &id, "--transcripts", "1"]).ends(2).names(&["0, 2, 3"]);

    // A conversation that is held again is the one that was kept.
    let held =
        lines(&bench.run(&["chat", "grid.toml", &id, "--eval", "other", "-n", "6", "--json"]).ends(0).out);
    assert_eq!(held.len(), 6);
    let kept: Vec<&Value> = kept.iter().filter(|kept| kept["eval"] == "other").collect();
    assert_eq!(held.iter().take(4).collect::<Vec<_>>(), kept);
    let mean = held.iter().map(|held| held["reward"].as_f64().expect("a reward")).sum::<f64>() / 6.0;
    assert!((mean - last["eval/other/score"].as_f64().expect("a score")).abs() < 1e-12);
    // So it scores the same outside.
    let line =
        |held: &Value| json!({ "messages": held["messages"], "info": { "expected": held["expected"] } });
    let transcripts: Vec<String> = held.iter().map(|held| line(held).to_string()).collect();
    let transcripts = transcripts.join("\n");
    bench.write("held.jsonl", &transcripts);
    let scored = lines(&bench.run(&["task", "score", "--task", "arithmetic", "held.jsonl"]).ends(0).out);
    assert!(scored.iter().zip(&held).all(|(scored, held)| scored["reward"] == held["reward"]));

    // The base and an exported folder speak too.
    let base = bench.run(&["chat", "grid.toml", &id, "--base", "-n", "2"]).ends(0);
    assert!(base.out.contains("mean reward of 2") && base.out.contains("[expected]"), "{}", base.out);
    bench.run(&["export", "grid.toml", &id, "--out", "exported"]).ends(0);
    let folder =
        bench.run(&["chat", "grid.toml", "exported", "--eval", "other", "-n", "6", "--json"]).ends(0);
    assert_eq!(lines(&folder.out), held);
    bench.run(&["chat", "exported"]).ends(2).names(&["tickets chat MANIFEST exported"]);
    bench.run(&["chat", "grid.toml", &id, "--eval", "third"]).ends(3).names(&["learned, other"]);
}

#[test]
fn a_run_begins_with_what_another_one_learned() {
    let bench = Bench::new();
    bench.write("first.toml", &format!("{SMALL}mask = {{ type = \"random\", sparsity = 0.9 }}\n{NAMED}"));
    let first = id(&bench, "first.toml");
    let rest = SMALL.lines().filter(|line| !line.contains("model.pretrain")).collect::<Vec<_>>().join("\n");
    let second = format!(
        "model.run = \"{first}\"\n{rest}\ntask = {{ type = \"arithmetic\" }}\n[eval.learned]\nseed = 9\ntask = {{ type = \"reverse\", length = 4 }}\n"
    );
    let second = second.replacen("task = { type = \"reverse\", length = 4 }\n", "", 1);
    bench.write("second.toml", &second);
    // It has to be finished before.
    bench.run(&["sweep", "second.toml"]).ends(6).names(&["begin with the weights of run", &first[..12]]);
    bench.run(&["sweep", "first.toml"]).ends(0);
    bench.run(&["sweep", "second.toml"]).ends(0);
    let (before, after) = (id(&bench, "first.toml"), id(&bench, "second.toml"));
    let row = |id: &str, step: u64| -> f64 {
        let shown = bench.run(&["show", id, "--json"]).ends(0).json();
        let points = shown["curves"]["eval/learned/score"].as_array().expect("a curve").clone();
        let point = points.iter().find(|point| point[0] == step).expect("the step");
        point[1].as_f64().expect("a score")
    };
    // The same weights on the same questions with the same draws.
    assert_eq!(row(&after, 0).to_bits(), row(&before, 3).to_bits());
    bench.run(&["verify", "store"]).ends(0);
}

#[test]
fn transcripts_are_scored_line_by_line_and_a_bad_one_is_named() {
    let bench = Bench::new();
    let tagged = |lines: &str| format!("<alphabetical_sorted>\n{lines}\n</alphabetical_sorted>");
    let line = |answer: &str, info: Value| {
        format!(
            "{}\n",
            json!({ "messages": [{ "role": "user", "content": "?" }, { "role": "assistant", "content": answer }], "info": info })
        )
    };
    let text = [
        line(&tagged("a\nb"), json!({ "expected": [["A", "b"]] })),
        line(
            &tagged("b\na"),
            json!({ "expected": [["a", "b"]], "similarity_power": 4, "power_per_turn": true }),
        ),
        line(
            &tagged("a\nb"),
            json!({ "expected": [["a", "b"], ["a", "b", "c"]], "similarity_power": 2, "power_per_turn": false }),
        ),
    ];
    bench.write("t.jsonl", &text.concat());
    let said = bench.run(&["task", "score", "--task", "alphabet_sort", "t.jsonl"]).ends(0);
    // By CPython: (1/3)**4, and (1/2)**2.
    let wanted = "{\"reward\":1.0,\"turns\":[1.0]}\n{\"reward\":0.012345679012345677,\"turns\":[0.012345679012345677]}\n{\"reward\":0.25,\"turns\":[1.0,0.0]}\n";
    assert_eq!(said.out, wanted);
    for (line, part) in [
        ("nonsense", "line 1"),
        ("{\"messages\": [], \"info\": {}}", "`info.expected` is missing"),
        ("{\"messages\": [], \"info\": {\"expected\": []}}", "has no turn"),
        ("{\"messages\": [], \"info\": {\"expected\": [[1]]}}", "no list of lists"),
        ("{\"messages\": [], \"info\": {\"expected\": [[\"a\"]], \"similarity_power\": 0}}", "above 0"),
        ("{\"messages\": [], \"info\": {\"expected\": [[\"a\"]], \"power_per_turn\": 1}}", "true or false"),
    ] {
        bench.write("bad.jsonl", line);
        bench
            .run(&["task", "score", "--task", "alphabet_sort", "bad.jsonl"])
            .ends(3)
            .names(&["bad.jsonl, line 1", part]);
    }
    bench.run(&["task", "score", "--task", "alphabet_sort", "gone.jsonl"]).names(&["gone.jsonl"]);
}

#[test]
fn a_program_is_a_task_of_a_grid_and_one_that_fails_fails_its_runs_alone() {
    let bench = Bench::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tasks/last_letter.py");
    fs::copy(example, bench.path("good.py")).expect("the example");
    // It does all but pay.
    let text = fs::read_to_string(example).expect("the example");
    let broken = text.replace("def reward(", "def reward(*_):\n    return float('nan')\n\n\ndef never(");
    assert_ne!(broken, text);
    bench.write("bad.py", &broken);
    bench.write("dead.py", "raise SystemExit(3)\n");
    let rest = SMALL.lines().filter(|line| !line.contains("task =")).collect::<Vec<_>>().join("\n");
    let manifest = format!(
        "{rest}\ntask = {{ type = \"program\", command = \"python3 {{program}}\", max_turns = 1 }}\ngrid = [{{ task.program = [\"good.py\", \"bad.py\", \"dead.py\"] }}]\n"
    );
    bench.write("grid.toml", &manifest.replace("exec = { device", "exec = { retries.task = 0, device"));
    let said = bench.run(&["sweep", "grid.toml"]).ends(6);
    let status = bench.run(&["status", "grid.toml", "--json"]).json();
    assert!(said.all().contains("task at step 0") && said.all().contains("NaN"), "{}\n{status}", said.all());
    let summary = fs::read_to_string(bench.path("results/grid/summary.csv")).expect("the summary");
    assert_eq!((summary.matches(",done,").count(), summary.matches(",failed,").count()), (1, 2), "{summary}");
    assert!(
        summary.contains("dead.py") && summary.contains("exit status 3") || summary.contains("status 3"),
        "{summary}"
    );
    let left = std::process::Command::new("pgrep")
        .args(["-f", &bench.path("bad.py").display().to_string()])
        .output();
    assert!(left.is_ok_and(|left| left.stdout.is_empty()), "a process is left");
}
