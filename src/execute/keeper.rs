//! Keeps a lease while a stage is at work, and ends the stage when the lease cannot be kept.
//!
//! In: a lease and the process's requests to stop. Out: renewals, from a thread of its own. A holder that cannot renew
//! its lease (the file system is gone, the process was frozen) finishes its step, saves and ends before anyone else may
//! take over; one that finds a successor, or has no time left, ends at once. What it wrote meanwhile lies in the folder of
//! its own attempt, where it harms nobody.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::event::{Event, Message, Wire};
use super::signals::Requests;
use crate::exit::Code;
use crate::store::{Lease, Terms};

/// A lease that is being renewed; given back when dropped.
pub(super) struct Keeper {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Renews `lease` until dropped.
    pub fn new(lease: Lease, wire: &Wire, requests: &Requests) -> std::io::Result<Self> {
        let (done, over) = mpsc::channel::<()>();
        let (wire, requests) = (wire.clone(), requests.clone());
        let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            let terms = lease.terms();
            let mut renewed = Instant::now();
            loop {
                match over.recv_timeout(terms.beat()) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                let word = match lease.renew() {
                    Ok(true) => {
                        renewed = Instant::now();
                        continue;
                    }
                    Ok(false) => Word::End("another worker has taken it over".to_owned()),
                    Err(error) => verdict(renewed.elapsed(), terms, &error.to_string()),
                };
                match word {
                    Word::GoOn => {}
                    Word::Stop(why) => {
                        if requests.level() == 0 {
                            say(
                                &wire,
                                &format!("cannot renew its lease ({why}): finishes its step and stops"),
                            );
                        }
                        requests.raise(1);
                    }
                    Word::End(why) => {
                        say(&wire, &format!("lost its lease and ends: {why}"));
                        wire.send(&Message::Lost);
                        signal_hook::low_level::exit(i32::from(Code::Interrupted as u8));
                    }
                }
            }
        })?;
        Ok(Self { done: Some(done), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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
