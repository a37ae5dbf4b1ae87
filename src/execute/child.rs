//! Worker processes: how one is started, heard and judged.
//!
//! In: a task. Out: its protocol lines, and in the end what became of it. Whatever else the process writes goes to a log
//! file, the end of which is shown when it fails.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use super::SweepOptions;
use super::error::ExecuteError;
use super::event::Message;
use super::graph::Task;
use super::trainer::{FailureClass, StageFailure};
use super::worker::WorkStage;
use crate::plan::{Plan, RunSpec};
use crate::store::{Sighting, Stage, Store, StoreError, fs, tail};

/// Lines of a log that are shown with a failure.
const SHOWN_LINES: usize = 12;

/// What a reader thread hears.
pub(super) enum Heard {
    /// A line of the protocol.
    Message(usize, Message),
    /// The process closed its output.
    Closed(usize),
}

/// A worker process at work.
pub(super) struct Worker {
    pub node: usize,
    pub child: Child,
    pub log: PathBuf,
    /// The process closed its output: every message has been received.
    pub closed: bool,
    pub status: Option<ExitStatus>,
    /// The last word: finished, paused, failed, busy or lost.
    pub last: Option<Message>,
    /// The attempt that it has begun.
    pub attempt: Option<u32>,
    /// The GPU that it was given.
    pub gpu: Option<String>,
    /// How many processes the kernel had killed for memory when it started.
    pub memory_kills: Option<u64>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is complete.
    Finished,
    /// Another worker had done it before.
    Already,
    /// Another worker is at it: it waits, or something else is done.
    Busy {
        /// Who that is.
        holder: String,
    },
    /// It stopped when asked to; so many steps are saved.
    Paused {
        /// Complete and saved steps.
        step: Option<u32>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: StageFailure,
        /// Where the process's other output is.
        log: PathBuf,
        /// The end of that output.
        tail: Vec<String>,
    },
}

/// What a worker process is started for.
pub(super) struct Order<'a> {
    /// The place of the task in its graph.
    pub node: usize,
    pub task: &'a Task,
    /// The lease of it that was found abandoned.
    pub abandoned: Option<Sighting>,
    /// The GPU to use, when there are several.
    pub gpu: Option<String>,
}

/// Starts the worker process of a task.
pub(super) fn start(
    order: Order,
    plan: &Plan,
    store: &Store,
    options: &SweepOptions,
    heard: &Sender<Heard>,
) -> Result<Worker, ExecuteError> {
    let Order { node, task, abandoned, gpu } = order;
    let run = &plan.runs[task.run];
    let log = log_path(task, store)?;
    if let Some(folder) = log.parent() {
        fs::create_folders(folder)?;
    }
    let mut log_file = fs::open_append(&log)?;
    let threads = run.config.exec.threads.max(1).to_string();
    let mut command = Command::new(&options.program);
    if let Some(gpu) = &gpu {
        command.env("CUDA_VISIBLE_DEVICES", gpu);
    }
    let spawned = command
        .args(&options.arguments)
        .args(arguments(task, abandoned, run, store, options))
        .env("OMP_NUM_THREADS", &threads)
        .env("MKL_NUM_THREADS", &threads)
        // cuBLAS reads this at its start, and without it may sum in any order.
        .env("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        // Tensors of a few megabytes come and go all the time: keep their pages instead of giving them back each time.
        .env("MALLOC_MMAP_THRESHOLD_", "1073741824")
        .env("MALLOC_TRIM_THRESHOLD_", "4294967296")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file.try_clone().map_err(|e| StoreError::io("open", &log, e))?)
        .spawn();
    let mut child =
        spawned.map_err(|source| ExecuteError::Spawn { program: options.program.clone(), source })?;
    let stdout = child.stdout.take().expect("the child's output was asked to be a pipe");
    let heard = heard.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(message) => {
                    let _ = heard.send(Heard::Message(node, message));
                }
                // Libraries print too; their lines belong to the log.
                Err(_) => {
                    let _ = log_file.write_all(&[line.as_slice(), b"\n"].concat());
                }
            }
        }
        let _ = heard.send(Heard::Closed(node));
    });
    Ok(Worker {
        node,
        child,
        log,
        closed: false,
        status: None,
        last: None,
        attempt: None,
        gpu,
        memory_kills: memory_kills(),
    })
}

/// The command line of a worker, after `tickets`. The worker reads the manifest itself, with the same overrides, and
/// refuses when the run is no longer in it.
fn arguments(
    task: &Task,
    abandoned: Option<Sighting>,
    run: &RunSpec,
    store: &Store,
    options: &SweepOptions,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--results".into(), store.results().into()];
    arguments.extend(["--stage".into(), task.stage.name().into()]);
    arguments.extend(["--manifest".into(), options.manifest.clone().into_os_string()]);
    for set in &options.set {
        arguments.extend(["--set".into(), set.into()]);
    }
    if !options.env {
        arguments.push("--no-env".into());
    }
    arguments.extend(["--run".into(), run.id.to_string().into()]);
    if let Some(sighting) = abandoned {
        arguments.extend(["--abandoned".into(), sighting.to_string().into()]);
    }
    arguments.extend(["--parent".into(), std::process::id().to_string().into()]);
    arguments
}

fn log_path(task: &Task, store: &Store) -> Result<PathBuf, StoreError> {
    Ok(match task.stage {
        WorkStage::Base => store.layout().stage_log(Stage::Base, &task.id),
        WorkStage::Scores => store.layout().stage_log(Stage::Scores, &task.id),
        WorkStage::Mask => store.layout().stage_log(Stage::Mask, &task.id),
        WorkStage::Run => store.layout().attempt_log(&task.id, store.next_attempt(&task.id)?),
    })
}

/// Decides what became of a worker that has ended. `asked` tells that the sweep had been asked to stop, `memory_kills`
/// that the kernel killed processes for memory since it started.
pub(super) fn judge(worker: &Worker, status: ExitStatus, asked: bool, memory_kills: bool) -> End {
    let failed = |failure| End::Failed {
        failure,
        log: worker.log.clone(),
        tail: tail(&worker.log, SHOWN_LINES).unwrap_or_default(),
    };
    match (&worker.last, status.code(), status.signal()) {
        (Some(Message::Finished), Some(0), _) => End::Finished,
        (Some(Message::Already), _, _) => End::Already,
        (Some(Message::Paused { step }), _, _) => End::Paused { step: *step },
        (Some(Message::Busy { holder }), _, _) => End::Busy { holder: holder.clone() },
        (Some(Message::Lost), _, _) => End::Busy { holder: "another worker".to_owned() },
        (Some(Message::Failed(failure)), _, _) => failed(failure.clone()),
        // It had no time to say so: it was stopped at once, or before it could listen.
        (_, Some(99), _) => End::Paused { step: None },
        (_, _, Some(_)) if asked => End::Paused { step: None },
        (_, _, Some(signal)) => failed(killed_by(signal, memory_kills)),
        (_, code, _) => {
            let last = last_line(&worker.log).map(|line| format!(": {line}")).unwrap_or_default();
            let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
            failed(StageFailure::new(
                FailureClass::Infra,
                format!("its process ended with {code} and without a word{last}"),
            ))
        }
    }
}

fn killed_by(signal: i32, memory_kills: bool) -> StageFailure {
    let text =
        |rest: &str| format!("its process was ended by signal {signal} ({}){rest}", signal_name(signal));
    match signal {
        9 if memory_kills => StageFailure::new(FailureClass::Oom, text(": the machine ran out of memory"))
            .hinted("lower --jobs, grpo.micro_batch or grpo.rollouts_per_step"),
        9 => StageFailure::new(FailureClass::Killed, text("")).hinted(
            "someone killed it, or memory ran out (see the kernel's log); the same command goes on from its checkpoint",
        ),
        1 | 2 | 15 => StageFailure::new(FailureClass::Killed, text("")),
        _ => StageFailure::new(FailureClass::Infra, text("")),
    }
}

fn signal_name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("unknown")
}

fn last_line(log: &Path) -> Option<String> {
    tail(log, 1).ok()?.pop().filter(|line| !line.trim().is_empty())
}

/// How many processes the kernel has killed for memory since the machine started; `None` where it does not say.
pub(super) fn memory_kills() -> Option<u64> {
    let text = fs::read(Path::new("/proc/vmstat")).ok()?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}
