//! Where the trail goes on when the worker starts.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pgpci_core::chain::{Checkpoint, Note};
use pgpci_core::record::Limits;
use pgpci_core::trail::{Policy, RecoveryError, Start, State, Writer, recover};

use super::closed::{self, Compressor};
use super::emit;
use super::files::{self, Files};
use super::intents::Intents;
use super::node;
use super::open::Open;
use super::ship::Shipper;
use super::signing::Signing;
use crate::pg::ring::{Head, Next};
use crate::pg::session;

/// Why the trail is not written.
pub enum Failure {
    /// The disk's fault.
    Io(io::Error),
    /// The trail's own, in that file.
    Recovery(RecoveryError, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// Goes on where the last boot ended.
pub fn resume(head: &Head, policy: Policy) -> Result<Open, Failure> {
    let mut identity = node::identify()?;
    let (node, keys, predecessor) = (identity.node, identity.vkeys.clone(), identity.predecessor.take());
    let directory = node::segments();
    let kept = std::fs::read(node::checkpoint()).ok();
    let kept = kept.and_then(|note| {
        let text = Note::parse(&note).ok()?.verify(&keys).ok()?.to_owned();
        Checkpoint::parse(&text).ok()
    });
    let mut state = State::default();
    let mut list = files::list(&directory, node)?;
    closed::remove_doubles(&mut list)?;
    // Nothing there, though there was: it is put back, too.
    if list.is_empty() && kept.is_some() {
        return Err(Failure::Recovery(RecoveryError::PutBack, directory.display().to_string()));
    }
    let mut intents = Intents::default();
    while let Some((segment, path)) = list.last().cloned() {
        let bytes = closed::read(&path)?;
        match recover(node, &keys, kept.iter().cloned().collect(), segment, &bytes) {
            Ok(recovered) => {
                state = recovered.state;
                if state.crash.is_some() {
                    intents = Intents::left_open(&list)?;
                }
                break;
            }
            Err(RecoveryError::Empty) if list.len() > 1 || kept.is_none() => {
                std::fs::remove_file(&path)?;
                list.pop();
            }
            Err(error) => return Err(Failure::Recovery(error, path.display().to_string())),
        }
    }
    // What the worker before this one wrote is not written again.
    let read = skip_written(head, state.tree.size());
    let boot = state.boot + 1;
    let server_version = session::server_version();
    let start = Start {
        server_version: &server_version,
        pgpci_version: env!("CARGO_PKG_VERSION"),
        predecessor: predecessor.as_deref(),
    };
    let mut first = Vec::new();
    let writer =
        Writer::start(node, None, (Limits::default(), policy), state, &start, emit::now(), &mut first)
            .ok_or_else(|| io::Error::other("the signing key is another node's"))?;
    let mut files = Files::new(directory, &writer.file_name());
    files.pending().append(&mut first);
    let since = Some(Instant::now());
    head.boot.store(boot, Ordering::Relaxed);
    let open = Open {
        writer,
        files,
        read,
        since,
        checkpoint: None,
        is_failing: false,
        intents,
        shipper: Shipper::default(),
        signing: Signing::new(identity),
        next_signer: None,
        rotations: head.rotations.load(Ordering::Acquire),
        compressor: Compressor::default(),
        kept_house: Instant::now(),
        looked_for_room: None,
        timeline: Default::default(),
    };
    Ok(open)
}

/// The first place in the ring of which no record is on the disk.
fn skip_written(head: &Head, last_seq: u64) -> u64 {
    let (mut place, mut event) = (head.tail(), Vec::new());
    while let Next::Event(slots) | Next::Torn { slots, .. } = head.next(place, &mut event) {
        if !(1..=last_seq).contains(&head.seq_at(place)) {
            break;
        }
        place += slots;
    }
    // From here on all is numbered anew.
    (place..head.claimed()).for_each(|it| head.set_seq(it, 0));
    place
}
