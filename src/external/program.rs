//! A program with its workers, as an environment.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::ending::Ending;
use super::error::{ExternalError, Trouble};
use super::log::{Log, Sink};
use super::question::{Episodes, Question, Respond, Score};
use super::reply::Hello;
use super::settings::Settings;
use super::wire;
use super::worker::Worker;
use super::{MOST_ITEMS, PROTOCOL};
use crate::counter::Counter;
use crate::task::{Environment, Episode, Played, ProgramSpec, Reward, Serving, TaskError};

/// How long workers have to end after their input has ended.
const GRACE: Duration = Duration::from_secs(2);

/// A program that is a task. Its workers start when they are needed and end with it.
#[derive(Debug)]
pub struct Program {
    settings: Settings,
    hello: Hello,
    slots: Vec<Mutex<Slot>>,
    log: Log,
}

/// The place of a worker.
#[derive(Debug)]
struct Slot {
    number: u32,
    worker: Option<Worker>,
    last_id: u64,
}

/// One worker of a program, for those who want to compare workers.
#[derive(Clone, Copy, Debug)]
pub struct Only<'a> {
    program: &'a Program,
    worker: usize,
}

impl Program {
    /// Starts the first worker, and learns what the program says of itself. What workers write to standard error goes to `sink`.
    ///
    /// # Errors
    /// When the program cannot be started, or does not introduce itself in time and in the form of the protocol.
    pub fn open(settings: Settings, sink: Sink) -> Result<Self, ExternalError> {
        let log = Log::new(sink);
        let mut first = Slot { number: 0, worker: None, last_id: 0 };
        let hello = first.start(&settings, None, &log)?;
        let rest = (1..settings.workers).map(|number| Slot { number, worker: None, last_id: 0 });
        let slots = std::iter::once(first).chain(rest).map(Mutex::new).collect();
        Ok(Self { settings, hello, slots, log })
    }

    /// The program of a manifest, started as [`Self::open`] starts it. `spec` says how many turns an episode may have.
    ///
    /// # Errors
    /// The same, and when the program has more turns.
    pub fn of(spec: &ProgramSpec, serving: Serving, sink: Sink) -> Result<Self, ExternalError> {
        let Serving { workers, timeout_seconds } = serving;
        let timeout = Duration::from_secs(timeout_seconds.into());
        let program =
            Self::open(Settings::new(&spec.command, Some(spec.path.clone()), workers, timeout), sink)?;
        let allowed = usize::try_from(spec.max_turns).unwrap_or(usize::MAX);
        match program.hello.turns {
            turns if turns > allowed => Err(program.refused(Trouble::Turns { turns, allowed })),
            _ => Ok(program),
        }
    }

    fn refused(&self, trouble: Trouble) -> ExternalError {
        locked(&self.slots[0]).failed(&self.settings, "to introduce itself".to_owned(), trouble)
    }

    /// What the program says of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// How it is started and asked.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// One of its workers; numbers beyond the last begin anew.
    pub fn only(&self, worker: usize) -> Only<'_> {
        Only { program: self, worker: worker % self.slots.len() }
    }

    /// The process ids of the workers that have been started.
    pub fn processes(&self) -> Vec<u32> {
        self.slots.iter().filter_map(|slot| locked(slot).worker.as_ref().map(Worker::id)).collect()
    }

    /// Ends the input of every worker, waits at most `grace` for each to end, and ends those that do not. Returns how each
    /// ended, and what it wrote without being asked.
    pub fn close(self, grace: Duration) -> Vec<(Ending, Option<String>)> {
        self.end(grace)
    }

    fn end(&self, grace: Duration) -> Vec<(Ending, Option<String>)> {
        let mut workers: Vec<Worker> =
            self.slots.iter().filter_map(|slot| locked(slot).worker.take()).collect();
        workers.iter_mut().for_each(Worker::hang_up);
        workers.into_iter().map(|worker| worker.close(grace)).collect()
    }

    /// Asks about all, in parts whose size does not depend on the number of workers. Part `k` goes to worker `k mod workers`.
    /// When several parts fail the error is that of the first, however fast the others were.
    fn ask<Q: Question>(&self, question: &Q) -> Result<Vec<Q::Answer>, ExternalError> {
        let count = question.count();
        let parts: Vec<Range<usize>> =
            (0..count).step_by(MOST_ITEMS).map(|start| start..count.min(start + MOST_ITEMS)).collect();
        let workers = self.slots.len().min(parts.len());
        let failed = AtomicUsize::new(usize::MAX);
        let share = |worker: usize| {
            let mut slot = locked(&self.slots[worker]);
            let mut done = Vec::new();
            for at in (worker..parts.len()).step_by(workers) {
                if at > failed.load(Ordering::SeqCst) {
                    break;
                }
                let result = self.ask_part(&mut slot, question, parts[at].clone());
                if result.is_err() {
                    failed.fetch_min(at, Ordering::SeqCst);
                }
                done.push((at, result));
            }
            done
        };
        let mut done = if workers < 2 {
            (0..workers).flat_map(share).collect()
        } else {
            let share = &share;
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || share(worker))).collect();
                let joined = threads.into_iter().map(|thread| match thread.join() {
                    Ok(done) => done,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                joined.flatten().collect::<Vec<_>>()
            })
        };
        done.sort_by_key(|(at, _)| *at);
        let mut answers = Vec::with_capacity(count);
        for (_, part) in done {
            answers.extend(part?);
        }
        Ok(answers)
    }

    /// Asks about a part. When the worker dies or does not answer, a fresh one is asked about each by itself: what is wrong
    /// with one then does no harm to the others, and the error can name it.
    fn ask_part<Q: Question>(
        &self,
        slot: &mut Slot,
        question: &Q,
        part: Range<usize>,
    ) -> Result<Vec<Q::Answer>, ExternalError> {
        let error = match self.ask_once(slot, question, part.clone()) {
            Err(error) if error.is_transient() => error,
            other => return other,
        };
        error.to_string().lines().for_each(|line| self.log.line(line));
        self.log.line(&format!("worker {}: a fresh process is asked again", slot.number));
        let mut answers = Vec::with_capacity(part.len());
        for at in part {
            let answer = self.ask_once(slot, question, at..at + 1);
            answers.extend(answer.map_err(|error| ExternalError { again: true, ..error })?);
        }
        Ok(answers)
    }

    fn ask_once<Q: Question>(
        &self,
        slot: &mut Slot,
        question: &Q,
        part: Range<usize>,
    ) -> Result<Vec<Q::Answer>, ExternalError> {
        if slot.worker.as_mut().is_some_and(Worker::is_over) {
            self.log.line(&format!("worker {}: the process ended when nothing was asked", slot.number));
            slot.worker = None;
        }
        if slot.worker.is_none() {
            slot.start(&self.settings, Some(&self.hello), &self.log)?;
        }
        slot.last_id += 1;
        let id = slot.last_id;
        let request = question.request(id, part.clone());
        let timeout = self.settings.timeout;
        let answers = slot.exchange(&request, timeout).and_then(|reply| {
            check_id(id, &reply)?;
            question.answers(part.clone(), &reply)
        });
        answers.map_err(|trouble| slot.failed(&self.settings, question.asked(part), trouble))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end(GRACE);
    }
}

impl Slot {
    /// Starts a process in this place and has it introduce itself: for the first time, or as `known`.
    fn start(
        &mut self,
        settings: &Settings,
        known: Option<&Hello>,
        log: &Log,
    ) -> Result<Hello, ExternalError> {
        let asked = || "to introduce itself".to_owned();
        let worker = Worker::start(&settings.script(), self.number, log.clone());
        self.worker = Some(worker.map_err(|trouble| self.failed(settings, asked(), trouble))?);
        let request = json!({ "type": "hello", "protocol": PROTOCOL, "worker": self.number });
        let hello = self.exchange(&request, settings.start_timeout).and_then(|reply| {
            check_error(&reply)?;
            let hello = Hello::read(&reply)?;
            match known {
                Some(known) if *known != hello => {
                    Err(Trouble::Changed { before: known.to_string(), now: hello.to_string() })
                }
                _ => Ok(hello),
            }
        });
        hello.map_err(|trouble| {
            let error = self.failed(settings, asked(), trouble);
            self.worker = None;
            error
        })
    }

    fn exchange(&mut self, request: &Value, limit: Duration) -> Result<Value, Trouble> {
        let Some(worker) = &mut self.worker else {
            return Err(Trouble::Start(std::io::ErrorKind::NotConnected.into()));
        };
        wire::parse(&worker.exchange(&wire::line(request), limit)?)
    }

    /// The error of a request. A worker that did not keep to the protocol is ended.
    fn failed(&mut self, settings: &Settings, request: String, trouble: Trouble) -> ExternalError {
        let last = self.worker.as_mut().map(Worker::last).unwrap_or_default();
        if !trouble.leaves_worker() {
            self.worker = None;
        }
        let command = settings.shown();
        let trouble = Box::new(trouble);
        ExternalError { command, worker: self.number, request, again: false, trouble, last }
    }
}

impl Only<'_> {
    fn ask<Q: Question>(&self, question: &Q) -> Result<Vec<Q::Answer>, ExternalError> {
        let mut slot = locked(&self.program.slots[self.worker]);
        let mut answers = Vec::new();
        for start in (0..question.count()).step_by(MOST_ITEMS) {
            let end = question.count().min(start + MOST_ITEMS);
            answers.extend(self.program.ask_part(&mut slot, question, start..end)?);
        }
        Ok(answers)
    }

    /// Starts it, unless it runs; its process id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<u32, ExternalError> {
        let mut slot = locked(&self.program.slots[self.worker]);
        if slot.worker.is_none() {
            slot.start(&self.program.settings, Some(&self.program.hello), &self.program.log)?;
        }
        Ok(slot.worker.as_ref().map_or(0, Worker::id))
    }

    /// Episodes.
    ///
    /// # Errors
    /// As those of [`Environment::episodes`].
    pub fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, ExternalError> {
        self.ask(&Episodes { seed, stream, indices })
    }

    /// The next user messages.
    ///
    /// # Errors
    /// As those of [`Environment::respond`].
    pub fn respond(&self, played: &[Played<'_>]) -> Result<Vec<Option<String>>, ExternalError> {
        let (open, at) = unfinished(played, self.program.hello.turns);
        Ok(spread(played.len(), &at, self.ask(&Respond(open))?))
    }

    /// Rewards.
    ///
    /// # Errors
    /// As those of [`Environment::rewards`].
    pub fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, ExternalError> {
        self.ask(&Score { played, range: self.program.hello.range })
    }
}

impl Environment for Program {
    fn count(&self, _: u64, stream: &str) -> Result<Option<u64>, TaskError> {
        Ok(self.hello.episodes.of(stream))
    }

    fn episodes(&self, seed: u64, stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        Ok(self.ask(&Episodes { seed, stream, indices })?)
    }

    fn respond(&self, played: &[Played<'_>]) -> Result<Vec<Option<String>>, TaskError> {
        let (open, at) = unfinished(played, self.hello.turns);
        Ok(spread(played.len(), &at, self.ask(&Respond(open))?))
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        Ok(self.ask(&Score { played, range: self.hello.range })?)
    }

    fn range(&self) -> (f64, f64) {
        self.hello.range
    }

    /// What the program expects, where it says so. It has one right answer, so there is nothing to shuffle.
    fn demonstration(&self, episode: &Episode, turn: usize, _: Option<&mut Counter>) -> Option<String> {
        let expected = &episode.turns.get(turn)?.expected;
        (!expected.is_empty()).then(|| expected.join("\n"))
    }

    fn markers(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

impl From<ExternalError> for TaskError {
    fn from(error: ExternalError) -> Self {
        Self::Program { message: error.to_string(), hint: error.hint(), transient: error.is_transient() }
    }
}

/// The conversations that may have another turn, and where they stand in the list.
fn unfinished<'a>(played: &'a [Played<'a>], turns: usize) -> (Vec<&'a Played<'a>>, Vec<usize>) {
    let open = played.iter().enumerate().filter(|(_, played)| played.answers.len() < turns);
    open.map(|(at, played)| (played, at)).unzip()
}

/// Puts responses where they belong.
fn spread(count: usize, at: &[usize], responses: Vec<Option<String>>) -> Vec<Option<String>> {
    let mut all = vec![None; count];
    for (at, response) in at.iter().zip(responses) {
        all[*at] = response;
    }
    all
}

fn locked(slot: &Mutex<Slot>) -> std::sync::MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_error(reply: &Value) -> Result<(), Trouble> {
    match reply.get("error") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) => Err(Trouble::Said(text.clone())),
        Some(other) => Err(Trouble::Said(other.to_string())),
    }
}

/// The answer is to this request. An error may come without a number: a program that could not read the request has none.
fn check_id(id: u64, reply: &Value) -> Result<(), Trouble> {
    match reply.get("id") {
        Some(got) if got.as_u64() == Some(id) => check_error(reply),
        None | Some(Value::Null) => {
            check_error(reply)?;
            Err(Trouble::Shape("it has no `id`".to_owned()))
        }
        Some(got) => Err(Trouble::WrongId { asked: id, got: got.to_string() }),
    }
}
