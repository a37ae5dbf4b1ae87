//! Transcripts: files, a command line, and what the real program says to it.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a command said on standard error, and how it ended.
pub struct Said {
    pub text: String,
    pub code: i32,
}

/// A file of a transcript: its name, perhaps an encoding, and its text.
pub struct File<'t> {
    pub name: &'t str,
    pub latin1: bool,
    pub text: String,
}

/// Runs a command line such as `TICKETS_SEED=1 tickets plan m.toml --set 'mask.type="full"'` in a new folder with
/// these files. No other setting of the environment gets through.
#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
pub fn say(files: &[File<'_>], line: &str) -> Said {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in files {
        let path = folder.path().join(file.name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        let latin1 = || file.text.chars().map(|c| u8::try_from(c).expect("Latin-1")).collect::<Vec<_>>();
        let bytes = if file.latin1 { latin1() } else { file.text.clone().into_bytes() };
        std::fs::write(path, bytes).expect("written");
    }
    let mut words = words(line).into_iter().peekable();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickets"));
    command.current_dir(folder.path()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TICKETS_") {
            command.env_remove(name);
        }
    }
    while let Some((name, value)) =
        words.peek().filter(|word| word.starts_with("TICKETS_")).and_then(|word| word.split_once('='))
    {
        command.env(name, value);
        words.next();
    }
    assert_eq!(words.next().as_deref(), Some("tickets"), "{line}");
    let ended = command.args(words).output().expect("the program starts");
    let code = ended.status.code().expect("not killed");
    assert!(
        code == 0 || ended.stdout.is_empty(),
        "{line}: a refused command says why on standard error alone"
    );
    Said { text: String::from_utf8(ended.stderr).expect("UTF-8"), code }
}

/// The words of a command line; single quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars().chain([' ']) {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    assert!(!quoted, "an open quote: {line}");
    words
}

/// Whether snapshots are to be written anew.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1")
}

/// Compares a file with what it should hold, or writes it. What differs is returned.
#[expect(clippy::disallowed_methods, reason = "snapshots are rewritten on request")]
pub fn settle(path: &Path, old: &str, new: &str) -> Option<String> {
    if updating() {
        std::fs::write(path, new).expect("written");
        return None;
    }
    (old != new).then(|| format!("{}\n--- recorded\n{old}\n+++ found\n{new}", path.display()))
}
