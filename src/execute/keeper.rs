//! Keeps a lease while a stage is at work, and ends the stage when the lease cannot be kept.
//!
//! In: a lease and the process's requests to stop. Out: renewals, from a thread of its own. A holder that cannot renew
//! its lease (the file system is gone, the process was frozen) finishes its step, saves and ends before anyone else may
//! take over; one that finds a successor, or has no time left, ends at once. What it wrote meanwhile lies in the folder of
//! its own attempt, where it harms nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::event::{Event, Message, Wire};
use super::signals::Requests;
use crate::exit::Code;
use crate::store::{Lease, StoreError, Terms};

/// A lease that is being renewed; given back when dropped.
pub(super) struct Keeper {
    /// Their ends tell the threads to end.
    over: [Option<Sender<()>>; 2],
    gave_up: Arc<AtomicBool>,
    /// Hears that the lease was given back.
    returned: mpsc::Receiver<()>,
}

/// What came of the renewals.
struct Renewals {
    last: Instant,
    lost: bool,
    trouble: String,
}

impl Keeper {
    /// Renews `lease` until dropped. One thread renews, another watches it: on a file system that hangs a renewal may never
    /// return.
    pub fn new(lease: Lease, wire: &Wire, requests: &Requests) -> std::io::Result<Self> {
        let terms = lease.terms();
        let start = Renewals { last: Instant::now(), lost: false, trouble: "it does not answer".to_owned() };
        let renewals = Arc::new(Mutex::new(start));
        let gave_up = Arc::new(AtomicBool::new(false));
        let (renewing, over) = mpsc::channel::<()>();
        let (given_back, returned) = mpsc::channel();
        let shared = renewals.clone();
        std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            while goes_on(&over, terms.beat()) && note(&shared, lease.renew()) {}
            drop(lease);
            let _ = given_back.send(());
        })?;
        let (watching, over) = mpsc::channel::<()>();
        let watch = Watch {
            terms,
            renewals,
            gave_up: gave_up.clone(),
            wire: wire.clone(),
            requests: requests.clone(),
        };
        std::thread::Builder::new().name("lease watch".to_owned()).spawn(move || {
            while goes_on(&over, terms.beat() / 2) {
                watch.look();
            }
        })?;
        Ok(Self { over: [Some(renewing), Some(watching)], gave_up, returned })
    }

    /// Whether the worker was told to stop because its lease cannot be kept.
    pub fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::SeqCst)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.over.iter_mut().for_each(|over| drop(over.take()));
        // A file system that hangs must not keep the process: the lease is then found abandoned.
        let _ = self.returned.recv_timeout(Duration::from_secs(5));
    }
}

/// Waits for the next beat; `false` when it is over.
fn goes_on(over: &mpsc::Receiver<()>, beat: Duration) -> bool {
    matches!(over.recv_timeout(beat), Err(RecvTimeoutError::Timeout))
}

/// Notes what came of a renewal; `false` when the lease is lost.
fn note(renewals: &Mutex<Renewals>, renewed: Result<bool, StoreError>) -> bool {
    let mut renewals = renewals.lock().unwrap_or_else(PoisonError::into_inner);
    match renewed {
        Ok(true) => renewals.last = Instant::now(),
        Ok(false) => renewals.lost = true,
        Err(error) => renewals.trouble = error.to_string(),
    }
    !renewals.lost
}

/// Watches the renewals.
struct Watch {
    terms: Terms,
    renewals: Arc<Mutex<Renewals>>,
    gave_up: Arc<AtomicBool>,
    wire: Wire,
    requests: Requests,
}

impl Watch {
    fn look(&self) {
        let word = {
            let renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
            if renewals.lost {
                Word::End("another worker has taken it over".to_owned())
            } else {
                verdict(renewals.last.elapsed(), self.terms, &renewals.trouble)
            }
        };
        match word {
            Word::GoOn => {}
            Word::Stop(why) => {
                if !self.gave_up.swap(true, Ordering::SeqCst) {
                    say(&self.wire, &format!("cannot renew its lease ({why}): finishes its step and stops"));
                }
                self.requests.raise(1);
            }
            Word::End(why) => {
                say(&self.wire, &format!("lost its lease and ends: {why}"));
                self.wire.send(&Message::Lost);
                signal_hook::low_level::exit(i32::from(Code::Interrupted as u8));
            }
        }
    }
}

fn say(wire: &Wire, text: &str) {
    wire.send(&Message::Event(Event::Note(text.to_owned())));
}

/// What a holder does that could not renew its lease.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    GoOn,
    Stop(String),
    End(String),
}

fn verdict(since_renewed: Duration, terms: Terms, error: &str) -> Word {
    if since_renewed + terms.beat() >= terms.lasts {
        Word::End(error.to_owned())
    } else if since_renewed >= terms.stops_after() {
        Word::Stop(error.to_owned())
    } else {
        Word::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_cannot_renew_stops_and_then_ends_before_the_lease_does() {
        let terms = Terms { lasts: Duration::from_mins(5) };
        let after = |seconds| verdict(Duration::from_secs(seconds), terms, "gone");
        assert_eq!(after(179), Word::GoOn);
        assert_eq!(after(180), Word::Stop("gone".into()));
        assert_eq!(after(269), Word::Stop("gone".into()));
        assert_eq!(after(270), Word::End("gone".into()));
    }
}
