//! Checkpoints on their way to another place: by a command that gets each on its standard input. What was taken there
//! proves what the trail was, whoever has its key.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::node;
use crate::guc;
use crate::pg::helper;
use crate::pg::ring::Head;

/// A command that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Ships one checkpoint at a time; of those that come meanwhile, the last.
#[derive(Default)]
pub struct Shipper {
    running: Option<(Child, u64, Instant)>,
    next: Option<(String, u64)>,
    is_read: bool,
}

/// The file of how many records the newest checkpoint covers that is elsewhere.
pub fn file() -> PathBuf {
    crate::directory::path().join("trail.shipped")
}

/// A checkpoint over so many records is elsewhere now.
pub fn is_elsewhere(records: u64) -> std::io::Result<()> {
    node::replace(&file(), format!("{records}\n").as_bytes(), 0o600)
}

/// See `is_elsewhere`.
pub fn elsewhere() -> u64 {
    fs::read_to_string(file()).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl Shipper {
    /// A checkpoint over so many records is on the disk.
    pub fn ship(&mut self, note: String, records: u64) {
        self.next = Some((note, records));
    }

    /// Looks after the command. Never waits.
    pub fn look(&mut self, head: &Head) {
        if !self.is_read {
            self.is_read = true;
            head.shipped.store(elsewhere(), Ordering::Relaxed);
        }
        if let Some((child, records, since)) = &mut self.running {
            match child.try_wait() {
                Ok(None) if since.elapsed() < STUCK => return,
                Ok(Some(status)) if status.success() => {
                    if is_elsewhere(*records).is_ok() {
                        head.shipped.store(*records, Ordering::Relaxed);
                    }
                }
                Ok(Some(status)) => pgrx::warning!("pgpci: pgpci.audit_checkpoint_command failed: {status}"),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    pgrx::warning!("pgpci: pgpci.audit_checkpoint_command did not end");
                }
            }
            self.running = None;
        }
        let command = guc::AUDIT_CHECKPOINT_COMMAND.get().filter(|it| !it.is_empty());
        if let (Some(command), Some((note, records))) = (command, self.next.take()) {
            match start(OsString::from_vec(command.into_bytes()), &note) {
                Ok(child) => self.running = Some((child, records, Instant::now())),
                Err(error) => {
                    pgrx::warning!("pgpci: pgpci.audit_checkpoint_command cannot be started: {error}")
                }
            }
        }
    }
}

fn start(command: OsString, note: &str) -> std::io::Result<Child> {
    let mut child = helper::shell(&command)?;
    // A note fits into a pipe. Whether the command reads it is its own matter.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(note.as_bytes()));
    Ok(child)
}
