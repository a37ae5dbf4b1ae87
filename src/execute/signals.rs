//! Requests to stop: Ctrl-C, SIGTERM, and the parent's word.
//!
//! In: signals. Out: a level: 0 go on, 1 finish the step, save and end, 2 stop at once. The first SIGINT, SIGTERM or
//! SIGHUP raises it to 1 and the second to 2. SIGUSR1, which a sweep sends to its workers and which batch schedulers send
//! ahead of a time limit, raises it to 1 however often it comes: a Ctrl-C reaches a worker from the terminal as well
//! as from its parent, and the two must not count as two requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::exit::Code;

/// A second signal so soon after the first is the same request: some senders signal a process and then its group.
const SAME_REQUEST: Duration = Duration::from_millis(400);

/// The level of requests to stop.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    level: Arc<AtomicU8>,
    planned: Option<PlannedStop>,
}

/// An interruption at a step that is known beforehand, by which is tried out whether a run goes on as if nothing had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedStop {
    /// What happens.
    pub how: StopHow,
    /// Complete steps at which it happens.
    pub after: u32,
}

/// How a worker is interrupted as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    /// SIGKILL: nothing more is written.
    Killed,
    /// As by a first Ctrl-C: the worker saves and ends.
    Paused,
}

impl StopHow {
    /// As in "killed after step 3".
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Paused => "paused",
        }
    }
}

impl Requests {
    /// Requests that come from [`Self::raise`] alone.
    pub fn none() -> Self {
        Self::default()
    }

    /// Requests by signals, from now on and for the rest of the process. With `ends_at_once` the second request ends the
    /// process on the spot, whatever it is doing; what it had saved stays valid.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn from_signals(ends_at_once: bool) -> io::Result<Self> {
        let requests = Self::default();
        let shared = requests.clone();
        // `nohup` has SIGHUP ignored, and that is meant. SIGINT is ignored in whatever a script starts in the background, which
        // nobody means who sends it.
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup))?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first = None;
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    shared.raise(1);
                    continue;
                }
                match first {
                    None => {
                        first = Some(Instant::now());
                        shared.raise(1);
                    }
                    Some(at) if at.elapsed() < SAME_REQUEST => {}
                    Some(_) => {
                        shared.raise(2);
                        if ends_at_once {
                            signal_hook::low_level::exit(i32::from(Code::Interrupted as u8));
                        }
                    }
                }
            }
        })?;
        Ok(requests)
    }

    /// Raises the level to at least this one.
    pub fn raise(&self, level: u8) {
        self.level.fetch_max(level, Ordering::SeqCst);
    }

    /// The same, and an interruption when [`Self::passed`] is told its step.
    #[must_use]
    pub fn planned(self, planned: Option<PlannedStop>) -> Self {
        Self { planned, ..self }
    }

    /// Carries out what is planned for this number of complete steps.
    pub(super) fn passed(&self, step: u32) {
        match self.planned.filter(|planned| planned.after == step).map(|planned| planned.how) {
            Some(StopHow::Killed) => kill(std::process::id()),
            Some(StopHow::Paused) => self.raise(1),
            None => {}
        }
    }

    /// 0: go on; 1: finish the step, save and end; 2: stop at once.
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::SeqCst)
    }
}

/// Whether this process was started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = crate::store::fs::read(std::path::Path::new("/proc/self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let mask =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Asks a worker to finish its step, save and end.
pub fn ask_to_stop(pid: u32) {
    send(pid, Signal::USR1);
}

/// Ends a worker at once.
pub fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A worker that has ended meanwhile needs no signal.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Makes this process end with its parent, even when the parent is killed and cannot say good-bye. `false` when the
/// parent has ended already. The kernel watches the parent's thread that started this process, so a sweep must start its
/// workers from a thread that lives as long as itself.
pub fn end_with_parent(parent: u32) -> bool {
    let watched = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let current = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    !watched || current.and_then(|pid| u32::try_from(pid).ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_never_sinks() {
        let requests = Requests::none();
        assert_eq!(requests.level(), 0);
        requests.raise(2);
        requests.raise(1);
        assert_eq!(requests.clone().level(), 2);
    }

    #[test]
    fn a_planned_pause_is_a_request_at_its_step_and_at_no_other() {
        let planned = PlannedStop { how: StopHow::Paused, after: 3 };
        let requests = Requests::none().planned(Some(planned));
        for (step, level) in [(2, 0), (3, 1), (4, 1)] {
            requests.passed(step);
            assert_eq!(requests.level(), level, "after step {step}");
        }
    }
}
