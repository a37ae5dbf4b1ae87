//! `tickets task check`: whether a program keeps to the protocol of tasks (docs/protocol.md).
//!
//! It is started as a sweep would start it and asked what a sweep would ask, then in other orders, by other processes and
//! with answers that no model should give. One line for each check.

use std::ffi::OsStr;
use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::trial::Trial;
use crate::exit::{Code, Failure};
use crate::external::{Program, Settings, Sink, quoted};

/// Arguments of `tickets task check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The program: a command and its arguments, or one text for the shell; options of the program stand behind `--`
    #[arg(value_name = "CMD", required = true, num_args = 1..)]
    pub command: Vec<String>,
    /// How many episodes of each stream and seed
    #[arg(short = 'n', long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub number: u32,
    /// Processes at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Seconds that an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub timeout: u32,
    /// Show what the program writes to standard error
    #[arg(long)]
    pub stderr: bool,
}

/// Prints the results of checks as they come.
pub(super) struct Page<'a> {
    out: &'a mut dyn Write,
    failed: usize,
    passed: usize,
}

/// What a check found out.
pub(super) enum Found {
    /// All is well.
    Fine(String),
    /// All is well, and yet it may not be meant.
    Odd(String),
    /// It is not, and what to do.
    Wrong(String, String),
}

impl Page<'_> {
    /// Prints the result of a check.
    pub fn tell(&mut self, name: &str, found: Found) {
        let (word, text, advice) = match found {
            Found::Fine(text) => ("ok", text, None),
            Found::Odd(text) => ("note", text, None),
            Found::Wrong(text, advice) => ("FAILED", text, Some(advice)),
        };
        if word == "FAILED" {
            self.failed += 1;
        } else {
            self.passed += 1;
        }
        let indented = |text: &str| text.replace('\n', "\n        ");
        let advice = advice.filter(|advice| !advice.is_empty());
        let advice = advice.map_or_else(String::new, |advice| format!("        do: {}\n", indented(&advice)));
        let page = format!("{word:<8}{name}: {}\n{advice}", indented(&text));
        // A reader that went away, as `| head` does, is no error.
        let _ = self.out.write_all(page.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// The command.
///
/// # Errors
/// Never: a check that fails is an exit code.
#[expect(clippy::unnecessary_wraps, reason = "as every command")]
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let command = match args.command.as_slice() {
        // As in a manifest.
        [line] => line.clone(),
        words => {
            let words = words.iter().map(|word| quoted(OsStr::new(word)).to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        }
    };
    let timeout = Duration::from_secs(args.timeout.into());
    let settings = Settings::new(command, None, args.workers, timeout);
    let sink: Sink = if args.stderr { Box::new(|line| eprintln!("{line}")) } else { Box::new(|_| ()) };
    let mut page = Page { out, failed: 0, passed: 0 };
    match Program::open(settings, sink) {
        Err(error) => {
            let advice = error.hint().unwrap_or_default();
            page.tell("start", Found::Wrong(error.to_string(), advice));
        }
        Ok(program) => {
            page.tell("start", Found::Fine(program.hello().to_string()));
            Trial::new(program, args.number).run(&mut page);
        }
    }
    let Page { out, failed, passed } = page;
    let total = failed + passed;
    let line = if failed == 0 {
        format!("{total} checks passed\n")
    } else {
        format!("{failed} of {total} checks failed\n")
    };
    let _ = out.write_all(line.as_bytes());
    Ok(if failed == 0 { Code::Ok } else { Code::RunsFailed })
}
