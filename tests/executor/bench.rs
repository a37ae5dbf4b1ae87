//! A results folder, a manifest, a scripted trainer, and the processes that use them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tickets::cli::stage::{StageArgs, stage as stage_command};
use tickets::counter::Counter;
use tickets::data::safetensors::{RawTensor, to_bytes};
use tickets::execute::{
    Context, End, Event, FailureClass, Message, Opening, Outcome, Progress, Requests, Silent, StageFailure,
    SweepOptions, SweepSummary, Task, Trainer, Wire, WorkStage, sweep, work,
};
use tickets::exit::Code;
use tickets::manifest::{self, Overrides};
use tickets::plan::{self, Plan, RunSpec};
use tickets::sparsity::{Criterion, MaskSpec, Sparse};
use tickets::store::{Checkpoint, RunState, Stage, Store, reproducible_digest};

pub const MANIFEST: &str = r#"
title = "executor"
question = "Does the executor do what it should?"

[task]
type = "alphabet_sort"

[model.pretrain]
hidden_size = 16
intermediate_size = 16
layers = 1
heads = 1
kv_heads = 1
steps = 1
batch = 1

[grpo]
steps = 9
rollouts_per_step = 8
group_size = 4
micro_batch = 8

[exec]
device = "cpu"
checkpoint_every = 2
keep_checkpoints = 2
retries = { killed = 0, infra = 0, store = 0 }

[[grid]]
mask.type = "full"

[[grid]]
mask.type = "random"
mask.sparsity = 0.5
mask.seed = [0, 1]

[[grid]]
mask.type = "fisher"
mask.sparsity = 0.5
"#;

pub const STEPS: u32 = 9;

/// A short name of a run that does not depend on how the planner makes labels.
pub fn key(run: &RunSpec) -> String {
    match &run.config.mask {
        MaskSpec::Sparse(Sparse { criterion: Criterion::Random { seed, .. }, .. }) => format!("random{seed}"),
        other => other.word().to_owned(),
    }
}

/// Does arithmetic in place of training. `script.json` in the results folder says what goes wrong; `calls.txt` there
/// records what was executed.
pub struct Scripted {
    folder: PathBuf,
    script: Value,
}

impl Scripted {
    pub fn new(folder: &Path) -> Self {
        let script = fs::read(folder.join("script.json"))
            .map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
        Self { folder: folder.to_path_buf(), script }
    }

    fn record(&self, line: &str) {
        let mut file =
            fs::OpenOptions::new().append(true).create(true).open(self.folder.join("calls.txt")).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn nap(&self) {
        std::thread::sleep(Duration::from_millis(self.script["sleep_ms"].as_u64().unwrap_or(0)));
    }

    /// What the script wants to go wrong here.
    fn trouble(&self, key: &str, step: u32) -> Result<(), StageFailure> {
        let trouble = &self.script[key];
        if trouble["step"].as_u64() != Some(u64::from(step)) {
            return Ok(());
        }
        let class = trouble["class"].as_str().unwrap();
        match class {
            "panic" => panic!("scripted panic"),
            "abort" => std::process::abort(),
            "kill" => {
                kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
                unreachable!("the signal ends this process");
            }
            "silent" => {
                eprintln!("last words");
                signal_hook::low_level::exit(7)
            }
            class => {
                let class = FailureClass::from_name(class).unwrap();
                Err(StageFailure::new(class, "as the script says").at(step))
            }
        }
    }
}

/// The mask of a run, if it has one.
fn publish_mask(run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
    let Some(id) = &run.stages.mask else { return Ok(()) };
    let tensor =
        RawTensor { name: key(run), dtype: "I32", shape: vec![1], bytes: 0i32.to_le_bytes().to_vec() };
    let bytes = to_bytes(&[tensor], &std::collections::BTreeMap::new());
    let meta = json!({"active": 1, "total": 10});
    cx.store.publish(Stage::Mask, id, &[("mask.safetensors", &bytes)], meta)?;
    Ok(())
}

impl Trainer for Scripted {
    fn base(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
        if cx.store.artifact(Stage::Base, &run.stages.base)?.is_some() {
            return Ok(());
        }
        self.record("base");
        self.nap();
        self.trouble("base", 0)?;
        cx.store.publish(Stage::Base, &run.stages.base, &[("model", &0.5f64.to_le_bytes())], json!({}))?;
        Ok(())
    }

    fn scores(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
        self.record("scores");
        self.nap();
        self.trouble("scores", 0)?;
        assert!(cx.store.artifact(Stage::Base, &run.stages.base)?.is_some(), "scores need the base");
        let id = run.stages.scores.as_deref().unwrap();
        cx.store.publish(Stage::Scores, id, &[("scores", &0.25f64.to_le_bytes())], json!({}))?;
        Ok(())
    }

    fn mask(&self, run: &RunSpec, cx: &Context) -> Result<(), StageFailure> {
        self.record("mask");
        self.trouble("mask", 0)?;
        publish_mask(run, cx)
    }

    fn run(&self, run: &RunSpec, cx: &Context) -> Result<Outcome, StageFailure> {
        let key = key(run);
        let number = |bytes: Vec<u8>| f64::from_le_bytes(bytes.try_into().unwrap());
        let base = cx.store.artifact(Stage::Base, &run.stages.base)?.expect("runs need the base");
        let mut weight = number(base.read("model")?);
        if let Some(id) = &run.stages.scores {
            weight +=
                number(cx.store.artifact(Stage::Scores, id)?.expect("the scores are there").read("scores")?);
        }
        publish_mask(run, cx)?;
        let mut attempt = cx.begin(&run.id.to_string())?;
        let mut saved = attempt.resumed().map_or(0, Checkpoint::step);
        self.record(&format!("run {key} from {saved}"));
        if let Some(checkpoint) = attempt.resumed() {
            weight = number(checkpoint.read("weight")?);
            // What a trainer does that forgets a part of its state.
            weight += self.script["forgets"].as_f64().unwrap_or(0.0);
        }
        // What a trainer does whose sums have no fixed order.
        weight += self.script["noise"].as_f64().unwrap_or(0.0) * f64::from(std::process::id());
        attempt.log(&format!("{key} starts from step {saved}"))?;
        (cx.events)(Event::Phase { name: "train".into(), steps: STEPS });
        let exec = &run.config.exec;
        for step in saved + 1..=STEPS {
            if (cx.stop)() {
                if saved < step - 1 {
                    attempt.checkpoint(
                        step - 1,
                        &[("weight", &weight.to_le_bytes())],
                        json!({}),
                        exec.keep_checkpoints,
                    )?;
                }
                return Ok(Outcome::Paused { step: step - 1 });
            }
            if let Err(failure) = self.trouble(&key, step) {
                attempt.fail(&failure.to_record())?;
                return Err(failure);
            }
            let started = Instant::now();
            self.nap();
            weight = weight * 0.9 + Counter::new(run.config.seed, &key, &[u64::from(step)]).uniform();
            let row =
                json!({"step": step, "reward": weight, "step_seconds": started.elapsed().as_secs_f64()});
            attempt.metrics(row.as_object().unwrap())?;
            if step % 4 == 0 {
                attempt.eval(json!({"step": step, "eval/score": weight / 2.0}).as_object().unwrap())?;
            }
            if step % exec.checkpoint_every == 0 && step < STEPS {
                attempt.checkpoint(
                    step,
                    &[("weight", &weight.to_le_bytes())],
                    json!({}),
                    exec.keep_checkpoints,
                )?;
                saved = step;
            }
            (cx.events)(Event::Progress { step, message: format!("reward {weight:.3}") });
        }
        let digest = tickets::store::digest(&weight.to_le_bytes());
        attempt.finish(
            &[("weight", &weight.to_le_bytes())],
            json!({"weights_digest": digest, "invariant": "holds", "classes": self.script["classes"]}),
        )?;
        self.record(&format!("end {key}"));
        Ok(Outcome::Finished)
    }
}

#[derive(Parser)]
pub struct WorkerLine {
    #[command(flatten)]
    args: StageArgs,
}

/// The worker: `tickets stage` with the scripted trainer.
#[test]
fn worker_process() {
    let Ok(arguments) = std::env::var("EXECUTOR_TEST_ARGS") else { return };
    let line = WorkerLine::parse_from(std::iter::once("stage").chain(arguments.lines()));
    // A run that is executed again has its results in a folder below those that the script lies in.
    let mut folders = line.args.results.ancestors();
    let results = folders.find(|folder| folder.join("script.json").exists()).unwrap().to_path_buf();
    let code = stage_command(&line.args, &|_| Ok(Box::new(Scripted::new(&results))));
    signal_hook::low_level::exit(i32::from(code as u8));
}

/// A sweep in a process of its own, for tests that kill or interrupt it.
#[test]
fn sweeper_process() {
    let Ok(folder) = std::env::var("EXECUTOR_TEST_SWEEP") else { return };
    let bench = Bench { folder: PathBuf::from(folder), _keep: None };
    let store = bench.store();
    let options = SweepOptions { requests: Requests::from_signals(false).unwrap(), ..bench.options() };
    fs::write(bench.folder.join("ready"), b"").unwrap();
    let summary = sweep(&bench.plan(), &store, &options, &mut Silent).unwrap();
    let text = format!("{} {} {}", summary.finished.len(), summary.paused.len(), summary.interrupted);
    fs::write(bench.folder.join("summary.txt"), text).unwrap();
    for run in &summary.failed {
        println!("FAILED RUN {}: {}", run.label, run.failure);
    }
    println!("SUMMARY {} {} {}", summary.finished.len(), summary.elsewhere.len(), summary.is_complete());
}

/// A results folder with a manifest and a script.
pub struct Bench {
    pub folder: PathBuf,
    _keep: Option<tempfile::TempDir>,
}

impl Bench {
    pub fn new(script: &Value) -> Self {
        let keep = tempfile::tempdir().unwrap();
        let bench = Self { folder: keep.path().to_path_buf(), _keep: Some(keep) };
        fs::write(bench.manifest(), MANIFEST).unwrap();
        bench.script(script);
        bench
    }

    pub fn script(&self, script: &Value) {
        fs::write(self.folder.join("script.json"), script.to_string()).unwrap();
    }

    /// Adds settings to `[exec]`, in place of those that the manifest has.
    pub fn exec(&self, settings: &[(&str, &str)]) {
        let mut text = MANIFEST.to_owned();
        for (key, value) in settings {
            let line = format!("{key} = {value}");
            let old = text.lines().find(|line| line.starts_with(&format!("{key} = "))).map(str::to_owned);
            text = match old {
                Some(old) => text.replacen(&old, &line, 1),
                None => text.replacen("[exec]", &format!("[exec]\n{line}"), 1),
            };
        }
        fs::write(self.manifest(), text).unwrap();
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.join("executor test.toml")
    }

    pub fn plan(&self) -> Plan {
        let overrides = Overrides { set: Vec::new(), env: false };
        plan::expand(manifest::load(self.manifest().to_str().unwrap(), &overrides).unwrap()).unwrap()
    }

    pub fn store(&self) -> Store {
        Store::open(&self.folder).unwrap()
    }

    pub fn options(&self) -> SweepOptions {
        let program = std::env::current_exe().unwrap();
        let script = format!(
            "EXECUTOR_TEST_ARGS=$(printf '%s\\n' \"$@\"); export EXECUTOR_TEST_ARGS; exec '{}' bench::worker_process --exact --nocapture --test-threads=1",
            program.display()
        );
        SweepOptions {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into(), "sh".into()],
            manifest: self.manifest(),
            set: Vec::new(),
            env: false,
            jobs: 2,
            gpus: Vec::new(),
            retry: false,
            wait: true,
            requests: Requests::none(),
        }
    }

    pub fn sweep(&self) -> SweepSummary {
        self.sweep_with(&self.options(), &mut Silent)
    }

    pub fn sweep_with(&self, options: &SweepOptions, ui: &mut dyn Progress) -> SweepSummary {
        sweep(&self.plan(), &self.store(), options, ui).unwrap()
    }

    /// What was executed since the last look.
    pub fn calls(&self) -> Vec<String> {
        let path = self.folder.join("calls.txt");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    /// State, rows' digests and final weights of every run: what must not depend on interruptions.
    pub fn outcome(&self) -> BTreeMap<String, (RunState, String, String, Value)> {
        let store = self.store();
        let describe = |run: &RunSpec| {
            let id = run.id.to_string();
            let rows = store.run_rows(&id).unwrap();
            let weights = rows.done.map_or(Value::Null, |done| done["weights_digest"].clone());
            (
                store.run_state(&id).unwrap(),
                reproducible_digest(&rows.metrics),
                reproducible_digest(&rows.evals),
                weights,
            )
        };
        self.plan().runs.iter().map(|run| (key(run), describe(run))).collect()
    }

    pub fn run(&self, wanted: &str) -> RunSpec {
        self.plan().runs.into_iter().find(|run| key(run) == wanted).unwrap()
    }

    pub fn state(&self, wanted: &str) -> RunState {
        self.store().run_state(&self.run(wanted).id.to_string()).unwrap()
    }

    /// One stage in this process: its exit code and what it said.
    pub fn work(&self, wanted: &str, stage: WorkStage, requests: &Requests) -> (Code, Vec<Message>) {
        let said = Said::default();
        let trainer = Scripted::new(&self.folder);
        let wire = Wire::new(Box::new(said.clone()));
        let code = work(&trainer, &self.run(wanted), stage, &self.store(), &wire, requests, None);
        let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        (
            code,
            text.lines()
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        )
    }
}

#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps what it is told and asks to stop after some steps.
#[derive(Default)]
pub struct Watcher {
    pub openings: Vec<Opening>,
    pub ends: Vec<(String, End)>,
    pub notes: Vec<String>,
    pub steps: u32,
    pub most_at_once: u32,
    pub at_once: u32,
    pub stop_after: Option<(u32, Requests)>,
}

impl Progress for Watcher {
    fn opening(&mut self, opening: &Opening) {
        self.openings.push(opening.clone());
    }
    fn started(&mut self, _: &Task) {
        self.at_once += 1;
        self.most_at_once = self.most_at_once.max(self.at_once);
    }
    fn event(&mut self, _: &Task, event: &Event) {
        match event {
            Event::Progress { .. } => self.steps += 1,
            Event::Note(note) => self.notes.push(note.clone()),
            Event::Phase { .. } | Event::Attempt { .. } => {}
        }
        if let Some((after, requests)) = &self.stop_after
            && self.steps >= *after
        {
            requests.raise(1);
        }
    }
    fn ended(&mut self, task: &Task, end: &End) {
        self.at_once -= 1;
        self.ends.push((task.label.clone(), end.clone()));
    }
    fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }
}

/// The outcome without any interruption, in one process.
pub fn uninterrupted() -> BTreeMap<String, (RunState, String, String, Value)> {
    static OUTCOME: OnceLock<BTreeMap<String, (RunState, String, String, Value)>> = OnceLock::new();
    OUTCOME
        .get_or_init(|| {
            let bench = Bench::new(&json!({}));
            for stage in [WorkStage::Base, WorkStage::Scores, WorkStage::Run] {
                for run in bench.plan().runs {
                    if stage != WorkStage::Scores || run.stages.scores.is_some() {
                        assert_eq!(bench.work(&key(&run), stage, &Requests::none()).0, Code::Ok);
                    }
                }
            }
            bench.outcome()
        })
        .clone()
}

/// `calls.txt` without what depends on timing: how often each line is there.
pub fn counts(calls: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.as_str()).or_default() += 1;
    }
    counts
}
