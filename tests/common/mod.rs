//! A bench for tests of the real program: a folder of its own, tiny manifests, commands, and what they left on the disk.
//!
//! The tiny model is large enough that its rewards differ: with equal rewards there is no gradient, and resuming would
//! be compared on nothing.
#![expect(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};
use tempfile::TempDir;
use toml::Table;

/// The grid that most tests run: one turn, one update a step, three masks.
pub const TINY: &str = r#"
    title = "Tiny"
    question = "Does it work?"
    model.pretrain = { hidden_size = 32, intermediate_size = 64, layers = 2, heads = 2, kv_heads = 1, vocab_size = 384, steps = 60, batch = 16, lr = 1e-2 }
    task = { type = "alphabet_sort", max_turns = 1, max_names_per_turn = 2, sort_by = "first", similarity_power = 1 }
    grpo = { steps = 4, rollouts_per_step = 16, group_size = 4, micro_batch = 16 }
    optimizer.lr = 1e-3
    sampling.max_tokens = 32
    mask.sparsity = 0.9
    fisher.episodes = 16
    eval = { examples = 4, every = 2, sampling.max_tokens = 32 }
    exec = { device = "cpu", checkpoint_every = 2 }
    grid = [{ mask.type = "full" }, { mask.type = ["fisher", "random"] }]
"#;

/// How long anything may take before a test gives it up.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout.clone()).expect("the program speaks UTF-8"),
            err: String::from_utf8(output.stderr.clone()).expect("the program speaks UTF-8"),
        }
    }

    /// Both streams, for messages of tests.
    pub fn all(&self) -> String {
        format!("exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }

    /// Checks the exit code, and that nothing panicked.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.all());
        assert!(!self.all().contains("panicked"), "{}", self.all());
        self
    }

    /// Checks that every phrase is somewhere in what was said, line breaks aside.
    #[track_caller]
    pub fn names(self, phrases: &[&str]) -> Self {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = words(&self.all());
        for phrase in phrases {
            assert!(said.contains(&words(phrase)), "`{phrase}` is not in\n{}", self.all());
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }
}

/// A folder with manifests and results.
pub struct Bench {
    pub folder: TempDir,
}

impl Bench {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The default results folder.
    pub fn results(&self) -> PathBuf {
        self.path("results")
    }

    /// Writes a manifest: [`TINY`] with changes put over it.
    pub fn manifest(&self, relative: &str, changes: &str) {
        self.write(relative, &tiny(changes));
    }

    /// Writes any file.
    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a writable folder");
        fs::write(path, text).expect("a writable folder");
    }

    /// Puts a finished base of [`TINY`] into a results folder: tests that are not about the base need not wait for it.
    pub fn give_base(&self, results: &str) {
        copy(&warm_base().path("results/.store/base"), &self.path(results).join(".store/base"));
    }

    /// The program with these arguments, in the bench's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickets"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TICKETS_"))
        {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::new(&self.command(arguments).output().expect("the program can be started"))
    }

    /// Starts the program; its output is kept for [`Running::finish`].
    pub fn start(&self, arguments: &[&str]) -> Running {
        let child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running { child: Some(child.expect("the program can be started")) }
    }

    /// The outcome of every run of a plan, by label; all must be complete. `arguments` are a manifest and overrides.
    pub fn outcomes(&self, arguments: &[&str]) -> BTreeMap<String, Outcome> {
        let plan = self.run(&[&["plan", "--json"], arguments].concat()).ends(0).json();
        let runs = plan["runs"].as_array().expect("an array");
        let outcome = |run: &Value| {
            let (label, id) = (run["label"].as_str().expect("a label"), run["id"].as_str().expect("an id"));
            assert_eq!(run["state"], "done", "{label}");
            let folder = self.results().join(".store/run").join(id);
            let attempt = newest_attempt(&folder).expect("an attempt");
            let marker = fs::read(folder.join("DONE.json")).expect("a marker");
            let done: Value = serde_json::from_slice(&marker).expect("JSON");
            assert_eq!(done["meta"]["invariant"]["holds"], true, "{label}");
            let outcome = Outcome {
                weights: done["meta"]["weights_digest"].clone(),
                moments: done["meta"]["moments_digest"].clone(),
                metrics: rows(&attempt.join("metrics.jsonl")),
                evals: rows(&attempt.join("eval.jsonl")),
                state: fs::read(attempt.join("final/state.safetensors")).expect("a final state"),
            };
            (label.to_owned(), outcome)
        };
        runs.iter().map(outcome).collect()
    }

    /// Rows of `metrics.jsonl` in the newest attempts of all runs of a results folder.
    pub fn rows_written(&self, results: &str) -> usize {
        let runs = fs::read_dir(self.path(results).join(".store/run"));
        let rows =
            |run: PathBuf| newest_attempt(&run).map_or(0, |attempt| lines(&attempt.join("metrics.jsonl")));
        runs.map_or(0, |runs| runs.filter_map(Result::ok).map(|run| rows(run.path())).sum())
    }
}

/// What a finished run left that must not depend on how it came about.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub weights: Value,
    pub moments: Value,
    pub metrics: Vec<Map<String, Value>>,
    pub evals: Vec<Map<String, Value>>,
    pub state: Vec<u8>,
}

/// A program at work. It is killed when it is dropped.
pub struct Running {
    child: Option<Child>,
}

impl Running {
    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it has not been waited for")
    }

    pub fn pid(&mut self) -> u32 {
        self.child().id()
    }

    pub fn signal(&mut self, signal: Signal) {
        kill_process(pid(self.pid()), signal).expect("it lives");
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child().try_wait().expect("it is ours").is_some()
    }

    /// The processes that it started.
    pub fn workers(&mut self) -> Vec<u32> {
        let parent = self.pid();
        let processes = fs::read_dir("/proc").expect("a Linux machine").filter_map(Result::ok);
        processes
            .filter_map(|p| p.file_name().to_str()?.parse().ok())
            .filter(|p| parent_of(*p) == Some(parent))
            .collect()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Said {
        let child = self.child.take().expect("it has not been waited for");
        Said::new(&child.wait_with_output().expect("it is ours"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process id")).expect("a process id")
}

/// The parent of a process that has not ended.
pub fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z" && state != "X")
}

/// Waits until something is so.
#[track_caller]
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The text of [`TINY`] with changes put over it, table by table; a `grid` replaces the grid.
pub fn tiny(changes: &str) -> String {
    let mut manifest: Table = TINY.parse().expect("TINY is TOML");
    put_over(&mut manifest, changes.parse().expect("the changes are TOML"));
    manifest.to_string()
}

fn put_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => put_over(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// A results folder in which [`TINY`]'s base and one short run are finished, made once per test program.
pub fn warm_base() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let bench = Bench::new();
        bench.manifest("base.toml", "grpo.steps = 1\ngrid = [{ mask.type = 'full' }]");
        bench.run(&["sweep", "base.toml"]).ends(0);
        bench
    })
}

/// The one folder below another.
pub fn only(folder: &Path) -> PathBuf {
    let entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

/// The newest attempt of a run's folder.
pub fn newest_attempt(run: &Path) -> Option<PathBuf> {
    fs::read_dir(run.join("attempts")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).max()
}

fn lines(file: &Path) -> usize {
    fs::read(file).map_or(0, |bytes| bytes.split(|byte| *byte == b'\n').count() - 1)
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("readable")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a writable folder");
        }
    }
}

/// Every file below a folder with its bytes, by relative path.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).expect("a folder").map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((
                    path.strip_prefix(folder).expect("below it").to_path_buf(),
                    fs::read(&path).expect("readable"),
                ));
            }
        }
    }
    found.sort();
    found
}

/// Whether a column must be the same each time.
pub fn reproducible(column: &str) -> bool {
    !["_seconds", "_per_second", "_bytes"].iter().any(|measured| column.ends_with(measured))
}

/// The rows of a `.jsonl` file without what is measured.
pub fn rows(file: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let row = |line: &str| serde_json::from_str::<Map<String, Value>>(line).expect("a row is an object");
    text.lines()
        .map(|line| row(line).into_iter().filter(|(column, _)| reproducible(column)).collect())
        .collect()
}

/// A CSV file without the columns that are measured. No cell of ours holds a comma.
pub fn reproducible_csv(file: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let header: Vec<&str> = text.lines().next().expect("a header").split(',').collect();
    let keep = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), header.len(), "{line}");
        let kept = cells.iter().zip(&header).filter(|(_, column)| reproducible(column));
        kept.map(|(cell, _)| (*cell).to_owned()).collect()
    };
    text.lines().map(keep).collect()
}

/// The Python of the reference implementations: `ORACLE_PYTHON`, where it is set. `TICKETS_REQUIRE_ORACLE` makes its absence fail.
pub fn oracle_python(not_done: &str) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = set("ORACLE_PYTHON");
    if found.is_none() {
        let advice = format!(
            "{not_done}; `make oracles` does it, or set ORACLE_PYTHON to a Python that has tests/oracles/requirements.txt"
        );
        assert!(set("TICKETS_REQUIRE_ORACLE").is_none(), "{advice}");
        // Past the test harness, which keeps what tests print to itself.
        writeln!(std::io::stderr(), "SKIPPED: {advice}").expect("a standard error stream");
    }
    found
}
