//! What a result came about with: this very program, the machine, the environment, the commits.
//!
//! In: the files of the system, and `git` where there is one. Out: a record that is kept beside an attempt, and the digest
//! of the program's file, by which two builds are told apart. Invariants: nothing here enters a result, and nothing that
//! cannot be found out is an error: it is `null` in the record. This is the one place with a wall clock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The variables that are recorded where they are set, besides all of [`OWN`].
const VARIABLES: [&str; 13] = [
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "LIBTORCH",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_ID",
    "SLURM_NODELIST",
];
/// How the variables of this program begin.
const OWN: &str = "TICKETS_";

/// blake3 of the file of this very program, in hex; `unknown` where it cannot be read. Two programs with the same digest
/// are one build; libtorch is not in it.
pub fn build_digest() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| own_digest().unwrap_or_else(|_| "unknown".to_owned()))
}

fn own_digest() -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    // The file that runs, even when another build has taken its place meanwhile.
    hasher.update_reader(File::open("/proc/self/exe")?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The folder of the manifest that this process works for, once it is known.
static MANIFEST_FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Says which manifest this process works for, so that [`record`] names the commit of its repository.
pub fn note_manifest(path: &Path) {
    if let Some(folder) = path.parent() {
        // A process works for one manifest: later ones say the same.
        let _ = MANIFEST_FOLDER.set(folder.to_path_buf());
    }
}

/// The record of what this process computes with; `further` is what the caller knows besides, and wins.
pub fn record(further: Map<String, Value>) -> Map<String, Value> {
    let command = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let started = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    let mut record = Map::from_iter([
        ("build".to_owned(), build()),
        ("command".to_owned(), command.collect()),
        ("environment".to_owned(), environment(std::env::vars_os())),
        ("host".to_owned(), host()),
        ("manifest_repository".to_owned(), MANIFEST_FOLDER.get().map_or(Value::Null, |at| repository(at))),
        ("started".to_owned(), started.into()),
    ]);
    record.extend(further);
    record
}

/// What this program was made from, and how.
pub fn build() -> Value {
    let known = |text: &'static str| (text != "unknown").then_some(text);
    let features = [("torch", cfg!(feature = "torch")), ("tables", cfg!(feature = "tables"))];
    let features = features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name);
    json!({
        "version": VERSION,
        "digest": build_digest(),
        "commit": known(env!("PROVENANCE_COMMIT")),
        "dirty": known(env!("PROVENANCE_CHANGED")).map(|changed| changed == "yes"),
        "rustc": known(env!("PROVENANCE_RUSTC")),
        "profile": env!("PROVENANCE_PROFILE"),
        "target": known(env!("PROVENANCE_TARGET")),
        "features": features.collect::<Vec<_>>(),
    })
}

fn environment(all: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>) -> Value {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    };
    let wanted = |name: &str| VARIABLES.contains(&name) || name.starts_with(OWN);
    let mut found = all.map(text).filter(|(name, _)| wanted(name)).collect::<Vec<_>>();
    found.sort();
    Value::Object(found.into_iter().map(|(name, value)| (name, value.into())).collect())
}

/// The commit that is checked out around a folder, and whether tracked files differ from it.
fn repository(folder: &Path) -> Value {
    let Some(commit) = git(folder, &["rev-parse", "HEAD"]) else { return Value::Null };
    let changed = git(folder, &["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]);
    json!({ "commit": commit, "dirty": changed.map(|changed| !changed.is_empty()) })
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// This machine, as far as results may depend on it.
fn host() -> Value {
    let system = rustix::system::uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    let read = |path: &str| fs::read_to_string(path).ok();
    let nvidia = read("/proc/driver/nvidia/version");
    json!({
        "name": text(system.nodename()),
        "kernel": format!("{} {}", text(system.sysname()), text(system.release())),
        "processor": read("/proc/cpuinfo").and_then(|text| field(&text, "model name")),
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "memory_bytes": read("/proc/meminfo").and_then(|text| memory(&text)),
        "driver": nvidia.as_deref().and_then(driver),
        "gpus": nvidia.as_ref().map(|_| gpus(Path::new("/proc/driver/nvidia/gpus"))),
    })
}

/// The value behind `name:` in a text of such lines.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn memory(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemTotal")?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The version in the text of `/proc/driver/nvidia/version`.
fn driver(version: &str) -> Option<String> {
    let line = version.lines().find(|line| line.starts_with("NVRM"))?;
    let number = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(number).map(str::to_owned)
}

fn gpus(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths = entries.map(|entry| entry.path().join("information")).collect::<Vec<_>>();
    paths.sort();
    paths.iter().filter_map(|path| field(&fs::read_to_string(path).ok()?, "Model")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_program() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(build_digest(), blake3::hash(&own).to_hex().as_str());
    }

    #[test]
    fn of_the_environment_only_listed_variables_are_recorded() {
        let all = [("TICKETS_SEED", "1"), ("PASSWORD", "x"), ("OMP_NUM_THREADS", "2"), ("OMP_OTHER", "3")];
        let found = environment(all.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        assert_eq!(found.to_string(), r#"{"OMP_NUM_THREADS":"2","TICKETS_SEED":"1"}"#);
    }

    #[test]
    fn what_the_caller_adds_wins_and_what_is_known_is_there() {
        let record = record(Map::from_iter([("device".into(), "cpu".into()), ("started".into(), 7.into())]));
        assert_eq!((&record["device"], &record["started"]), (&json!("cpu"), &json!(7)));
        assert_eq!(record["build"]["digest"], build_digest());
        assert!(record["build"]["rustc"].as_str().unwrap().starts_with("rustc "));
        assert!(record["host"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
        assert!(!record["host"]["kernel"].as_str().unwrap().is_empty());
        assert!(!record["command"].as_array().unwrap().is_empty());
    }

    #[test]
    fn the_texts_of_the_kernel_are_read() {
        assert_eq!(memory("MemFree: 1 kB\nMemTotal:       32617 kB\n"), Some(32617 * 1024));
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\nGCC version: 12.2.0\n";
        assert_eq!(driver(version).as_deref(), Some("580.65.06"));
        assert_eq!(field("Model: \t\t Some GPU\nIRQ: 1\n", "Model").as_deref(), Some("Some GPU"));
    }

    #[test]
    fn a_repository_says_its_commit_and_whether_files_differ() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(repository(&folder.path().join("missing")), Value::Null);
        let said = |arguments: &[&str]| git(folder.path(), arguments);
        if said(&["init", "--quiet"]).is_none() {
            return; // no git on this machine
        }
        #[expect(clippy::disallowed_methods, reason = "tests make files of their own")]
        let write = |text: &str| fs::write(folder.path().join("a"), text).unwrap();
        write("1");
        said(&["add", "a"]).unwrap();
        let author = ["-c", "user.name=a", "-c", "user.email=a@b"];
        said(&[&author[..], &["commit", "--quiet", "-m", "x"]].concat()).unwrap();
        let clean = repository(folder.path());
        assert_eq!((clean["commit"].as_str().unwrap().len(), &clean["dirty"]), (40, &json!(false)));
        write("2");
        assert_eq!(repository(folder.path())["dirty"], true);
    }
}
