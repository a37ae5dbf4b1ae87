//! Watching leases: which of them are abandoned.
//!
//! In: claims, looked at again and again. Out: whether each is still held. A lease is abandoned at once when its holder was
//! a process of this host that ended. Else by time, and the local clock is never asked: the age is the difference of two
//! times of the file system that the store is on, and an age alone does not count unless this observer saw no renewal for
//! two beats of its own monotonic clock, so that a clock that was set forward takes nothing away. One that was set back
//! only delays: what did not change for the whole term, by the observer's monotonic clock, is abandoned too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::lease::{Claim, Terms};
use super::process::{Life, Process};
use super::{Store, StoreError, fs};

/// One state of a lease: a generation, at one of its renewals. An observer that has watched it long enough to know that it
/// is abandoned hands this on to the worker that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub(super) generation: u64,
    /// Since 1970, by the clock of the store's file system.
    pub(super) renewed: Duration,
}

impl std::fmt::Display for Sighting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.generation, self.renewed.as_nanos())
    }
}

impl std::str::FromStr for Sighting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').ok_or("not GENERATION:NANOSECONDS")?;
        let nanoseconds: u64 = parts.1.parse().map_err(|_| "not a number of nanoseconds")?;
        let generation = parts.0.parse().map_err(|_| "not a generation")?;
        Ok(Self { generation, renewed: Duration::from_nanos(nanoseconds) })
    }
}

/// What an observer makes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its holder is at work.
    Held,
    /// Its holder ended without releasing it.
    Dead,
    /// It was not renewed in time.
    Expired,
}

/// Watches claims over time, and so tells renewed from abandoned ones.
#[derive(Debug)]
pub struct Observer {
    /// Of each lease file: the time of its last renewal, and since when this has not changed.
    seen: BTreeMap<PathBuf, (SystemTime, Instant)>,
    /// What another observer has found abandoned.
    told: Option<Sighting>,
    folder: PathBuf,
    clock: PathBuf,
}

impl Store {
    /// Begins to watch claims.
    ///
    /// # Errors
    /// When the store cannot be written: the time of its file system is read off a file.
    pub fn observer(&self) -> Result<Observer, StoreError> {
        self.home.writable()?;
        fs::create_folders(&self.home.layout.leases())?;
        let folder = self.home.layout.leases();
        let clock = fs::temporary_file(&folder)?;
        Ok(Observer { seen: BTreeMap::new(), told: None, folder, clock })
    }
}

impl Observer {
    /// Takes over what another observer has seen: a lease that is still in this state is abandoned.
    pub fn believe(&mut self, abandoned: Option<Sighting>) {
        self.told = abandoned;
    }

    /// Whether a claim still counts.
    ///
    /// # Errors
    /// When the time of the store's file system cannot be read.
    pub fn judge(&mut self, claim: &Claim) -> Result<Standing, StoreError> {
        let observed = Instant::now();
        let entry = self.seen.entry(claim.path.clone()).or_insert((claim.renewed, observed));
        if entry.0 != claim.renewed {
            *entry = (claim.renewed, observed);
        }
        let unchanged = observed.duration_since(entry.1);
        match claim.holder.as_ref().map(|holder| holder.life(Process::this())) {
            None | Some(Life::Dead) => return Ok(Standing::Dead),
            Some(_) if self.told == Some(claim.sighting()) => return Ok(Standing::Expired),
            Some(_) => {}
        }
        Ok(if is_expired(claim.age(self.now()?), unchanged, claim.terms) {
            Standing::Expired
        } else {
            Standing::Held
        })
    }

    /// The time by the clock of the store's file system.
    fn now(&mut self) -> Result<SystemTime, StoreError> {
        match fs::touch(&self.clock) {
            // Whoever tidied up took it for a leftover.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.clock = fs::temporary_file(&self.folder)?;
            }
            touched => touched?,
        }
        Ok(fs::modified(&self.clock)?.unwrap_or_else(SystemTime::now))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.clock);
    }
}

/// Whether a lease of this age is abandoned, when this observer has seen no renewal for so long.
fn is_expired(age: Duration, unchanged: Duration, terms: Terms) -> bool {
    let old = age > terms.lasts && unchanged >= terms.beat() * 2;
    old || unchanged > terms.lasts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_clock_set_forward_nor_one_set_back_decides_alone() {
        let terms = Terms::of_seconds(300).unwrap();
        let s = Duration::from_secs;
        assert_eq!((terms.beat(), terms.stops_after()), (s(30), s(180)));
        assert_eq!(Terms::of_seconds(0), None);
        // Just renewed, and just looked at.
        assert!(!is_expired(s(0), s(0), terms));
        // An hour old at the first look: the clock may have jumped, so two beats are awaited.
        assert!(!is_expired(s(3600), s(0), terms));
        assert!(!is_expired(s(3600), s(59), terms));
        assert!(is_expired(s(3600), s(60), terms));
        // Watched for long, but young by the clock: it was set back, or the renewals come as they should.
        assert!(!is_expired(s(0), s(300), terms));
        assert!(is_expired(s(0), s(301), terms));
        // A holder stops itself before anyone may follow.
        assert!(terms.stops_after() + terms.beat() < terms.lasts);
    }
}
