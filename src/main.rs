//! The program: parse, call the command, print its failure, end with its code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tickets::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: a stage says things from several threads.
    match cli::run(cli.command, &mut std::io::stdout()) {
        Ok(code) => code.into(),
        Err(failure) => {
            let stderr = std::io::stderr();
            // What is wrong with a manifest is underlined where it stands; see https://no-color.org for the variable.
            let color = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            let text = cli::args::drawn(&failure, color).unwrap_or_else(|| failure.to_string());
            let _ = writeln!(stderr.lock(), "{}", text.trim_end());
            failure.code.into()
        }
    }
}
