//! What the trail worker does, round after round: begins, goes on, complains, and ends.

use std::io;

use pgpci_core::record::{Body, Class, Event};
use pgpci_core::trail::Policy;

use super::controls::Controls;
use super::open::{GROUP_BYTES, Open};
use super::resume::{self, Failure};
use super::{emit, node, space};
use crate::guc;
use crate::pg::ring;
use crate::pg::ring::{Head, State};
use crate::pg::trail_worker::{self, Work};

/// How long until a failed attempt is made again, in milliseconds.
const AGAIN: i64 = 200;
/// How long the worker sleeps when nothing happens, in milliseconds.
pub(super) const IDLE: i64 = 1000;

/// Registers ring and worker; called once, while the library is preloaded.
pub fn register() {
    ring::register(guc::AUDIT_BUFFER.get());
    trail_worker::register(|| {
        emit::is_writer();
        Box::new(Trail { open: None, event: Vec::new(), complaint: String::new(), controls: Controls::now() })
    });
}

struct Trail {
    open: Option<Open>,
    event: Vec<u8>,
    complaint: String,
    /// The controls, as they were last read.
    controls: Controls,
}

impl Work for Trail {
    fn round(&mut self) -> i64 {
        let Some(head) = ring::head() else { return IDLE };
        if self.open.is_none() {
            match resume::resume(head, policy()) {
                Ok(mut open) => {
                    // None at the very first start.
                    if let Some(before) = Controls::kept() {
                        open.note_controls(&before, &self.controls, "RESTART");
                    } else {
                        self.controls.keep();
                    }
                    self.open = Some(open);
                }
                Err(failure) => {
                    self.complain(head, &failure);
                    return IDLE;
                }
            }
        }
        let Some(open) = &mut self.open else { return IDLE };
        if !open.is_failing {
            open.take(head, &mut self.event);
            open.keep_house(head);
            open.look_for_key(head);
            open.what_is_due();
        }
        if !open.must_flush(head) {
            return open.pause(head);
        }
        match open.flush(head) {
            Ok(()) => {
                self.is_well(head);
                0
            }
            Err(error) => {
                space::measure(head);
                self.complain(head, &Failure::Io(error));
                AGAIN
            }
        }
    }

    fn reloaded(&mut self) {
        let now = Controls::now();
        let before = std::mem::replace(&mut self.controls, now.clone());
        let Some(open) = &mut self.open else { return };
        open.writer.set_policy(policy());
        open.signing.try_now();
        open.note_controls(&before, &now, "RELOAD");
    }

    fn end(&mut self) -> bool {
        let (Some(head), Some(mut open)) = (ring::head(), self.open.take()) else { return true };
        while !open.is_failing && open.take(head, &mut self.event) {
            if open.files.unsynced() > GROUP_BYTES && open.flush(head).is_err() {
                break;
            }
        }
        if open.flush(head).is_err() {
            self.open = Some(open);
            return false;
        }
        let Open { writer, mut files, .. } = open;
        let note = writer.stop(emit::now(), files.pending());
        if files.flush().is_ok() {
            let _ = note.map(|note| node::replace(&node::checkpoint(), note.as_bytes(), 0o600));
            head.set_state(State::Starting, "the server stops");
        }
        true
    }
}

impl Trail {
    fn complain(&mut self, head: &Head, failure: &Failure) {
        let (state, why) = match failure {
            Failure::Io(error) => (state_of(error), error.to_string()),
            Failure::Recovery(error, segment) => (State::Refusing, format!("{segment}: {error}")),
        };
        head.set_state(state, &why);
        if self.complaint != why {
            pgrx::warning!("pgpci: the audit trail cannot be written: {why}");
            self.complaint = why;
        }
    }

    fn is_well(&mut self, head: &Head) {
        if head.state() != State::Running {
            let why = self.open.as_ref().map_or("", |open| open.signing.complaint());
            head.set_state(State::Running, why);
        }
        if !self.complaint.is_empty() {
            pgrx::warning!("pgpci: the audit trail is written again");
            let message = format!("the audit trail could not be written: {}", self.complaint);
            self.complaint.clear();
            // That it failed is an event by itself (PCI DSS 10.7.2).
            let event = Event {
                message: Some(message.into()),
                success: Some(false),
                ..Event::new(Class::Audit, "FAILURE")
            };
            if let Some(open) = &mut self.open {
                open.append(emit::now(), Body::Event(Box::new(event)));
            }
        }
    }
}

fn state_of(error: &io::Error) -> State {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => State::Full,
        _ => State::Failing,
    }
}

fn policy() -> Policy {
    Policy {
        segment_bytes: (guc::AUDIT_SEGMENT_SIZE.get() as u64) << 20,
        segment_micros: i64::from(guc::AUDIT_SEGMENT_AGE.get()) * 60_000_000,
        checkpoint_micros: i64::from(guc::AUDIT_CHECKPOINT_INTERVAL.get()) * 1_000_000,
        ..Policy::default()
    }
}
