//! Leases: who works on what, so that several workers share a store without doing things twice.
//!
//! In: the name of a task, as in `run-0f3c...`. Out: a lease, or who holds it. A lease is a file
//! `leases/<task>.<generation>` that is created once, by whoever is first, and names its holder; the holder renews it by
//! touching it. Who finds it abandoned creates the next generation and removes the older ones. A holder whose file is
//! gone, or that has a successor, has lost it.
//!
//! When that is, [`super::Observer`] says.
//!
//! Leases save work. No result depends on them: an attempt writes only inside its own folder and the first result wins.
//! Source: restic's locks, for the holder that stops itself when it cannot renew.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::layout::{Stage, check_name};
use super::observer::{Observer, Sighting, Standing};
use super::process::{Life, Process};
use super::{Home, Store, StoreError, fs, record};

/// How long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A lease that was not renewed for so long is abandoned.
    pub lasts: Duration,
}

impl Terms {
    /// Leases that last so many seconds; `None` for 0: no leases are taken.
    pub fn of_seconds(seconds: u32) -> Option<Self> {
        (seconds > 0).then(|| Self { lasts: Duration::from_secs(u64::from(seconds)) })
    }

    /// How often the holder renews it.
    pub fn beat(self) -> Duration {
        self.lasts / 10
    }

    /// When a holder that could not renew it stops: long before anyone may take over.
    pub fn stops_after(self) -> Duration {
        self.lasts * 3 / 5
    }
}

/// What a lease says, seen by anyone.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The task, as in `run-0f3c...`.
    pub task: String,
    /// The generation: the number of holders of this task so far.
    pub generation: u64,
    /// The holder; unknown when the record is damaged.
    pub holder: Option<Process>,
    /// What the holder does.
    pub purpose: String,
    /// What it promised.
    pub terms: Terms,
    /// Of a sweep: the tasks that it has before it.
    pub needs: Vec<String>,
    /// When it was last renewed, by the clock of the store's file system.
    pub renewed: SystemTime,
    pub(super) path: PathBuf,
}

/// What came of asking for a lease.
#[derive(Debug)]
pub enum Asked {
    /// It is ours until it is dropped.
    Granted(Lease),
    /// Another holds it.
    Taken(Box<Claim>),
}

/// A lease that is held; released when dropped.
pub struct Lease {
    home: Home,
    task: String,
    generation: u64,
    path: PathBuf,
    text: String,
    terms: Terms,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Lease").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What the names of sweeps begin with, among those of tasks.
const SWEEP: &str = "sweep";

/// The name of the task that executes a run.
pub fn run_task(run: &str) -> String {
    format!("run-{run}")
}

/// The name of the task that makes a shared artifact.
pub fn stage_task(stage: Stage, id: &str) -> String {
    format!("{}-{id}", stage.name())
}

impl Store {
    /// The newest claim of every task, by task.
    ///
    /// # Errors
    /// When the folder cannot be read, or a lease has a newer format.
    pub fn claims(&self) -> Result<BTreeMap<String, Claim>, StoreError> {
        let mut claims = BTreeMap::new();
        for (task, generation) in self.generations()? {
            // One that is gone by now was released.
            if let Some(claim) = self.load_claim(&task, generation)? {
                claims.insert(task, claim);
            }
        }
        Ok(claims)
    }

    /// The newest generation of every task's leases.
    pub(super) fn generations(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for name in fs::list(&self.home.layout.leases())? {
            if let Some((task, generation)) = parse_name(&name) {
                let known = newest.entry(task.to_owned()).or_insert(generation);
                *known = generation.max(*known);
            }
        }
        Ok(newest)
    }

    /// The newest claim of a task.
    ///
    /// # Errors
    /// As [`Self::claims`].
    pub fn claim(&self, task: &str) -> Result<Option<Claim>, StoreError> {
        match generations(&self.home, task)?.last() {
            Some(generation) => self.load_claim(task, *generation),
            None => Ok(None),
        }
    }

    pub(super) fn load_claim(&self, task: &str, generation: u64) -> Result<Option<Claim>, StoreError> {
        let path = self.home.layout.lease(task, generation);
        let (Some(bytes), Some(renewed)) = (fs::read_optional(&path)?, fs::modified(&path)?) else {
            return Ok(None);
        };
        let known = match record::unseal(&bytes, &path) {
            Ok(record) => Some(record),
            // It appeared whole, so nobody alive wrote it like this.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let seconds = known.as_ref().and_then(|record| record.get("lasts_seconds")?.as_f64());
        let purpose = known.as_ref().and_then(|record| Some(record.get("purpose")?.as_str()?.to_owned()));
        let needs = known.as_ref().and_then(|record| record.get("needs")?.as_array().cloned());
        let needs = needs.into_iter().flatten().filter_map(|task| Some(task.as_str()?.to_owned())).collect();
        Ok(Some(Claim {
            task: task.to_owned(),
            needs,
            generation,
            holder: known.as_ref().map(Process::from_map),
            purpose: purpose.unwrap_or_default(),
            terms: Terms { lasts: Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default() },
            renewed,
            path,
        }))
    }

    /// Asks for the lease of a task, at once or not at all.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn lease(
        &self,
        task: &str,
        purpose: &str,
        terms: Terms,
        observer: &mut Observer,
    ) -> Result<Asked, StoreError> {
        self.home.writable()?;
        let layout = &self.home.layout;
        fs::create_folders(&layout.leases())?;
        loop {
            let newest = generations(&self.home, check_name(task)?)?.last().copied();
            let before = newest.map(|generation| self.load_claim(task, generation)).transpose()?.flatten();
            if let Some(claim) = before {
                match observer.judge(&claim)? {
                    Standing::Held => return Ok(Asked::Taken(Box::new(claim))),
                    standing => self.home.notice(&taken_over(&claim, standing)),
                }
            }
            let generation = newest.unwrap_or(0) + 1;
            let lease = Lease {
                home: self.home.clone(),
                task: task.to_owned(),
                generation,
                path: layout.lease(task, generation),
                text: text(task, purpose, terms, &[]),
                terms,
            };
            if !fs::publish_file(&lease.path, lease.text.as_bytes())? {
                continue; // another was first: look who
            }
            // Generations go up while any is there; a lower one that appears beside a higher came too late.
            let others = generations(&self.home, task)?;
            if others.last().is_some_and(|newest| *newest > generation) {
                lease.release()?;
                continue;
            }
            for older in others.into_iter().filter(|other| *other < generation) {
                fs::remove_file(&layout.lease(task, older))?;
            }
            return Ok(Asked::Granted(lease));
        }
    }
}

impl Store {
    /// Announces that somebody has these tasks before it, so that nobody tidies away what they will need. It keeps nobody from
    /// doing them.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn announce(&self, purpose: &str, terms: Terms, needs: &[String]) -> Result<Lease, StoreError> {
        self.home.writable()?;
        fs::create_folders(&self.home.layout.leases())?;
        loop {
            let task = format!("{SWEEP}-{:016x}", random());
            let (path, text) = (self.home.layout.lease(&task, 1), text(&task, purpose, terms, needs));
            if fs::publish_file(&path, text.as_bytes())? {
                return Ok(Lease { home: self.home.clone(), task, generation: 1, path, text, terms });
            }
        }
    }
}

impl Claim {
    /// Whether it is that of a sweep, which holds no task itself.
    pub fn is_sweep(&self) -> bool {
        self.task.starts_with(SWEEP)
    }

    /// How long ago it was renewed as of `now`, a time of the same clock; zero when the clock was set back.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.renewed).unwrap_or_default()
    }

    /// What is seen of it now.
    pub fn sighting(&self) -> Sighting {
        let renewed = self.renewed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Sighting { generation: self.generation, renewed }
    }

    /// Who holds it, for a reader: process and host.
    pub fn whose(&self) -> String {
        match &self.holder {
            Some(holder) => format!("process {} on {}", holder.pid, holder.host),
            None => "an unknown process".to_owned(),
        }
    }

    /// What can be said at one glance, without having watched it: for tables, not for taking over.
    pub fn glance(&self, now: SystemTime) -> Standing {
        match self.holder.as_ref().map(|holder| holder.life(Process::this())) {
            None | Some(Life::Dead) => Standing::Dead,
            Some(_) if self.age(now) > self.terms.lasts => Standing::Expired,
            Some(_) => Standing::Held,
        }
    }
}

impl Lease {
    /// What was promised.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Renews it; `false` when it is lost: another has taken it over.
    ///
    /// # Errors
    /// When the store cannot be reached: whether it is still ours is not known then.
    pub fn renew(&self) -> Result<bool, StoreError> {
        match fs::read_optional(&self.path)? {
            Some(bytes) if bytes == self.text.as_bytes() => {}
            _ => return Ok(false),
        }
        if generations(&self.home, &self.task)?.last().is_some_and(|newest| *newest > self.generation) {
            return Ok(false);
        }
        fs::touch(&self.path)?;
        Ok(true)
    }

    /// Gives it back; what is no longer ours is left alone.
    fn release(&self) -> Result<(), StoreError> {
        match fs::read_optional(&self.path)? {
            Some(bytes) if bytes == self.text.as_bytes() => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that stays is found to be abandoned, because this process ends.
        let _ = self.release();
    }
}

/// A number that nobody else has.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The record: the holder, and a number that no other record has.
fn text(task: &str, purpose: &str, terms: Terms, needs: &[String]) -> String {
    let mut record = Process::this().to_map();
    record.insert("task".to_owned(), task.into());
    record.insert("purpose".to_owned(), purpose.into());
    record.insert("lasts_seconds".to_owned(), json!(terms.lasts.as_secs_f64()));
    record.insert("nonce".to_owned(), Value::String(format!("{:016x}{:016x}", random(), random())));
    if !needs.is_empty() {
        record.insert("needs".to_owned(), json!(needs));
    }
    record::seal(record)
}

fn taken_over(claim: &Claim, standing: Standing) -> String {
    let what = match standing {
        Standing::Dead => "ended without giving it back",
        Standing::Expired | Standing::Held => "gave no sign of life",
    };
    let short = claim.task.get(..claim.task.len().min(16)).unwrap_or(&claim.task);
    format!("{} ({}) held {short} and {what}: taken over", claim.whose(), claim.purpose)
}

/// The generations of a task that are there, ascending.
fn generations(home: &Home, task: &str) -> Result<Vec<u64>, StoreError> {
    let names = fs::list(&home.layout.leases())?;
    let mut found = names
        .iter()
        .filter_map(|name| parse_name(name))
        .filter_map(|(named, generation)| (named == task).then_some(generation))
        .collect::<Vec<_>>();
    found.sort_unstable();
    Ok(found)
}

/// A lease file's task and generation, as in `run-0f3c.1`; `None` for a name that is not that of a lease.
pub(super) fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (task, generation) = name.rsplit_once('.')?;
    let (kind, id) = task.split_once('-')?;
    let known = kind == "run" || kind == SWEEP || Stage::ALL.iter().any(|stage| stage.name() == kind);
    if !known || id.is_empty() {
        return None;
    }
    Some((check_name(task).ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_leases_are_told_from_other_names() {
        assert_eq!(parse_name("run-0f3c.1"), Some(("run-0f3c", 1)));
        assert_eq!(parse_name("scores-a.b.12"), Some(("scores-a.b", 12)));
        for other in ["run-0f3c", "run-.1", "run-0f.x", ".tmp-3-1", "run.1", "run-a/b.1"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
