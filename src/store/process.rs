//! Which process: how one is named in a record so that others can tell whether it still lives.
//!
//! In: `/proc`. Out: host, machine, boot, pid namespace, process id and start time. A process that ended on this host is
//! known to be dead at once; of one on another host nothing can be said. The kernel gives process ids out again, so the
//! start time belongs to the name.

use std::path::Path;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Map, Value, json};

use super::{fs, record};

/// A process, by everything that tells it from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub start_time: u64,
    /// The kernel's id of this boot.
    pub boot: String,
    /// The machine's id, where there is one.
    pub machine: String,
    /// The pid namespace: ids of another one mean nothing here.
    pub namespace: String,
    /// Host name.
    pub host: String,
}

/// What can be said about a process from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs on this host.
    Alive,
    /// It ended, or its host was started again since.
    Dead,
    /// It belongs to another host or container.
    Unknown,
}

impl Process {
    /// This process.
    pub fn this() -> &'static Self {
        static THIS: OnceLock<Process> = OnceLock::new();
        THIS.get_or_init(|| {
            let pid = std::process::id();
            Self {
                pid,
                start_time: start_time(pid).unwrap_or(0),
                boot: line("/proc/sys/kernel/random/boot_id"),
                machine: line("/etc/machine-id"),
                namespace: fs::link_target(Path::new("/proc/self/ns/pid")).unwrap_or_default(),
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            }
        })
    }

    /// As part of a record.
    pub(super) fn to_map(&self) -> Map<String, Value> {
        let Self { pid, start_time, boot, machine, namespace, host } = self;
        let record = json!({
            "pid": pid, "start_time": start_time, "boot": boot, "machine": machine, "namespace": namespace, "host": host,
        });
        match record {
            Value::Object(record) => record,
            _ => Map::new(),
        }
    }

    /// From a record; what it lacks is empty, and an empty name is that of no process here.
    pub(super) fn from_map(record: &Map<String, Value>) -> Self {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| record.get(key).and_then(Value::as_u64).unwrap_or(0);
        Self {
            pid: u32::try_from(number("pid")).unwrap_or(0),
            start_time: number("start_time"),
            boot: text("boot"),
            machine: text("machine"),
            namespace: text("namespace"),
            host: text("host"),
        }
    }

    /// Whether this process still lives, as seen by `observer`.
    pub fn life(&self, observer: &Self) -> Life {
        if self.host != observer.host || self.machine != observer.machine {
            return Life::Unknown;
        }
        if self.boot != observer.boot {
            // The same host was started again since; without a machine's id it may be another of the same name.
            return if self.machine.is_empty() { Life::Unknown } else { Life::Dead };
        }
        if self.namespace != observer.namespace {
            return Life::Unknown;
        }
        life_of(self.pid, self.start_time)
    }

    /// The part of temporary names that says who made them: host, boot and namespace in short, process id, start time.
    pub(super) fn tag(&self) -> String {
        let short = |text: &str| record::digest(text.as_bytes())[..8].to_owned();
        let place = short(&format!("{}\n{}", self.host, self.machine));
        format!("{place}-{}-{}-{}-{}", short(&self.boot), short(&self.namespace), self.pid, self.start_time)
    }

    /// Whether the maker of a temporary name of this tag lives, as seen by `self`.
    pub(super) fn life_of_tag(&self, tag: &str) -> Life {
        let mine = self.tag();
        let (own, theirs): (Vec<&str>, Vec<&str>) = (mine.split('-').collect(), tag.split('-').collect());
        if theirs.len() != own.len() || theirs[0] != own[0] {
            return Life::Unknown;
        }
        if theirs[1] != own[1] {
            return if self.machine.is_empty() { Life::Unknown } else { Life::Dead };
        }
        if theirs[2] != own[2] {
            return Life::Unknown;
        }
        match (theirs[3].parse(), theirs[4].parse()) {
            (Ok(pid), Ok(stated)) => life_of(pid, stated),
            _ => Life::Unknown,
        }
    }
}

/// Whether the process of this id and start time lives on this host.
fn life_of(pid: u32, stated: u64) -> Life {
    if let Some(start) = start_time(pid) {
        return if start == stated { Life::Alive } else { Life::Dead };
    }
    // Other users' processes may be hidden in /proc; a zombie is there and dead.
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let hidden = !Path::new(&format!("/proc/{pid}")).exists()
        && known.is_some_and(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)));
    if hidden { Life::Unknown } else { Life::Dead }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_the_dead_and_the_distant_are_told_apart() {
        let this = Process::this().clone();
        assert!(this.start_time > 0);
        let cases = [
            (this.clone(), Life::Alive),
            // The id belongs to another process now.
            (Process { start_time: this.start_time + 1, ..this.clone() }, Life::Dead),
            (Process { pid: u32::MAX, ..this.clone() }, Life::Dead),
            (Process { boot: "other".into(), ..this.clone() }, Life::Dead),
            (Process { host: "other".into(), ..this.clone() }, Life::Unknown),
            (Process { machine: "other".into(), ..this.clone() }, Life::Unknown),
            (Process { namespace: "pid:[1]".into(), ..this.clone() }, Life::Unknown),
        ];
        for (process, life) in cases {
            assert_eq!(process.life(&this), life, "{process:?}");
            assert_eq!(this.life_of_tag(&process.tag()), life, "{process:?}");
        }
        assert_eq!(this.life_of_tag("17-3"), Life::Unknown);
    }

    #[test]
    fn a_record_reads_back() {
        let this = Process::this();
        assert_eq!(&Process::from_map(&this.to_map()), this);
    }
}
