//! The lock: one sweep per results folder.
//!
//! In: what the holder is about to do. Out: a guard, or who holds the lock. The record names the holder by host, machine,
//! boot, process id, process start time and pid namespace, so that a holder that died on this host is known to be dead
//! at once and is taken over. Two that would take over at the same moment are kept apart by a file lock that is held only
//! while the record is examined and changed. The lock saves work; no result depends on it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::layout::Layout;
use super::{Home, Store, StoreError, fs, record};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// When the process started, in the kernel's clock ticks since boot.
    pub start_time: u64,
    /// The kernel's id of this boot.
    pub boot: String,
    /// The machine's id, where there is one.
    pub machine: String,
    /// The pid namespace: ids of another one mean nothing here.
    pub namespace: String,
    /// Host name.
    pub host: String,
    /// What the holder does.
    pub purpose: String,
    /// When it began, in seconds since 1970; for messages only.
    pub began: u64,
}

/// What can be said about a holder from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    Dead,
    Unknown,
}

impl Holder {
    /// This process.
    fn this(purpose: &str) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start_time: start_time(pid).unwrap_or(0),
            boot: line("/proc/sys/kernel/random/boot_id"),
            machine: line("/etc/machine-id"),
            namespace: fs::link_target(Path::new("/proc/self/ns/pid")).unwrap_or_default(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            purpose: purpose.to_owned(),
            began: now(),
        }
    }

    fn to_text(&self) -> String {
        let Self { pid, start_time, boot, machine, namespace, host, purpose, began } = self;
        let record = json!({
            "pid": pid, "start_time": start_time, "boot": boot, "machine": machine, "namespace": namespace,
            "host": host, "purpose": purpose, "began": began,
        });
        match record {
            Value::Object(record) => record::seal(record),
            _ => unreachable!("the value above is an object"),
        }
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, StoreError> {
        let record: Map<String, Value> = record::unseal(bytes, path)?;
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| record.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok(Self {
            pid: u32::try_from(number("pid")).unwrap_or(0),
            start_time: number("start_time"),
            boot: text("boot"),
            machine: text("machine"),
            namespace: text("namespace"),
            host: text("host"),
            purpose: text("purpose"),
            began: number("began"),
        })
    }

    /// Whether this holder still lives, as seen by `observer`.
    fn life(&self, observer: &Self) -> Life {
        if self.host != observer.host || self.machine != observer.machine {
            return Life::Unknown;
        }
        if self.boot != observer.boot {
            return Life::Dead; // the same host was started again since
        }
        if self.namespace != observer.namespace {
            return Life::Unknown;
        }
        match start_time(self.pid) {
            Some(start) if start == self.start_time => Life::Alive,
            _ => Life::Dead,
        }
    }

    fn age(&self) -> String {
        let seconds = now().saturating_sub(self.began);
        match seconds {
            0..=119 => format!("for {seconds} s"),
            120..=7199 => format!("for {} min", seconds / 60),
            _ => format!("for {} h", seconds / 3600),
        }
    }
}

/// Held while a sweep works in a results folder; released when dropped.
pub struct Lock {
    home: Home,
    text: String,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Lock").field("path", &self.home.layout.lock()).finish_non_exhaustive()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let layout = &self.home.layout;
        let _ = guarded(layout, || match fs::read_optional(&layout.lock())? {
            Some(bytes) if bytes == self.text.as_bytes() => fs::remove_file(&layout.lock()),
            _ => Ok(()),
        });
    }
}

impl Store {
    /// Takes the lock of the results folder, at once or not at all. A holder that died on this host is taken over, and
    /// what killed processes left half-written is removed.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it.
    pub fn lock(&self, purpose: &str) -> Result<Lock, StoreError> {
        self.home.writable()?;
        let layout = &self.home.layout;
        let this = Holder::this(purpose);
        let text = this.to_text();
        guarded(layout, || {
            if let Some(bytes) = fs::read_optional(&layout.lock())? {
                match Holder::parse(&bytes, &layout.lock()) {
                    Ok(holder) => match holder.life(&this) {
                        Life::Dead => {
                            let Holder { pid, purpose, .. } = &holder;
                            self.home.notice(&format!(
                                "process {pid} ({purpose}) ended without releasing the lock: taken over"
                            ));
                        }
                        life => {
                            return Err(StoreError::Locked {
                                path: layout.results().to_path_buf(),
                                pid: holder.pid,
                                since: holder.age(),
                                host: holder.host,
                                purpose: holder.purpose,
                                foreign: life == Life::Unknown,
                            });
                        }
                    },
                    // The record is written atomically under the guard: damage means that nobody alive wrote it last.
                    Err(StoreError::Damaged { .. }) => {
                        self.home.notice("the lock's record is damaged: taken over");
                    }
                    Err(error) => return Err(error),
                }
            }
            fs::replace(&layout.lock(), text.as_bytes())
        })?;
        self.remove_leftovers();
        Ok(Lock { home: self.home.clone(), text })
    }

    /// Who holds the lock, dead or alive.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn holder(&self) -> Result<Option<Holder>, StoreError> {
        let path = self.home.layout.lock();
        fs::read_optional(&path)?.map(|bytes| Holder::parse(&bytes, &path)).transpose()
    }

    /// Removes temporary files and folders of processes that were killed. Only the holder of the lock may, because they
    /// could be those of a process at work. What cannot be removed is left for the next time: a worker whose sweep was
    /// killed may still be ending.
    fn remove_leftovers(&self) {
        for entry in
            walkdir::WalkDir::new(self.home.layout.root()).max_depth(6).into_iter().filter_map(Result::ok)
        {
            if entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with(fs::TEMPORARY) {
                let _ = fs::remove_leftover(entry.path());
            }
        }
    }
}

/// Runs `action` while holding the guard file.
fn guarded<T>(layout: &Layout, action: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let path = layout.lock_guard();
    let guard = fs::open_guard(&path)?;
    // File locks are missing on some network file systems; the guard only narrows a race, so it does without there.
    match guard.lock() {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {}
        Err(e) => return Err(StoreError::io("lock", &path, e)),
    }
    action()
}

/// When a process started, in clock ticks since boot; `None` when it has ended, even if nobody has waited for it yet.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn line(path: &str) -> String {
    fs::read(Path::new(path))
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_the_dead_and_the_distant_are_told_apart() {
        let this = Holder::this("test");
        assert!(this.start_time > 0);
        assert_eq!(this.life(&this), Life::Alive);
        let reused = Holder { start_time: this.start_time + 1, ..this.clone() };
        assert_eq!(reused.life(&this), Life::Dead, "the id belongs to another process now");
        let gone = Holder { pid: u32::MAX, ..this.clone() };
        assert_eq!(gone.life(&this), Life::Dead);
        let earlier = Holder { boot: "other".into(), ..this.clone() };
        assert_eq!(earlier.life(&this), Life::Dead);
        let elsewhere = Holder { host: "other".into(), ..this.clone() };
        assert_eq!(elsewhere.life(&this), Life::Unknown);
        let namesake = Holder { machine: "other".into(), ..this.clone() };
        assert_eq!(namesake.life(&this), Life::Unknown);
        let contained = Holder { namespace: "pid:[1]".into(), ..this.clone() };
        assert_eq!(contained.life(&this), Life::Unknown);
    }

    #[test]
    fn a_record_reads_back() {
        let this = Holder::this("sweep of x");
        assert_eq!(Holder::parse(this.to_text().as_bytes(), Path::new("lock.json")).unwrap(), this);
    }
}
