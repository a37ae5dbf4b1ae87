//! Programs as tasks, with real processes: what they answer, every way in which they misbehave, and that nothing of them
//! stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tickets::external::{Ending, ExternalError, Program, Settings};
use tickets::task::{Environment, Episode, Played, ProgramSpec, Reward, Serving, TaskError};

/// How long anything may take before a test gives it up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program in one of its modes, and whatever is known of its processes.
struct Bench {
    folder: TempDir,
    mode: &'static str,
    log: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new(mode: &'static str) -> Self {
        Self { folder: TempDir::new().expect("a folder"), mode, log: Arc::default() }
    }

    /// A path that no other test has. The command line of every process of the bench has it.
    fn note(&self) -> PathBuf {
        self.folder.path().join("note")
    }

    fn command(&self) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/program.py");
        format!("python3 '{}' {} '{}'", script.display(), self.mode, self.note().display())
    }

    fn settings(&self, workers: u32, seconds: f64) -> Settings {
        let settings = Settings::new(self.command(), None, workers, Duration::from_secs_f64(seconds));
        Settings { start_timeout: PATIENCE, ..settings }
    }

    fn open_with(&self, settings: Settings) -> Result<Program, ExternalError> {
        let log = self.log.clone();
        Program::open(settings, Box::new(move |line| log.lock().expect("a log").push(line.to_owned())))
    }

    fn open(&self, workers: u32, seconds: f64) -> Program {
        self.open_with(self.settings(workers, seconds)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The processes of the bench that live.
    fn living(&self) -> Vec<i32> {
        processes_with(&self.note().display().to_string(), "cmdline")
    }

    #[track_caller]
    fn nothing_stays(&self) {
        wait_for(&format!("processes of `{}` to end", self.mode), || self.living().is_empty());
    }
}

/// The processes in whose file of `/proc` this text stands.
fn processes_with(text: &str, file: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("processes");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has = |id: &i32| {
        let read = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        read.windows(text.len()).any(|part| part == text.as_bytes())
    };
    ids.filter(has).collect()
}

#[track_caller]
fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Episodes of training, each answered as it wants.
fn conversations(program: &Program, count: u64) -> (Vec<Episode>, Vec<[String; 1]>, Vec<[String; 1]>) {
    let indices: Vec<u64> = (0..count).collect();
    let episodes = program.episodes(9, "train", &indices).unwrap_or_else(|error| panic!("{error}"));
    let prompts = episodes.iter().map(|episode| [episode.turns[0].prompt.clone()]).collect();
    let answers = episodes.iter().map(|episode| [episode.turns[0].expected[0].clone()]).collect();
    (episodes, prompts, answers)
}

fn score(program: &Program, count: u64) -> Result<Vec<Reward>, TaskError> {
    let (episodes, prompts, answers) = conversations(program, count);
    let played: Vec<Played> = episodes
        .iter()
        .zip(prompts.iter().zip(&answers))
        .map(|(episode, (prompts, answers))| Played { episode, prompts, answers })
        .collect();
    program.rewards(&played)
}

/// Has a mode score two episodes, and checks every phrase of what comes of it, and that it leaves no process.
#[track_caller]
fn refused(mode: &'static str, seconds: f64, phrases: &[&str]) {
    let bench = Bench::new(mode);
    let program = bench.open(1, seconds);
    let error = score(&program, 2).expect_err("it misbehaves").to_string();
    for phrase in phrases {
        assert!(error.contains(phrase), "{mode}: `{phrase}` is not in\n{error}");
    }
    assert!(error.contains("worker 0 of the program `python3 '"), "{mode}: no command in\n{error}");
    drop(program);
    bench.nothing_stays();
}

#[test]
fn a_program_is_an_environment() {
    let bench = Bench::new("plain");
    let program = bench.open(1, 60.0);
    assert_eq!(
        program.hello().to_string(),
        "test 7, any number of episodes of one turn, rewards from 0 to 1"
    );
    assert_eq!((program.count(1, "train").expect("a count"), program.range()), (None, (0.0, 1.0)));
    let episodes = program.episodes(9, "eval", &[7, 1 << 40]).expect("episodes");
    let names: Vec<&str> = episodes.iter().map(|episode| episode.name.as_str()).collect();
    assert_eq!(names, ["eval 7", "eval 1099511627776"]);
    let [first, _] = episodes.as_slice() else { panic!("two") };
    assert_eq!((first.before[0].role, first.before[0].content.as_str()), ("system", "Say \u{e9}."));
    assert_eq!(first.info, json!({"right": "9/eval/7", "float": 0.1}));
    assert_eq!(program.demonstration(first, 0, None).as_deref(), Some("9/eval/7"));
    let of = |answer: &str| {
        let (prompts, answers) = ([first.turns[0].prompt.clone()], [answer.to_owned()]);
        let played = Played { episode: first, prompts: &prompts, answers: &answers };
        assert_eq!(program.respond(&[played]).expect("responses"), [None], "one turn is all there is");
        program.rewards(&[played]).expect("rewards").remove(0)
    };
    let parts = vec![("worker".to_owned(), 0.0), ("said".to_owned(), 1.0)];
    assert_eq!(of("9/eval/7"), Reward { total: 1.0, turns: vec![1.0], parts: parts.clone() });
    assert_eq!(of("9/eval/8 \u{1f600}\n\u{2028}\0"), Reward { total: 0.25, turns: vec![0.0], parts });
    assert!(program.episodes(9, "train", &[]).expect("none").is_empty());
    // An answer of many megabytes goes there, and many such a batch come back.
    assert_eq!(of(&"x".repeat(5 << 20)).total, 0.25);
    let ends = program.close(PATIENCE);
    assert_eq!(ends, [(Ending::Status(0), None)]);
    bench.nothing_stays();
}

#[test]
fn results_do_not_depend_on_the_number_of_workers() {
    let of = |workers: u32| {
        let bench = Bench::new("plain");
        let program = bench.open(workers, 60.0);
        let (episodes, ..) = conversations(&program, 75);
        let rewards = score(&program, 75).expect("rewards");
        let by: Vec<f64> = rewards.iter().map(|reward| reward.parts[0].1).collect();
        let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
        assert_eq!(program.processes().len(), usize::try_from(workers).expect("few").min(5));
        drop(program);
        bench.nothing_stays();
        (episodes, totals, by)
    };
    let (episodes, totals, _) = of(1);
    assert_eq!((episodes.len(), episodes[74].name.as_str()), (75, "train 74"));
    let (same, again, by) = of(3);
    assert_eq!((same, again), (episodes, totals));
    // Parts of 16 episodes, one after the other to workers 0, 1 and 2.
    let expected: Vec<f64> = (0..75).map(|at| f64::from(at / 16 % 3)).collect();
    assert_eq!(by, expected);
    assert_eq!(of(8).2[74], 4.0, "five parts need five workers");
}

#[test]
fn conversations_go_on_as_the_program_says() {
    let bench = Bench::new("turns");
    let program = bench.open(2, 60.0);
    let episodes = program.episodes(9, "train", &[0, 1]).expect("episodes");
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let respond = |answers: &[&str], prompts: &[&str]| {
        let (answers, prompts) = (texts(answers), texts(prompts));
        let played = |episode| Played { episode, prompts: &prompts, answers: &answers };
        program.respond(&[played(&episodes[0]), played(&episodes[1])]).expect("responses")
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(respond(&["a"], &["p"]), [said("again (1)"), said("again (1)")]);
    assert_eq!(respond(&["a", "b"], &["p", "q"]), [said("again (2)"), None]);
    assert_eq!(respond(&["a", "b", "c"], &["p", "q", "r"]), [None, None], "three turns are the most");

    let spec = ProgramSpec {
        path: "tests/external/program.py".into(),
        digest: String::new(),
        command: "python3 {program} turns".to_owned(),
        max_turns: 2,
        order: tickets::task::Order::Rows,
    };
    let serving = Serving { workers: 1, timeout_seconds: 60 };
    let error = Program::of(&spec, serving, Box::new(|_| ())).expect_err("too many turns").to_string();
    assert!(error.contains("has episodes of 3 turns, and `task.max_turns` is 2"), "{error}");
    assert!(Program::of(&ProgramSpec { max_turns: 3, ..spec }, serving, Box::new(|_| ())).is_ok());
}

#[test]
fn lists_have_a_count_for_each_stream() {
    let bench = Bench::new("listed");
    let program = bench.open(1, 60.0);
    let count = |stream| program.count(0, stream).expect("a count");
    assert_eq!((count("train"), count("fisher"), count("eval")), (Some(50), Some(50), Some(5)));
}

#[test]
fn programs_that_do_not_start_say_why() {
    let refused = |mode: &'static str, seconds: f64, phrases: &[&str]| {
        let bench = Bench::new(mode);
        let command = if mode.contains(' ') { mode.to_owned() } else { bench.command() };
        let start_timeout = Duration::from_secs_f64(seconds);
        let error = bench.open_with(Settings { command, start_timeout, ..bench.settings(1, 60.0) });
        let error = error.expect_err("it does not start");
        let text = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
        for phrase in phrases.iter().chain(&["it was asked to introduce itself"]) {
            assert!(text.contains(phrase), "{mode}: `{phrase}` is not in\n{text}");
        }
        bench.nothing_stays();
    };
    refused("no-such-program --at all", 60.0, &["exit status 127", "not found", "is it installed"]);
    refused("exec /etc/passwd x", 60.0, &["exit status 126", "ermission denied", "chmod +x"]);
    refused("echo hello; cat", 60.0, &["a line that is not a JSON object (expected value", ": hello"]);
    refused("early", 60.0, &["ended without an answer: exit status 0", "| cannot import name 'x'"]);
    refused("silent", 1.5, &["did not answer within 1.5 s", "flush"]);
    refused("deaf", 1.5, &["closed its standard input without an answer"]);
    refused("version", 60.0, &["speaks version 2 of the protocol, and tickets speaks version 1"]);
    refused("refuses", 60.0, &["reports an error: no data on this machine"]);
}

#[test]
fn a_worker_that_dies_is_replaced_once() {
    let again = "it was asked to score episode train 0, for the second time and by a fresh process";
    let last = "its last words on standard error:";
    refused("exit0", 60.0, &["ended without an answer: exit status 0", again]);
    refused(
        "dies",
        60.0,
        &["ended without an answer: exit status 1", again, last, "| RuntimeError: no such file: answers.txt"],
    );
    refused("segfaults", 60.0, &["ended without an answer: ", "SIGSEGV", again]);
    refused(
        "halves",
        60.0,
        &["ended in the middle of an answer: exit status 4; the answer begins with {\"id\": 3", again],
    );
    refused("holds", 60.0, &["ended without an answer: exit status 6", again]);
    refused("changed", 60.0, &["says of itself test 8", "and said before test 7"]);
}

#[test]
fn a_second_process_answers_for_the_first() {
    for (mode, seconds) in [("dies_once", 60.0), ("hangs_once", 3.0), ("dies_idle", 60.0)] {
        let bench = Bench::new(mode);
        let program = bench.open(2, seconds);
        score(&program, 20).unwrap_or_else(|error| panic!("{mode}: {error}"));
        if mode == "dies_idle" {
            // Only then is it seen before the next request.
            std::thread::sleep(Duration::from_millis(500));
        }
        let rewards = score(&program, 20).unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert!(
            rewards.iter().all(|reward| reward.total == 1.0) && rewards.len() == 20,
            "{mode}: {rewards:?}"
        );
        let log = bench.log.lock().expect("a log").join("\n");
        let said = if mode == "dies_idle" {
            "the process ended when nothing was asked"
        } else {
            "a fresh process is asked"
        };
        assert!(log.contains(said), "{mode}: {log}");
        drop(program);
        bench.nothing_stays();
    }
}

#[test]
fn the_episode_that_kills_is_named_whatever_stood_beside_it() {
    let bench = Bench::new("dies_at_3");
    for workers in [1, 4] {
        let error = score(&bench.open(workers, 60.0), 40).expect_err("it dies").to_string();
        assert!(error.contains("worker 0 of") && error.contains("exit status 5"), "{error}");
        assert!(error.contains("asked to score episode train 3, for the second time"), "{error}");
    }
    bench.nothing_stays();
}

#[test]
fn a_worker_that_does_not_answer_is_killed_with_all_it_started() {
    let again = "it was asked to score episode train 0, for the second time";
    refused("hangs", 1.0, &["did not answer within 1 s", again]);
    refused("closes_stdout", 60.0, &["closed its standard output without an answer", again]);
}

#[test]
fn a_program_that_never_reads_is_not_waited_for() {
    let bench = Bench::new("stops_reading");
    let program = bench.open(1, 1.0);
    // More than a pipe holds, so that it cannot be written.
    let indices: Vec<u64> = (0..16).collect();
    let error =
        program.episodes(9, &"x".repeat(1 << 20), &indices).expect_err("it does not read").to_string();
    assert!(error.contains("did not answer within 1 s"), "{error}");
    drop(program);
    bench.nothing_stays();
}

#[test]
fn answers_that_keep_not_to_the_protocol_are_refused() {
    let both = "it was asked to score episodes train 0, train 1";
    refused(
        "prints",
        60.0,
        &["a line that is not a JSON object (expected value at line 1 column 1): scoring 1", both],
    );
    refused("floods", 60.0, &["wrote a line of more than 16 MiB", both]);
    refused("latin", 60.0, &["a line that is not UTF-8: {\"id\": 1, \"error\": \"caf\u{fffd}\"}"]);
    refused("wrong_id", 60.0, &["answered request 2 with the id 3", both]);
    refused("few", 60.0, &["an answer of the wrong form: `rewards` has 1 entries and should have 2", both]);
    refused("says", 60.0, &["reports an error: the grammar \u{201c}x\u{201d} is unknown", both]);
    refused("nan", 60.0, &["the reward of episode train 1 is NaN, by worker 0", both]);
    refused("Infinity", 60.0, &["the reward of episode train 1 is Infinity"]);
    refused("text", 60.0, &["the reward of episode train 1 is the text \"1\", which is not a number"]);
    refused(
        "much",
        60.0,
        &["the reward of episode train 1 is 1.5, which is outside of the range from 0 to 1"],
    );
}

#[test]
fn output_that_nobody_asked_for_is_refused_at_the_next_request() {
    for (mode, line) in [("adds", "that was it"), ("twice_hello", "{\"type\": \"hello\", \"protocol\": 1")] {
        let bench = Bench::new(mode);
        let program = bench.open(1, 60.0);
        if mode == "adds" {
            assert_eq!(score(&program, 1).expect("rewards").len(), 1);
            // What it adds may come later than the answer.
            std::thread::sleep(Duration::from_millis(300));
        }
        let error = program.episodes(9, "train", &[0]).expect_err("there is a line too many").to_string();
        assert!(error.contains(&format!("wrote when nothing was asked: {line}")), "{mode}: {error}");
        drop(program);
        bench.nothing_stays();
    }
}

#[test]
fn a_loud_program_is_heard_out_and_an_error_leaves_its_worker() {
    let bench = Bench::new("floods_stderr");
    let program = bench.open(1, 60.0);
    assert_eq!(score(&program, 3).expect("rewards").len(), 3);
    drop(program);
    let lines = bench.log.lock().expect("a log").len();
    assert_eq!(lines, 20000, "every line is in the log");

    let bench = Bench::new("says");
    let program = bench.open(1, 60.0);
    let before = program.processes();
    score(&program, 2).expect_err("it says so");
    assert_eq!(program.processes(), before);
}

#[test]
fn programs_that_will_not_end_are_ended() {
    let bench = Bench::new("stubborn");
    let program = bench.open(2, 60.0);
    assert_eq!(score(&program, 20).expect("rewards").len(), 20);
    assert_eq!(bench.living().len(), 2);
    let ends = program.close(Duration::from_millis(300));
    assert_eq!(ends, [(Ending::Killed, None), (Ending::Killed, None)]);
    assert!(bench.living().is_empty(), "they have ended when `close` returns");

    let bench = Bench::new("daemon");
    let program = bench.open(1, 60.0);
    assert_eq!(score(&program, 2).expect("rewards").len(), 2);
    // It takes two forks to get there, for which nobody waits.
    wait_for("a program, and a process in a session of its own", || bench.living().len() == 2);
    drop(program);
    bench.nothing_stays();
}

#[test]
fn when_tickets_is_killed_its_programs_die_with_it() {
    for mode in ["hangs", "stubborn", "daemon"] {
        let bench = Bench::new(mode);
        let mut tickets = Command::new(env!("CARGO_BIN_EXE_tickets"))
            // A stubborn program is waited for at the end.
            .args(["task", "check", "--timeout", "600", &bench.command()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tickets starts");
        wait_for("the programs", || bench.living().len() > 1);
        let mark = mark_of(&bench);
        wait_for("the watcher", || !processes_with(&mark, "cmdline").is_empty());
        // Not at the very start, so that both workers are there.
        std::thread::sleep(Duration::from_millis(700));
        let id = Pid::from_raw(tickets.id().cast_signed()).expect("a process");
        kill_process(id, Signal::KILL).expect("it lives");
        tickets.wait().expect("it ends");
        bench.nothing_stays();
        wait_for("the watcher's end", || processes_with(&mark, "cmdline").is_empty());
    }
}

/// The mark that processes of a bench have in their environment.
fn mark_of(bench: &Bench) -> String {
    let marks = || {
        let ids = bench.living().into_iter().filter(|id| {
            let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            line.split('\0').next().is_some_and(|command| command.ends_with("python3"))
        });
        let mut environments = ids.filter_map(|id| fs::read_to_string(format!("/proc/{id}/environ")).ok());
        let mark = |text: String| {
            text.split('\0').find(|entry| entry.starts_with("STARTED_BY_TICKETS=")).map(str::to_owned)
        };
        environments.find_map(mark)
    };
    wait_for("a mark", || marks().is_some());
    marks().expect("a mark")
}
