//! `tickets doctor`: what this machine has of what a sweep needs, and what to do about the rest.
//!
//! The machine comes in (`/proc`, the loader, the file systems), a list of checks goes out, as lines or as JSON.
//! Invariant: nothing is written and nothing downloaded. A check that is `missing` only limits what can be done (no
//! GPU); one that is `broken` stops every run, and the command ends with code 7.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exit::Code;
use crate::store::{free_space, human_bytes};

/// What `tickets doctor` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The results folder to look at.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There, and as it should be.
    Ok,
    /// Not there; what needs it cannot be used.
    Missing,
    /// Nothing works until it is put right.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, for people.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What was found, for programs.
    pub details: Map<String, Value>,
}

impl Check {
    fn new(name: &'static str, state: State, text: impl Into<String>) -> Self {
        Self { name, state, text: text.into(), hint: None, details: Map::new() }
    }

    fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    fn details(mut self, details: Value) -> Self {
        if let Value::Object(details) = details {
            self.details = details;
        }
        self
    }
}

/// Looks at everything and prints it.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &DoctorArgs, out: &mut dyn Write) -> io::Result<Code> {
    let checks = look(&args.results);
    let text = if args.json { to_json(&checks) } else { to_lines(&checks) };
    out.write_all(text.as_bytes())?;
    let broken = checks.iter().any(|check| check.state == State::Broken);
    Ok(if broken { Code::Environment } else { Code::Ok })
}

/// All checks, in the order in which they are printed.
pub fn look(results: &Path) -> Vec<Check> {
    let mut checks = vec![program()];
    checks.extend(torch());
    checks.extend([cores(), memory()]);
    // The smallest quickstart writes a few MB; checkpoints of larger models want more, and say so when they fail.
    checks.push(disk("results", results, 100 << 20));
    checks.push(disk("cache", &cache_folder(), 0));
    checks
}

fn to_json(checks: &[Check]) -> String {
    let ok = checks.iter().all(|check| check.state != State::Broken);
    format!("{:#}\n", json!({ "ok": ok, "checks": checks }))
}

fn to_lines(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Missing => "missing",
            State::Broken => "BROKEN",
        };
        let _ = writeln!(text, "{state:<8} {:<14} {}", check.name, check.text);
        if let Some(hint) = &check.hint {
            let _ = writeln!(text, "{:<8} {:<14} hint: {hint}", "", "");
        }
    }
    text
}

fn program() -> Check {
    let features: Vec<&str> = [("torch", cfg!(feature = "torch")), ("tables", cfg!(feature = "tables"))]
        .iter()
        .filter_map(|(name, on)| on.then_some(*name))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let listed = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    Check::new("tickets", State::Ok, format!("{version} (features: {listed})"))
        .details(json!({ "version": version, "features": features }))
}

#[cfg(not(feature = "torch"))]
fn torch() -> Vec<Check> {
    let hint = "build with the feature `torch` (on by default) to run a sweep".to_owned();
    vec![Check::new("libtorch", State::Missing, "this program was built without it").hint(hint)]
}

#[cfg(feature = "torch")]
fn torch() -> Vec<Check> {
    use crate::torch::device;

    // CUDA first: libtorch remembers the first answer.
    let driver = device::find_driver();
    let library = device::open_cuda();
    let gpu = device::probe_cuda();
    let mut checks = vec![libtorch()];
    checks.push(match driver {
        Ok(()) => Check::new("NVIDIA driver", State::Ok, "found"),
        Err(error) => {
            let hint = error.hint();
            Check::new("NVIDIA driver", State::Missing, error.to_string()).hint(hint)
        }
    });
    checks.push(match &library {
        Ok(()) => {
            let folder = device::loaded_from("libtorch_cuda.so").unwrap_or_default();
            Check::new("libtorch CUDA", State::Ok, format!("in {}", folder.display()))
                .details(json!({ "folder": folder }))
        }
        Err(error) => Check::new("libtorch CUDA", State::Missing, error.to_string()).hint(error.hint()),
    });
    match gpu {
        Ok(()) => checks.extend(gpus()),
        // Said above already when the driver or the library is missing.
        Err(error @ device::DeviceError::NoGpu { .. }) => {
            checks.push(Check::new("GPU", State::Missing, error.to_string()).hint(error.hint()));
        }
        Err(_) => {}
    }
    checks
}

#[cfg(feature = "torch")]
fn libtorch() -> Check {
    let found = crate::torch::device::libtorch();
    let folder = found.folder.clone().unwrap_or_default();
    let text = format!("{} in {} ({})", found.version, folder.display(), found.cpu_capability);
    let right = found.version.split('+').next() == Some("2.11.0");
    let check = Check::new("libtorch", if right { State::Ok } else { State::Broken }, text);
    let hint = "2.11.0 is needed: is another libtorch on LD_LIBRARY_PATH?".to_owned();
    check.hint((!right).then_some(hint)).details(
        json!({ "version": found.version, "folder": folder, "cpu_capability": found.cpu_capability }),
    )
}

#[cfg(feature = "torch")]
fn gpus() -> Vec<Check> {
    use crate::torch::device;

    let mut checks = Vec::new();
    if let Some(problem) = device::cuda_library_problem() {
        let text = format!("libtickets_cuda.so cannot be opened, GPU memory is not reported ({problem})");
        let hint = "`make build` builds it beside the program; `python3 scripts/libtorch.py --cuda-include` \
                    fetches the headers that it needs";
        checks.push(Check::new("CUDA part", State::Missing, text).hint(hint.to_owned()));
    }
    for index in 0..device::cuda_count() {
        let check = match device::cuda_device(index) {
            Some(gpu) => {
                let (major, minor) = gpu.capability;
                let text = format!(
                    "cuda:{index} {} ({}, compute {major}.{minor})",
                    gpu.name,
                    human_bytes(gpu.total_memory)
                );
                Check::new("GPU", State::Ok, text).details(json!({
                    "index": index, "name": gpu.name, "total_memory_bytes": gpu.total_memory,
                    "capability": format!("{major}.{minor}"), "multiprocessors": gpu.multiprocessors,
                }))
            }
            None => Check::new("GPU", State::Ok, format!("cuda:{index}")).details(json!({ "index": index })),
        };
        checks.push(check);
    }
    checks
}

fn cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Check::new("cores", State::Ok, cores.to_string()).details(json!({ "available": cores }))
}

fn memory() -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match (meminfo(&text, "MemTotal:"), meminfo(&text, "MemAvailable:")) {
        (Some(total), Some(available)) => Check::new(
            "memory",
            State::Ok,
            format!("{} free of {}", human_bytes(available), human_bytes(total)),
        )
        .details(json!({ "total_bytes": total, "available_bytes": available })),
        _ => Check::new("memory", State::Missing, "the kernel does not say how much there is"),
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The cache folder of scripts/libtorch.py.
fn cache_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TICKETS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tickets")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/tickets")))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Free space and permission, of the folder or of the nearest one above it that exists.
fn disk(name: &'static str, folder: &Path, needed: u64) -> Check {
    let found = match free_space(folder) {
        Ok(found) => found,
        Err(error) => {
            return Check::new(name, State::Broken, format!("{}: {error}", folder.display()));
        }
    };
    let (shown, existing) = (&found.folder, found.existing.as_path());
    let new = if existing == shown { "" } else { " (to be made)" };
    let space = found.bytes.unwrap_or(0);
    let text = format!("{}{new}, {} free", shown.display(), human_bytes(space));
    let details = json!({ "folder": shown, "exists": existing == shown, "free_bytes": space });
    let check = |state| Check::new(name, state, text.clone()).details(details.clone());
    if !existing.is_dir() {
        return check(State::Broken).hint(format!("{} is not a folder", existing.display()));
    }
    if rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_err() {
        let hint =
            format!("{} cannot be written to: change that, or choose another folder", existing.display());
        // The cache is only read once libtorch is there.
        return check(if needed > 0 { State::Broken } else { State::Missing }).hint(hint);
    }
    if space < needed {
        return check(State::Broken).hint(format!("at least {} should be free", human_bytes(needed)));
    }
    check(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
        checks.iter().find(|check| check.name == name).unwrap()
    }

    #[test]
    fn a_usable_folder_is_ok_and_one_to_be_made_is_too() {
        let folder = tempfile::tempdir().unwrap();
        let there = disk("results", folder.path(), 1);
        assert_eq!((there.state, &there.hint), (State::Ok, &None));
        let below = disk("results", &folder.path().join("a/b"), 1);
        assert_eq!(below.state, State::Ok);
        assert!(below.text.contains("(to be made)"), "{}", below.text);
        assert_eq!(below.details["exists"], json!(false));
    }

    #[test]
    fn a_file_in_the_way_and_a_full_disk_are_broken_and_end_with_code_7() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(disk("results", file.path(), 1).state, State::Broken);
        assert_eq!(disk("results", file.path().parent().unwrap(), u64::MAX).state, State::Broken);
        let mut out = Vec::new();
        let args = DoctorArgs { json: false, results: file.path().join("results") };
        assert_eq!(run(&args, &mut out).unwrap(), Code::Environment);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("BROKEN") && text.contains("is not a folder"), "{text}");
    }

    #[test]
    fn json_holds_what_the_lines_hold() {
        let folder = tempfile::tempdir().unwrap();
        let args = DoctorArgs { json: true, results: folder.path().to_path_buf() };
        let mut out = Vec::new();
        assert_eq!(run(&args, &mut out).unwrap(), Code::Ok);
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["ok"], json!(true));
        let names: Vec<&str> =
            read["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
        let checks = look(folder.path());
        assert_eq!(names, checks.iter().map(|check| check.name).collect::<Vec<_>>());
        assert!(find(&checks, "memory").details["total_bytes"].as_u64().unwrap() > 1 << 20);
        let lines = to_lines(&checks);
        assert!(checks.iter().all(|check| lines.contains(&check.text)));
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        for check in look(Path::new(".")) {
            assert!(check.state == State::Ok || check.hint.is_some(), "{check:?}");
        }
    }

    #[test]
    fn meminfo_is_in_kib() {
        let text = "MemTotal:        2048 kB\nMemFree: 5 kB\nMemAvailable:  1024 kB\n";
        assert_eq!(meminfo(text, "MemTotal:"), Some(2 << 20));
        assert_eq!(meminfo(text, "MemAvailable:"), Some(1 << 20));
        assert_eq!(meminfo(text, "SwapTotal:"), None);
    }
}
