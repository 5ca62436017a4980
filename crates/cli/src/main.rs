#![forbid(unsafe_code)]
//! The `pgpci` command: what belongs to pgpci but must not run inside a PostgreSQL process.

mod compress;
mod harden;
mod key;
mod keyd;
mod options;
mod verify;

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
    /// Verifies an audit trail offline: that it is whole, unchanged and signed
    ///
    /// Exit codes: 0 OK; 1 the system failed; 2 wrong usage; 3 tampered: records were changed,
    /// added, removed or put elsewhere; 4 truncated: records are missing at the end of the trail or
    /// of a segment; 5 incomplete: segments are missing or could not be checked; 6 unanchored:
    /// nothing is wrong, but without a checkpoint that was kept elsewhere a trail that was cut
    /// short or put back looks the same.
    Verify(verify::Options),
    /// Compresses a closed segment of an audit trail; the server runs it
    Compress(compress::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Key(command) => done(key::run(&command)),
        Command::Compress(options) => done(compress::run(&options)),
        Command::Keyd(options) => keyd::run(options),
        Command::Verify(options) => verify::run(&options),
    }
}

fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&format!("pgpci: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on stderr. Not `eprintln!`, which panics when stderr is gone.
fn complain(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}
