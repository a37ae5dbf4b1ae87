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
    let head =
        parts[..at].iter().map(|(title, text)| format!("{MARK}{title}\n{text}")).collect::<Vec<_>>().concat();
    format!("{head}{MARK}{}\n{}{MARK}exit {}\n", parts[at].0, said.text, said.code)
}

#[test]
fn every_diagnostic_is_drawn_as_recorded() {
    assert!(snapshots().len() > 150, "the snapshots are gone");
    let differ =
        snapshots().iter().filter_map(|(path, old)| settle(path, old, &taken(old))).collect::<Vec<_>>();
    assert!(differ.is_empty(), "if that is meant, set UPDATE_SNAPSHOTS=1\n{}", differ.join("\n"));
}

#[test]
fn the_page_of_diagnostics_says_what_the_program_says() {
    let path = root().join("docs/diagnostics.md");
    let old = fs::read_to_string(&path).expect("the page");
    let mut files: Vec<File<'_>> = Vec::new();
    let (mut new, mut lines, mut shown) = (String::new(), old.split_inclusive('\n'), 0);
    while let Some(line) = lines.next() {
        new.push_str(line);
        let Some(kind) = line.trim_end().strip_prefix("```") else { continue };
        let block = lines.by_ref().take_while(|line| *line != "```\n").collect::<Vec<_>>();
        if let Some(name) = kind.strip_prefix("toml ") {
            files.push(File { name, latin1: false, text: block.concat() });
            new.push_str(&block.concat());
        } else {
            let command = block[0].trim_end().strip_prefix("$ ").expect("a command");
            let said = say(&files, command);
            assert_ne!(said.code, 0, "{command}");
            new.extend(["$ ", command, "\n", &said.text]);
            files.clear();
            shown += 1;
        }
        new.push_str("```\n");
    }
    assert!(shown >= 10, "{shown} transcripts");
    let differs = settle(&path, &old, &new);
    assert!(differs.is_none(), "if that is meant, set UPDATE_SNAPSHOTS=1\n{}", differs.unwrap_or_default());
}

/// Every text that a message is made of, in the rooms that read manifests: literals of two words or more.
fn message_literals() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for room in ["src/manifest", "src/plan"] {
        for entry in fs::read_dir(root().join(room)).expect("a room") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            // What is not built yet is no fault of a manifest; canonical bytes, the schema and the lock are no messages.
            let silent = ["built.rs", "canon.rs", "lock.rs"].contains(&name.as_str());
            if silent || name.starts_with("schema") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            // The table of keys holds their meanings, which no message shows.
            let end = if name == "keys.rs" { "const U32" } else { "#[cfg(test)]\nmod tests" };
            let text = text.split(end).next().unwrap_or_default();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            found.extend(literals(&code).into_iter().map(|literal| (name.clone(), literal)));
        }
    }
    found
}

/// String literals of a text, without those of `expect` and of attributes' reasons.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(at) = rest.find('"') {
        let before = &rest[..at];
        let (mut literal, mut escaped, mut end) = (String::new(), false, rest.len());
        for (index, c) in rest[at + 1..].char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    end = at + 1 + index + 1;
                    break;
                }
                c => {
                    literal.push(if escaped && c == 'n' { '\n' } else { c });
                    escaped = false;
                }
            }
        }
        // A quote as a character is no literal.
        let quote = before.ends_with('\'') || before.ends_with("b'") || before.ends_with("'\\");
        if quote {
            rest = &rest[at + 1..];
            continue;
        }
        let silent = before.trim_end().ends_with("expect(") || before.trim_end().ends_with("reason =");
        if !silent {
            found.push(literal);
        }
        rest = &rest[end..];
    }
    found
}

/// The longest piece of a literal between its placeholders.
fn longest_piece(literal: &str) -> String {
    let mut pieces = vec![String::new()];
    let mut depth = 0_u32;
    let plain = literal.replace("{{", "\u{1}").replace("}}", "\u{2}");
    for c in plain.chars() {
        match c {
            '{' => {
                depth += 1;
                pieces.push(String::new());
            }
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => pieces.last_mut().expect("one at least").push(c),
            _ => (),
        }
    }
    let longest = pieces.into_iter().max_by_key(String::len).unwrap_or_default();
    longest.replace('\u{1}', "{").replace('\u{2}', "}")
}

/// A text without what drawing adds: line breaks, indents, bars.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '│').collect()
}

#[test]
fn no_message_is_without_a_snapshot() {
    let shown = snapshots().into_iter().map(|(_, text)| squeezed(&text)).collect::<String>();
    // Messages about input that is too large, or broken, to be kept in a snapshot are compared there.
    let tests = squeezed(&fs::read_to_string(root().join("tests/diagnostics.rs")).expect("tests"));
    let words =
        |text: &str| text.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count();
    // Of a bug, and of a folder whose name is not UTF-8: no manifest alone leads there. The last are words that are cut.
    let unreachable = [
        "built-in defaults",
        "do not fit together",
        "this is a bug in tickets: please report the manifest",
        "is not UTF-8 text",
        ", expected nothing",
    ];
    let mut missing = Vec::new();
    let all = message_literals();
    assert!(all.len() > 150, "{} literals", all.len());
    for (file, literal) in all {
        let piece = longest_piece(&literal);
        let wanted = squeezed(&piece);
        if words(&piece) >= 2
            && !unreachable.contains(&piece.trim())
            && !shown.contains(&wanted)
            && !tests.contains(&wanted)
        {
            missing.push(format!("{file}: {piece}"));
        }
    }
    assert!(missing.is_empty(), "add a snapshot for\n{}", missing.join("\n"));
}
