//! Ids of tasks: what makes a task another one, and what only carries it out.

mod manifest_support;

use std::collections::BTreeSet;

use manifest_support::{Folder, HEAD, plan_of};
use tickets::plan::RunSpec;

const BASE: &str = "[model.pretrain]\n";
const RUN: &str = "0123456789012345678901234567890123456789012345678901234567890123";

/// A folder with the files that the manifests here name.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("names.jsonl", "{\"names\": [\"Ann Lee\", \"Bob Ray\"]}\n");
    folder.write("questions.jsonl", "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n");
    folder.write("task.py", "print()\n");
    folder
}

fn only_run(folder: &Folder, text: &str, set: &[&str]) -> RunSpec {
    let path = folder.write("m.toml", text);
    let mut plan = plan_of(&path, set, &[]).unwrap_or_else(|error| panic!("{set:?}: {error}\n{text}"));
    assert_eq!(plan.runs.len(), 1);
    plan.runs.remove(0)
}

/// The stages whose ids differ.
fn moved(left: &RunSpec, right: &RunSpec) -> BTreeSet<&'static str> {
    let (a, b) = (&left.stages, &right.stages);
    let pairs = [
        ("base", a.base != b.base),
        ("trajectory", a.trajectory != b.trajectory),
        ("train", a.train != b.train),
        ("eval", a.eval != b.eval),
        ("run", left.id != right.id),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(stage, _)| stage).collect()
}

/// The built-in base learns from the task, so it moves with it.
const ALL: [&str; 5] = ["base", "trajectory", "train", "eval", "run"];

#[test]
fn every_setting_of_a_task_moves_all_that_stands_on_it() {
    let folder = folder();
    let python = format!("{HEAD}[task]\nepisodes = \"python\"\nnames = \"names.jsonl\"\nmax_turns = 1\nmax_names_per_turn = 2\n")
        .replacen("[task]\ntype = \"alphabet_sort\"\n", "", 1)
        .replace("[task]\n", "[task]\ntype = \"alphabet_sort\"\n");
    let questions = format!(
        "{BASE}[task]\ntype = \"math\"\nfile = \"questions.jsonl\"\n[eval.test]\nseed = 7\ntask.type = \"reverse\"\n"
    );
    let program = format!(
        "{BASE}[task]\ntype = \"program\"\nprogram = \"task.py\"\ncommand = \"python3 {{program}}\"\n"
    );
    let small = |word: &str| format!("{BASE}[task]\ntype = \"{word}\"\n");
    for (text, key, value) in [
        (&python, "task.seed", "1"),
        (&python, "task.order", "rows"),
        (&python, "task.order", "recycled"),
        (&questions, "task.question_column", "q"),
        (&questions, "task.answer_column", "a"),
        (&questions, "task.order", "rows"),
        (&questions, "task.type", "gsm8k"),
        (&program, "task.command", "python3 -u {program}"),
        (&program, "task.max_turns", "7"),
        (&program, "task.order", "rows"),
        (&small("arithmetic"), "task.digits", "3"),
        (&small("arithmetic"), "task.terms", "3"),
        (&small("reverse"), "task.length", "3"),
        (&small("countdown"), "task.numbers", "4"),
        (&small("countdown"), "task.largest", "12"),
        (&small("countdown"), "task.type", "reverse"),
    ] {
        let (before, after) =
            (only_run(&folder, text, &[]), only_run(&folder, text, &[&format!("{key}={value}")]));
        assert_eq!(moved(&before, &after), BTreeSet::from(ALL), "{key}={value}\n{text}");
    }
    // Another content is another task, whatever it is called; the same content under another name is not.
    let before = only_run(&folder, &program, &[]);
    folder.write("copy.py", "print()\n");
    let copy = program.replace("\"task.py\"", "\"copy.py\"");
    assert_eq!(moved(&before, &only_run(&folder, &copy, &[])), BTreeSet::new());
    folder.write("task.py", "print(1)\n");
    assert_eq!(moved(&before, &only_run(&folder, &program, &[])), BTreeSet::from(ALL));
}

#[test]
fn how_a_task_is_served_and_tried_again_moves_nothing() {
    let folder = folder();
    let text = format!("{BASE}[task]\ntype = \"program\"\nprogram = \"task.py\"\n");
    let before = only_run(&folder, &text, &[]);
    for set in ["exec.task_workers=4", "exec.task_timeout=9", "exec.retries.task=5"] {
        assert_eq!(moved(&before, &only_run(&folder, &text, &[set])), BTreeSet::new(), "{set}");
    }
}

#[test]
fn the_rows_of_an_evaluation_move_it_alone() {
    let folder = folder();
    let before = only_run(&folder, HEAD, &[]);
    assert_eq!(
        moved(&before, &only_run(&folder, HEAD, &["eval.rows=first"])),
        BTreeSet::from(["eval", "run"])
    );
    assert_eq!(moved(&before, &only_run(&folder, HEAD, &["eval.rows=sample"])), BTreeSet::new());
}

#[test]
fn the_study_s_order_moves_with_the_evaluation_that_resets_it() {
    let folder = folder();
    let text = format!(
        "{BASE}[task]\ntype = \"alphabet_sort\"\nepisodes = \"python\"\nnames = \"names.jsonl\"\nmax_turns = 1\nmax_names_per_turn = 2\n"
    );
    let trajectory = |set: &[&str]| only_run(&folder, &text, set).stages.trajectory;
    for change in ["eval.seed=9", "eval.every=3", "grpo.rollouts_per_step=64"] {
        let recycled = "task.order=recycled";
        assert_ne!(trajectory(&[recycled]), trajectory(&[recycled, change]), "{change}");
    }
    // Elsewhere an evaluation does not reach the training.
    for change in ["eval.seed=9", "eval.every=3"] {
        assert_eq!(trajectory(&[]), trajectory(&[change]), "{change}");
    }
}

#[test]
fn a_mixture_takes_the_task_out_of_the_base() {
    let folder = folder();
    let text =
        |task: &str, mix: &str| format!("[model.pretrain]\nmix = \"{mix}\"\n[task]\ntype = \"{task}\"\n");
    let mixed = only_run(&folder, &text("arithmetic", "arithmetic+reverse"), &[]);
    let other = only_run(&folder, &text("reverse", "arithmetic+reverse"), &[]);
    assert_eq!(moved(&mixed, &other), BTreeSet::from(["trajectory", "train", "eval", "run"]), "one base");
    let swapped = only_run(&folder, &text("arithmetic", "reverse+arithmetic"), &[]);
    assert_eq!(moved(&mixed, &swapped), BTreeSet::from(ALL), "its episodes come in another order");
}

#[test]
fn a_run_as_the_base_is_known_by_its_id() {
    let folder = folder();
    let text = |run: &str| format!("[model]\nrun = \"{run}\"\n[task]\ntype = \"reverse\"\n");
    let before = only_run(&folder, &text(RUN), &[]);
    assert_eq!(before.config.begins_with(), Some(RUN));
    let other = only_run(&folder, &text(&RUN.replace('0', "a")), &[]);
    assert_eq!(moved(&before, &other), BTreeSet::from(ALL));
    // The task is not part of such a base.
    let task = only_run(&folder, &text(RUN), &["task.length=3"]);
    assert_eq!(moved(&before, &task), BTreeSet::from(["trajectory", "train", "eval", "run"]));
}
