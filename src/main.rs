//! The program: parse, call the command, print its failure, end with its code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tickets::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli::run(cli.command, &mut std::io::stdout().lock()) {
        Ok(code) => code.into(),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.code.into()
        }
    }
}
