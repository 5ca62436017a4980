#![forbid(unsafe_code)]
//! The `pgpci` command: what belongs to pgpci but must not run inside a PostgreSQL process.

mod harden;
mod key;
mod keyd;
mod options;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keys and helpers of pgpci, the PostgreSQL extension that keeps card numbers encrypted.
#[derive(Parser)]
#[command(name = "pgpci", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the key file of provider `local`, and checks any provider's wrapping keys
    #[command(subcommand)]
    Key(key::Command),
    /// The helper that fetches keys for the server, on the socket that is its stdin
    ///
    /// The server starts it. Exit codes: 0 the server closed the socket, or SIGTERM; 1 failure
    /// of the system; 2 stdin is not a connected socket; 3 malformed frame.
    Keyd(keyd::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Key(command) => match key::run(&command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                complain(&format!("pgpci: {message}"));
                ExitCode::FAILURE
            }
        },
        Command::Keyd(options) => keyd::run(options),
    }
}

/// One line on stderr. Not `eprintln!`, which panics when stderr is gone.
fn complain(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}
