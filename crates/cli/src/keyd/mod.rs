//! `pgpci keyd`: the helper between the server's broker and the key providers.
//!
//! It is a process of its own so that nothing threaded, no vendor library and no network client
//! runs inside PostgreSQL. It says nothing but answers on its socket, and one line on stderr
//! when it must give up.

mod serve;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use pgpci_kms::Providers;
use rustix::net::{AddressFamily, SocketType, getpeername, sockopt};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::options::ProviderOptions;
use crate::{complain, harden};

/// What the helper is told at its start.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    providers: ProviderOptions,
}

/// Serves the socket that is stdin until its other end is closed.
pub fn run(options: Options) -> ExitCode {
    match served(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            complain(&format!("pgpci keyd: {}", fatal.message()));
            ExitCode::from(fatal.code())
        }
    }
}

/// Why the helper gives up.
#[derive(Debug)]
enum Fatal {
    /// A failure of the operating system, with what was being done.
    System(&'static str, std::io::Error),
    /// A task panicked: its request would never be answered.
    Internal,
    /// Stdin is not a connected AF_UNIX stream socket.
    Stdin,
    /// The bytes received are not frames.
    Malformed,
}

impl Fatal {
    fn code(&self) -> u8 {
        match self {
            Fatal::System(..) | Fatal::Internal => 1,
            Fatal::Stdin => 2,
            Fatal::Malformed => 3,
        }
    }

    fn message(&self) -> String {
        match self {
            Fatal::System(what, error) => format!("{what} failed: {error}"),
            Fatal::Internal => "a request ended in an internal error".to_string(),
            Fatal::Stdin => {
                "stdin is not a connected Unix stream socket; the server starts this command".to_string()
            }
            Fatal::Malformed => "malformed frame received".to_string(),
        }
    }
}

fn served(options: Options) -> Result<(), Fatal> {
    harden::process().map_err(|error| Fatal::System("hardening the process", error))?;
    let socket = socket()?;
    let providers = Providers::from_config(options.providers.into());
    // One thread, whose memory is locked. Further ones only look up names of hosts, and call
    // PKCS#11 modules.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::System("starting the runtime", error))?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let socket = tokio::net::UnixStream::from_std(socket)
            .map_err(|error| Fatal::System("registering the socket", error))?;
        tokio::select! {
            ended = serve::serve(socket, providers) => ended,
            _ = signals.terminate.recv() => Ok(()),
        }
    });
    // Dropping it would wait for a look-up that hangs.
    runtime.shutdown_background();
    ended
}

/// Stdin as a socket, in non-blocking mode as tokio wants it.
fn socket() -> Result<UnixStream, Fatal> {
    let stdin = std::io::stdin();
    let stdin = stdin.as_fd();
    let is_socket = sockopt::socket_domain(stdin) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(stdin) == Ok(SocketType::STREAM)
        && getpeername(stdin).is_ok();
    if !is_socket {
        return Err(Fatal::Stdin);
    }
    let duplicated = stdin.try_clone_to_owned().map(UnixStream::from);
    duplicated
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .map_err(|error| Fatal::System("taking over stdin", error))
}

/// Only the broker decides when the helper ends, by closing the socket or by SIGTERM: a Ctrl-C
/// at the terminal of the server's process group must not take the keys away. Rust itself
/// ignores SIGPIPE from the start.
struct Signals {
    terminate: Signal,
    /// Never read; having been registered is what ignores them.
    _ignored: [Signal; 2],
}

impl Signals {
    fn new() -> Result<Signals, Fatal> {
        let on = |kind| signal(kind).map_err(|error| Fatal::System("handling signals", error));
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            _ignored: [on(SignalKind::interrupt())?, on(SignalKind::hangup())?],
        })
    }
}
