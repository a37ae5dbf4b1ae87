//! What people read when a manifest is wrong: one snapshot per diagnostic, drawn by the real program.
//!
//! A snapshot holds its files, the command and what it says: see any of `tests/snapshots/diagnostics`.
//! `UPDATE_SNAPSHOTS=1 cargo test --test snapshots` writes what the program says now; read the difference.

mod transcript;

use std::fs;
use std::path::{Path, PathBuf};

use transcript::{File, say, settle};

/// What a line begins with that ends one part of a snapshot and begins the next.
const MARK: &str = "== ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn snapshots() -> Vec<(PathBuf, String)> {
    let folder = fs::read_dir(root().join("tests/snapshots/diagnostics")).expect("the snapshots");
    let mut paths = folder.map(|entry| entry.expect("readable").path()).collect::<Vec<_>>();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("text"))).collect()
}

/// The parts of a snapshot: what stands behind each mark, and the lines below it.
fn parts(text: &str) -> Vec<(&str, String)> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (line.strip_prefix(MARK), parts.last_mut()) {
            (Some(title), _) => parts.push((title.trim_end(), String::new())),
            (None, Some((_, below))) => below.push_str(line),
            (None, None) => panic!("a snapshot begins with `{MARK}`: {line}"),
        }
    }
    parts
}

/// A snapshot with what the program says now.
fn taken(text: &str) -> String {
    let parts = parts(text);
    let at = parts.iter().position(|(title, _)| title.starts_with("$ ")).expect("a command");
    let files = parts[..at].iter().map(|(title, text)| {
        let name = title.strip_suffix(" in Latin-1");
        File { name: name.unwrap_or(title), latin1: name.is_some(), text: text.clone() }
    });
    let said = say(&files.collect::<Vec<_>>(), &parts[at].0[2..]);
    let head = parts[..at].iter().map(|(title, text)| format!("{MARK}{title}\n{text}")).collect::<String>();
    format!("{head}{MARK}{}\n{}{MARK}exit {}\n", parts[at].0, said.text, said.code)
}

#[test]
fn every_diagnostic_is_drawn_as_recorded() {
    let differ = snapshots().iter().filter_map(|(path, old)| settle(path, old, &taken(old))).collect::<Vec<_>>();
    assert!(differ.is_empty(), "if that is meant, set UPDATE_SNAPSHOTS=1\n{}", differ.join("\n"));
}
