//! `tickets task check` of programs that pass and of those that do not: what it prints, how it ends.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What it prints, and how it ends.
fn check(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickets"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["task", "check"]).args(arguments);
    let output = command.output().expect("tickets runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// Checks a mode of tests/external/program.py, which fails in the checks of these lines and in no other.
#[track_caller]
fn fails(mode: &str, lines: &[&str]) {
    let (code, text) = check(&["python3", "tests/external/program.py", mode, "-n", "4", "--timeout", "30"]);
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert_eq!(failed.len(), lines.len(), "{mode}:\n{text}");
    for (failed, line) in failed.iter().zip(lines) {
        assert!(failed.starts_with(&format!("FAILED  {line}")), "{mode}: no `{line}` in\n{text}");
    }
    assert_eq!(code, 6, "{mode}:\n{text}");
    assert!(text.contains("\n        do: "), "{mode}: no advice in\n{text}");
    assert!(
        text.contains(&format!("{} of ", lines.len())) && text.ends_with(" checks failed\n"),
        "{mode}:\n{text}"
    );
}

/// The same of one that passes, with a remark.
#[track_caller]
fn remarks(mode: &str, line: &str) {
    let (code, text) = check(&["python3", "tests/external/program.py", mode, "-n", "4"]);
    assert!(
        text.lines().any(|printed| printed.starts_with(&format!("note    {line}"))),
        "{mode}: no `{line}` in\n{text}"
    );
    assert!(code == 0 && text.ends_with(" checks passed\n"), "{mode}:\n{text}");
}

#[test]
fn a_good_program_passes_every_check() {
    let example = "examples/tasks/last_letter.py";
    let (code, text) = check(&["python3", example, "-n", "20", "--workers", "3"]);
    let lines = [
        "ok      start: last-letter 1, any number of episodes of one turn, rewards from 0 to 1",
        "ok      episodes: 84 of 2 streams and 2 seeds",
        "ok      the same twice: the same request has the same answer",
        "ok      any order: an episode does not depend on the others of its request",
        "ok      another process: 3 processes agree",
        "ok      odd answers: 288 conversations with empty, long, odd and broken answers earn from 0 to 0",
        "ok      rewards again: the same conversations earn the same",
        "ok      expected answers: 84 earn from 1 to 1",
        "ok      after a kill: a process that is started anew gives the same answers",
        "ok      end of input: every process ends by itself",
        "10 checks passed",
    ];
    assert_eq!((code, text.lines().collect::<Vec<_>>()), (0, lines.to_vec()));
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(example)).expect("the example");
    assert!(source.lines().count() < 60, "the example is short");
}

#[test]
fn a_program_that_does_not_start_fails_at_once() {
    let (code, text) = check(&["./no-such-program", "--", "--its-own", "option"]);
    assert_eq!(code, 6, "{text}");
    assert!(
        text.starts_with("FAILED  start: worker 0 of the program `./no-such-program --its-own option` ended"),
        "{text}"
    );
    assert!(text.ends_with("1 of 1 checks failed\n"), "{text}");
}

#[test]
fn episodes_that_are_no_function_of_their_place_are_found() {
    let differs = "episode train 0 of stream train and seed 0 differs";
    fails(
        "counts",
        &[
            &format!(
                "the same twice: {differs} the second time: `messages` \"0/train/0 of request 1\" and `messages` \"0/train/0 of request 5\""
            ),
            &format!("any order: {differs} in a request for the same indices backwards"),
            &format!("after a kill: {differs} by a process that was started anew"),
        ],
    );
    fails(
        "by_first",
        &[
            &format!("any order: {differs} in a request for the same indices backwards"),
            "after a kill: episode train 1",
        ],
    );
    fails("by_worker", &[&format!("another process: {differs} by worker 1: ")]);
}

#[test]
fn rewards_that_do_not_serve_are_found() {
    fails(
        "remembers",
        &["rewards again: episode train 0 earns 1, and 0.00", "expected answers: in episode train 0"],
    );
    fails(
        "likes_nothing",
        &[
            "expected answers: in episode train 0 the expected answer \"0/train/0\" earns 0.5, and \"\" earns 1",
        ],
    );
    fails("nan_of_nothing", &["odd answers: the reward of episode train 0 is NaN, by worker 0"]);
    fails("fails_on_long", &["odd answers: worker 0 of the program"]);
}

#[test]
fn a_program_that_does_not_end_well_is_found() {
    fails("stubborn", &["end of input: worker 0 did not end within 10 s after its input had ended"]);
    fails("says_bye", &["end of input: worker 0 had written what nobody asked for: bye"]);
}

#[test]
fn what_may_not_be_meant_is_said() {
    remarks("one_prompt", "episodes: 20 of 2 streams and 2 seeds; all prompts of stream train are the same");
    remarks(
        "no_stream",
        "episodes: 20 of 2 streams and 2 seeds; those of stream eval are those of stream train",
    );
    remarks(
        "less",
        "expected answers: 20 earn from 0.5 to 0.5; that of episode train 0 earns 0.5 where `range` ends at 1",
    );
    remarks("turns", "expected answers: episodes have several turns");
    remarks("ends_badly", "end of input: worker 0 ended with exit status 3");
}
