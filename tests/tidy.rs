//! The house rules that no compiler checks: the rooms' import table, headers, file lengths, leftovers, machine paths.
//!
//! The source is read as text. A rule that is broken is reported with file and line, all of them at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A room, the rooms it may use, and why where that is not plain. `counter` and `exit` may be used by all.
const ROOMS: &[(&str, &[&str])] = &[
    ("counter", &[]),
    ("exit", &[]),
    // What a result came about with: this program and this machine. It knows no run.
    ("provenance", &[]),
    // Names of files, for those who hash them and those who read them.
    ("model_folder", &[]),
    // Pure maths and rules: no files, no clock, no tensors.
    ("generators", &[]),
    ("task", &["generators"]),
    ("grpo", &[]),
    ("sparsity", &["generators"]),
    ("stats", &[]),
    // Programs that are tasks: their processes and their protocol.
    ("external", &["task"]),
    // Bytes on disk; it knows masks and scores as values.
    ("store", &["sparsity"]),
    // Text to a valid configuration. Never the store's results: planning reads the manifest alone.
    ("manifest", &["model_folder", "task", "grpo", "sparsity", "store"]),
    // A plan exists before there is a results folder, so it does not know the store.
    ("plan", &["manifest", "task", "grpo", "sparsity"]),
    // Files of models and datasets to plain values.
    ("data", &["model_folder", "store", "task", "sparsity", "external"]),
    // Masks as files. Built without tensors, so that they can be looked at anywhere.
    ("masks", &["store", "data", "sparsity"]),
    // What a run will need, from its configuration alone: before there is a plan, a store or a tensor.
    ("estimate", &["manifest", "data", "masks", "task", "grpo", "sparsity"]),
    // Order, resume, isolation; it knows no tensor.
    ("execute", &["plan", "manifest", "store", "provenance"]),
    // Every tensor, and the trainer that the executor runs.
    (
        "torch",
        &[
            "execute",
            "plan",
            "manifest",
            "store",
            "provenance",
            "data",
            "masks",
            "task",
            "grpo",
            "sparsity",
            "stats",
        ],
    ),
    // From the results alone: nothing of how they came about.
    ("report", &["plan", "manifest", "store", "masks", "stats", "sparsity", "grpo", "task"]),
    ("cli", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// Outside crates that belong to some rooms alone.
const CRATES: &[(&str, &[&str])] = &[
    ("tch", &["torch"]),
    ("libloading", &["torch"]),
    ("polars", &["report", "data"]),
    ("plotters", &["report"]),
    ("tokenizers", &["data"]),
    ("hf_hub", &["data"]),
    ("ureq", &["data"]),
    ("ring", &["data"]),
    ("minijinja", &["data", "task"]),
    ("figment", &["manifest"]),
    // The schema of manifests is made from the key table, where that lies.
    ("schemars", &["manifest"]),
    ("miette", &["manifest", "cli"]),
    ("rand_chacha", &["counter"]),
    ("clap", &["cli", "main"]),
    ("comfy_table", &["cli", "report"]),
    ("indicatif", &["cli", "execute"]),
    ("signal_hook", &["execute", "cli"]),
];

/// The most lines of a file, by folder: tests are lists of cases and may be longer.
const MOST_LINES: &[(&str, usize)] = &[("src", 400), ("tests", 500)];
/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that git tracks or would track; without git, all files below the folders that hold source.
fn tracked() -> Vec<PathBuf> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(arguments).current_dir(root()).output();
    let mut files: Vec<PathBuf> = match listed {
        Ok(listed) if listed.status.success() => {
            let names = String::from_utf8(listed.stdout).expect("tracked names are UTF-8");
            names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect()
        }
        _ => ["src", "tests", "scripts", "manifests"]
            .iter()
            .flat_map(|folder| below(Path::new(folder)))
            .collect(),
    };
    // A file that was removed but not yet from the index.
    files.retain(|file| root().join(file).is_file());
    files.sort();
    assert!(files.iter().any(|file| file == Path::new("src/lib.rs")), "src/lib.rs is among the files");
    files
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return Vec::new() };
    let paths = entries.map(|entry| folder.join(entry.expect("a readable folder").file_name()));
    paths.flat_map(|path| if root().join(&path).is_dir() { below(&path) } else { vec![path] }).collect()
}

fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let wanted = |file: &PathBuf| file.starts_with(folder) && file.extension().is_some_and(|end| end == "rs");
    tracked().into_iter().filter(wanted).map(|file| (file.clone(), read(&file))).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The room of a file: the first folder below `src`, or the file's own name.
fn room(file: &Path) -> String {
    let first = file.components().nth(1).expect("a file below src").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// A file without its comments and its tests, line by line, so that line numbers stay right.
fn code(file: &Path, text: &str) -> Vec<String> {
    if file.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests")) {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let is_tests = |at: usize| {
        lines[at].trim() == "#[cfg(test)]"
            && lines[at + 1..]
                .iter()
                .find(|line| !line.starts_with("#["))
                .is_some_and(|line| line.starts_with("mod tests {"))
    };
    let end = (0..lines.len()).find(|at| is_tests(*at)).unwrap_or(lines.len());
    let uncommented = |line: &str| line.split_once("//").map_or(line, |(code, _)| code).to_owned();
    lines[..end].iter().map(|line| uncommented(line)).collect()
}

/// Every mention of `name::` that is not part of a longer name or path, with what follows it.
fn mentions<'a>(line: &'a str, name: &str) -> Vec<&'a str> {
    let path = format!("{name}::");
    let starts = line.match_indices(&path).filter(|(at, _)| {
        let before = line[..*at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
    });
    starts.map(|(at, _)| &line[at + path.len()..]).collect()
}

/// The first names after `crate::`: of `a::b` it is `a`, of `{a::b, c::{d, e}}` they are `a` and `c`.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = text.trim_start().strip_prefix('{') else { return vec![name(text)] };
    let (mut depth, mut part, mut parts) = (0, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ if depth == 0 => part.push(c),
            _ => {}
        }
    }
    parts.push(part);
    parts.iter().map(|part| name(part.trim())).filter(|name| !name.is_empty()).collect()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} broken rules:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn rooms_import_what_the_table_allows() {
    let mut problems = Vec::new();
    for (file, text) in rust_files("src") {
        let room = room(&file);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            problems
                .push(format!("{}: the room `{room}` is not in the table of tests/tidy.rs", file.display()));
            continue;
        };
        // A list in braces may go over several lines, so the text is searched as a whole.
        let code = code(&file, &text).join("\n");
        for after in mentions(&code, "crate") {
            let line = code[..code.len() - after.len()].lines().count();
            for name in first_names(after) {
                let known = ROOMS.iter().any(|(room, _)| *room == name);
                let free = name == room || name == "counter" || name == "exit" || allowed.contains(&"*");
                if !free && !allowed.contains(&name.as_str()) {
                    let what = if known { "may not use" } else { "uses the unknown room" };
                    problems.push(format!("{}:{line}: `{room}` {what} `{name}`", file.display()));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let mut problems = Vec::new();
    for (file, text) in rust_files("src") {
        let room = room(&file);
        for (number, line) in code(&file, &text).iter().enumerate() {
            for (name, rooms) in CRATES {
                if !rooms.contains(&room.as_str()) && !mentions(line, name).is_empty() {
                    problems.push(format!("{}:{}: `{room}` names `{name}`", file.display(), number + 1));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn the_table_has_no_cycle() {
    // Taking away rooms that use nothing that is left must take away all.
    let mut left: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    loop {
        let free = |room: &&str| {
            let (_, uses) = ROOMS.iter().find(|(name, _)| name == room).expect("a room of the table");
            uses.iter().all(|used| *used == "*" || !left.contains(used))
        };
        let gone: Vec<&str> = left.iter().copied().filter(|room| free(room)).collect();
        if gone.is_empty() {
            break;
        }
        left.retain(|room| !gone.contains(room));
    }
    assert!(left.is_empty(), "these rooms use each other in a circle: {left:?}");
}

#[test]
fn unsafe_code_is_in_few_files() {
    let lint = concat!("unsafe", "_code");
    let holders: Vec<PathBuf> =
        rust_files("src").into_iter().filter(|(_, text)| text.contains(lint)).map(|(file, _)| file).collect();
    // Libraries and settings; operators on the numbers of tensors.
    let expected = ["src/torch/foreign.rs", "src/torch/kernels"].map(Path::new);
    assert!(
        holders.iter().all(|file| expected.iter().any(|place| file.starts_with(place))),
        "unsafe code belongs in {expected:?}: {holders:?}"
    );
}

#[test]
fn every_file_says_what_it_is() {
    let rust = rust_files("src").into_iter().chain(rust_files("tests")).chain(rust_files("build.rs"));
    let silent = rust.filter(|(_, text)| !text.starts_with("//!"));
    report(
        &silent.map(|(file, _)| format!("{}: does not start with `//!`", file.display())).collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_short() {
    let mut problems = Vec::new();
    for (folder, most) in MOST_LINES {
        for (file, text) in rust_files(folder) {
            let lines = text.lines().count();
            let listed = LONG_FILES.iter().any(|(name, _)| Path::new(name) == file);
            if lines > *most && !listed {
                problems.push(format!("{}: {lines} lines, {most} at most", file.display()));
            }
            if lines <= *most && listed {
                problems.push(format!("{}: {lines} lines, it need not be in LONG_FILES", file.display()));
            }
        }
    }
    report(&problems);
}

#[test]
fn nothing_is_left_unfinished() {
    // In pieces, so that this file does not break its own rule.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
        concat!("#[", "ignore"),
    ];
    let ends = ["rs", "cpp", "py", "sh", "toml", "md", "yml"];
    let mut problems = Vec::new();
    for file in tracked() {
        let source = file.extension().is_some_and(|end| ends.iter().any(|known| end == *known));
        if !source && file.file_name().is_none_or(|name| name != "Makefile") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(*mark)) {
                problems.push(format!("{}:{}: `{mark}`", file.display(), number + 1));
            }
        }
    }
    report(&problems);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let mut problems = Vec::new();
    for (file, text) in rust_files("src").into_iter().chain(rust_files("tests")).chain(rust_files("build.rs"))
    {
        if text.contains(concat!("[all", "ow(")) || text.contains(concat!(", all", "ow(")) {
            problems.push(format!("{}: `expect` with a reason, never `allow`", file.display()));
        }
        for part in text.split(concat!("[exp", "ect(")).skip(1) {
            if !part[..part.find(']').unwrap_or(part.len())].contains("reason") {
                problems.push(format!("{}: an `expect` without a reason", file.display()));
            }
        }
    }
    report(&problems);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let folders = ["home", "root", "work", "Users", "mnt", "opt"];
    let settings = ["index-url", "extra-index-url", "trusted-host", "replace-with"];
    let mut problems = Vec::new();
    for file in tracked() {
        // Pictures and fonts are not text.
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", file.display(), number + 1);
            for folder in folders {
                // At the start of a path: not behind a letter, a dot or a `/`, and with a name after it.
                let path = format!("/{folder}/");
                let found = line.match_indices(&path).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    let after = line[at + path.len()..].chars().next();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-/~}*)".contains(c))
                        && after.is_some_and(|c| c.is_alphanumeric() || c == '_')
                });
                if found {
                    problems.push(format!("{}: an absolute path of some machine: {}", place(), line.trim()));
                }
            }
            let setting = |name: &&str| line.trim_start().trim_start_matches("--").starts_with(*name);
            if settings.iter().any(setting) {
                problems.push(format!("{}: a registry of some machine: {}", place(), line.trim()));
            }
        }
    }
    report(&problems);
}

#[test]
fn locked_crates_come_from_the_public_registry() {
    let lock = read(Path::new("Cargo.lock"));
    let sources: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let public = "\"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), [public]);
}

#[test]
fn make_help_names_every_target() {
    let makefile = read(Path::new("Makefile"));
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).expect("a .PHONY line");
    for target in phony.split(' ') {
        let rule = format!("{target}:");
        let line = makefile.lines().find(|line| line.starts_with(&rule));
        assert!(line.is_some_and(|line| line.contains(" ## ")), "`{target}` has a rule with a `##` comment");
    }
}

#[test]
fn the_helpers_of_this_file_see_what_they_should() {
    assert_eq!(mentions("use crate::store::Store;", "crate"), ["store::Store;"]);
    assert_eq!(mentions("let x = $crate::y; mycrate::z; a::crate::b", "crate"), Vec::<&str>::new());
    assert_eq!(mentions("f(tch::Kind::Float, &tch::Device::Cpu)", "tch").len(), 2);
    assert_eq!(first_names("store::{Store, fs};"), ["store"]);
    assert_eq!(first_names("{\n    exit::{Code, Failure},\n    plan,\n};"), ["exit", "plan"]);
    let text = "//! x\nuse crate::a; // crate::b\n#[cfg(test)]\nmod tests {\n    use crate::c;\n}\n";
    assert_eq!(code(Path::new("src/a.rs"), text), ["", "use crate::a; "]);
    assert_eq!(room(Path::new("src/torch/device.rs")), "torch");
    assert_eq!(room(Path::new("src/exit.rs")), "exit");
}
