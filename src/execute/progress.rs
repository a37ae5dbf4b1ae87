//! What a sweep shows while it works: bars with the time left on a terminal, plain lines elsewhere.
//!
//! In: what the scheduler and the workers tell. Out: text on stderr; results go to stdout and are not shown here.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::child::End;
use super::event::Event;
use super::graph::Task;
use super::{Opening, WorkStage};

/// Is told what a sweep does.
pub trait Progress {
    /// The sweep begins.
    fn opening(&mut self, opening: &Opening);
    /// A worker was started.
    fn started(&mut self, task: &Task);
    /// A worker said something.
    fn event(&mut self, task: &Task, event: &Event);
    /// A worker ended.
    fn ended(&mut self, task: &Task, end: &End);
    /// The sweep itself has something to say.
    fn note(&mut self, line: &str);
    /// Some time has passed.
    fn tick(&mut self) {}
    /// The sweep ends.
    fn closing(&mut self) {}
}

/// Bars when stderr is a terminal, lines otherwise.
pub fn for_terminal() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Box::new(Bars::new())
    } else {
        Box::new(Lines::new(Box::new(std::io::stderr())))
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn opening(&mut self, _: &Opening) {}
    fn started(&mut self, _: &Task) {}
    fn event(&mut self, _: &Task, _: &Event) {}
    fn ended(&mut self, _: &Task, _: &End) {}
    fn note(&mut self, _: &str) {}
}

fn opening_line(opening: &Opening) -> String {
    let Opening { total, done, todo, resumable, failed, shared, elsewhere, jobs } = opening;
    let mut parts = vec![format!("{total} runs: {done} done"), format!("{todo} to do")];
    if *resumable > 0 {
        parts.push(format!("{resumable} to be resumed"));
    }
    if *elsewhere > 0 {
        parts.push(format!("at {elsewhere} of them other workers are"));
    }
    if *failed > 0 {
        parts.push(format!("{failed} failed before and kept (--retry tries them again)"));
    }
    if *shared > 0 {
        parts.push(format!("shared stages to compute: {shared}"));
    }
    if *todo > 0 {
        parts.push(format!("{jobs} at a time"));
    }
    parts.join(", ")
}

fn start_line(task: &Task) -> String {
    match task.from_step {
        Some(step) => format!("{}: goes on from step {step}", task.label),
        None => format!("{}: started", task.label),
    }
}

fn end_lines(task: &Task, end: &End) -> Vec<String> {
    let label = &task.label;
    match end {
        End::Finished => vec![format!("{label}: finished")],
        End::Already => vec![format!("{label}: another worker has done it")],
        End::Busy { holder } => vec![format!("{label}: {holder} is at it")],
        End::Paused { step: Some(step) } => vec![format!("{label}: paused, {step} steps are saved")],
        End::Paused { step: None } => vec![format!("{label}: stopped")],
        End::Failed { failure, log, tail } => {
            let mut lines = vec![format!("{label}: FAILED ({failure})")];
            if let Some(hint) = &failure.hint {
                lines.push(format!("  hint: {hint}"));
            }
            if !tail.is_empty() {
                lines.push(format!("  last lines of {}:", log.display()));
                lines.extend(tail.iter().map(|line| format!("    {line}")));
            }
            lines
        }
    }
}

/// One line per thing that happened, with the time since the start.
pub struct Lines {
    out: Box<dyn Write>,
    start: Instant,
    every: Duration,
    tasks: BTreeMap<String, Track>,
}

/// What the lines of one task need to know.
#[derive(Default)]
struct Track {
    phase: String,
    steps: u32,
    shown: Option<Instant>,
}

impl Lines {
    /// Lines to `out`.
    pub fn new(out: Box<dyn Write>) -> Self {
        Self { out, start: Instant::now(), every: Duration::from_secs(5), tasks: BTreeMap::new() }
    }

    fn say(&mut self, line: &str) {
        // Nobody may be listening any more; the work goes on.
        let _ = writeln!(self.out, "[{:>7.1} s] {line}", self.start.elapsed().as_secs_f64());
    }
}

impl Progress for Lines {
    fn opening(&mut self, opening: &Opening) {
        self.say(&opening_line(opening));
    }

    fn started(&mut self, task: &Task) {
        self.say(&start_line(task));
    }

    fn event(&mut self, task: &Task, event: &Event) {
        let every = self.every;
        let track = self.tasks.entry(task.id.clone()).or_default();
        match event {
            Event::Phase { name, steps } => {
                *track = Track { phase: name.clone(), steps: *steps, shown: Some(Instant::now()) };
            }
            Event::Progress { step, message } => {
                let last = *step == track.steps;
                if !last && track.shown.is_some_and(|shown| shown.elapsed() < every) {
                    return;
                }
                track.shown = Some(Instant::now());
                let line = format!("{}: {} {step}/{} {message}", task.label, track.phase, track.steps);
                self.say(line.trim_end());
            }
            Event::Note(note) => self.say(&format!("{}: {note}", task.label)),
            // The number is for the books.
            Event::Attempt { .. } => {}
        }
    }

    fn ended(&mut self, task: &Task, end: &End) {
        self.tasks.remove(&task.id);
        for line in end_lines(task, end) {
            self.say(&line);
        }
    }

    fn note(&mut self, line: &str) {
        self.say(line);
    }
}

/// A bar for the grid and one for each worker.
pub struct Bars {
    all: MultiProgress,
    grid: Option<ProgressBar>,
    tasks: BTreeMap<String, ProgressBar>,
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Bars {
    /// Bars on stderr.
    pub fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            grid: None,
            tasks: BTreeMap::new(),
        }
    }

    fn say(&self, line: &str) {
        let _ = self.all.println(line);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates below are well-formed, and a test makes each")
        .progress_chars("=> ")
}

const GRID: &str = "runs  [{bar:30}] {pos}/{len}  {elapsed}";
const WAITING: &str = "{prefix}  {spinner} {msg}";
const WORKING: &str = "{prefix}  [{bar:30}] {pos}/{len}  {eta} left  {msg}";

impl Progress for Bars {
    fn opening(&mut self, opening: &Opening) {
        self.say(&opening_line(opening));
        if opening.todo > 0 {
            let grid = self.all.add(ProgressBar::new(opening.total as u64).with_style(style(GRID)));
            grid.set_position(opening.done as u64);
            grid.enable_steady_tick(Duration::from_millis(500));
            self.grid = Some(grid);
        }
    }

    fn started(&mut self, task: &Task) {
        let bar = ProgressBar::new_spinner().with_style(style(WAITING)).with_prefix(task.label.clone());
        let bar = match &self.grid {
            Some(grid) => self.all.insert_before(grid, bar),
            None => self.all.add(bar),
        };
        bar.set_message(
            task.from_step.map_or_else(|| "starting".to_owned(), |step| format!("from step {step}")),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        self.tasks.insert(task.id.clone(), bar);
    }

    fn event(&mut self, task: &Task, event: &Event) {
        let Some(bar) = self.tasks.get(&task.id) else { return };
        match event {
            Event::Phase { name, steps } => {
                bar.set_style(style(if *steps == 0 { WAITING } else { WORKING }));
                bar.set_length(u64::from(*steps));
                bar.set_position(0);
                bar.reset_eta();
                bar.set_message(name.clone());
            }
            Event::Progress { step, message } => {
                // The first step after a resume is no measure of speed: the time left counts from it.
                if bar.position() == 0 && *step > 1 {
                    bar.set_position(u64::from(*step));
                    bar.reset_eta();
                } else {
                    bar.set_position(u64::from(*step));
                }
                bar.set_message(message.clone());
            }
            Event::Note(note) => self.say(&format!("{}: {note}", task.label)),
            // The number is for the books.
            Event::Attempt { .. } => {}
        }
    }

    fn ended(&mut self, task: &Task, end: &End) {
        if let Some(bar) = self.tasks.remove(&task.id) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        for line in end_lines(task, end) {
            self.say(&line);
        }
        if let (Some(grid), WorkStage::Run, End::Finished) = (&self.grid, task.stage, end) {
            grid.inc(1);
        }
    }

    fn note(&mut self, line: &str) {
        self.say(line);
    }

    fn closing(&mut self) {
        for (_, bar) in std::mem::take(&mut self.tasks) {
            bar.finish_and_clear();
        }
        if let Some(grid) = self.grid.take() {
            grid.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::super::{FailureClass, StageFailure};
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn task(from_step: Option<u32>) -> Task {
        Task { stage: WorkStage::Run, id: "0f".into(), label: "full".into(), run: 0, from_step }
    }

    fn events(ui: &mut dyn Progress) {
        let opening =
            Opening { total: 4, done: 1, todo: 2, resumable: 1, failed: 1, shared: 1, elsewhere: 0, jobs: 2 };
        ui.opening(&opening);
        let task = task(Some(3));
        ui.started(&task);
        ui.event(&task, &Event::Phase { name: "train".into(), steps: 9 });
        ui.event(&task, &Event::Progress { step: 4, message: "reward 0.1".into() });
        ui.event(&task, &Event::Progress { step: 9, message: "reward 0.2".into() });
        ui.event(&task, &Event::Note("a note".into()));
        ui.tick();
        let failure = StageFailure::new(FailureClass::Nan, "loss is NaN").at(5);
        ui.ended(&task, &End::Failed { failure, log: "log.txt".into(), tail: vec!["bang".into()] });
        ui.ended(&task, &End::Finished);
        ui.note("stopping");
        ui.closing();
    }

    #[test]
    fn lines_say_what_happened_and_skip_what_follows_too_soon() {
        let out = Shared::default();
        events(&mut Lines::new(Box::new(out.clone())));
        let text = String::from_utf8(out.0.borrow().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once("] ").unwrap().1).collect();
        assert_eq!(
            lines,
            [
                "4 runs: 1 done, 2 to do, 1 to be resumed, 1 failed before and kept (--retry tries them again), shared stages to compute: 1, 2 at a time",
                "full: goes on from step 3",
                "full: train 9/9 reward 0.2",
                "full: a note",
                "full: FAILED (nan at step 5: loss is NaN)",
                "  last lines of log.txt:",
                "    bang",
                "full: finished",
                "stopping",
            ]
        );
    }

    #[test]
    fn bars_take_every_event() {
        let mut bars = Bars::new();
        bars.all.set_draw_target(ProgressDrawTarget::hidden());
        events(&mut bars);
        for template in [GRID, WAITING, WORKING] {
            let _ = style(template);
        }
    }
}
