//! The key command of provider `local`: its stdout is the key file's content, as with
//! PostgreSQL's `ssl_passphrase_command`.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use pgpci_core::wire::{Failure, FailureKind};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::keyfile::{self, WrappingKey};

/// The longest a key command may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Runs `command` by `/bin/sh -c`, as PostgreSQL does with its commands, in a process group of its
/// own. Its stderr is the server log's. Beyond [`LIMIT`], or when nobody waits any more, the whole
/// group is killed.
pub async fn run(command: &str) -> Result<WrappingKey, Failure> {
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::new(FailureKind::Unavailable, format!("the key command cannot be started: {error}"))
        })?;
    let mut group = Group { pid: child.id().and_then(|id| Pid::from_raw(id.cast_signed())) };
    match tokio::time::timeout(LIMIT, key(child)).await {
        Ok(result) => {
            // The shell is gone, and so its number may be somebody else's.
            group.pid = None;
            result
        }
        Err(_) => Err(Failure::new(
            FailureKind::Unavailable,
            format!("make the key command quicker: it took more than {} s", LIMIT.as_secs()),
        )),
    }
}

async fn key(mut child: Child) -> Result<WrappingKey, Failure> {
    let lost = |error: std::io::Error| {
        Failure::new(FailureKind::Unavailable, format!("reading from the key command failed: {error}"))
    };
    let mut stdout = child.stdout.take().ok_or_else(|| lost(ErrorKind::BrokenPipe.into()))?;
    let mut content = keyfile::buffer();
    let mut len = 0;
    while let Some(rest) = content.get_mut(len..)
        && !rest.is_empty()
    {
        match stdout.read(rest).await.map_err(lost)? {
            0 => break,
            more => len += more,
        }
    }
    // One that has more to say learns that nobody listens.
    drop(stdout);
    let status = child.wait().await.map_err(lost)?;
    let key = keyfile::parse(content.get(..len).unwrap_or_default());
    match (status.success(), key) {
        (true, Ok(key)) => Ok(key),
        (true, Err(_)) => Err(Failure::new(
            FailureKind::Invalid,
            "make the key command write one line, the content of a key file: what it wrote is none",
        )),
        (false, _) => {
            Err(Failure::new(FailureKind::Refused, format!("see to the key command: it ended with {status}")))
        }
    }
}

/// The processes of a command that has not ended; killed when dropped.
struct Group {
    pid: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // Gone already is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
