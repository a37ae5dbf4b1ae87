//! Placeholder of the house branch; the lead's replaces it.

use clap::Parser;

#[derive(Parser)]
enum Command {
    Doctor(tickets::cli::doctor::DoctorArgs),
}

fn main() -> std::process::ExitCode {
    let Command::Doctor(args) = Command::parse();
    tickets::cli::doctor::run(&args, &mut std::io::stdout()).map_or(1.into(), Into::into)
}
