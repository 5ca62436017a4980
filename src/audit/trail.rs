//! What the trail worker does: takes events from the ring, makes numbered records of them, and brings these to the
//! disk in groups.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgpci_core::record::{Body, Class, Event, Objects, unpack};
use pgpci_core::trail::{Due, Policy, Writer};

use super::closed::Compressor;
use super::files::Files;
use super::intents::Intents;
use super::node;
use super::resume::{self, Failure};
use super::ship::Shipper;
use super::signing::Signing;
use super::{emit, encoding, retention, space};
use crate::guc;
use crate::pg::ring::{Head, Next, State};
use crate::pg::trail_worker::{self, Work};
use crate::pg::{ring, session};

/// What nobody waits for reaches the disk within this time.
const GROUP: Duration = Duration::from_millis(100);
/// Or when it is so many bytes.
const GROUP_BYTES: usize = 1 << 20;
/// How often open intents are looked after, and the rest of the house.
const INTENTS: Duration = Duration::from_millis(10);
const HOUSE: Duration = Duration::from_secs(10);
/// How often it is looked how much room the disk has.
const SPACE: Duration = Duration::from_millis(500);
/// How long until a failed attempt is made again, in milliseconds.
const AGAIN: i64 = 200;
/// How long the worker sleeps when nothing happens, in milliseconds.
const IDLE: i64 = 1000;

/// Registers ring and worker; called once, while the library is preloaded.
pub fn register() {
    ring::register(guc::AUDIT_BUFFER.get());
    trail_worker::register(|| {
        emit::is_writer();
        Box::new(Trail { open: None, event: Vec::new(), complaint: String::new(), controls: controls() })
    });
}

struct Trail {
    open: Option<Open>,
    event: Vec<u8>,
    complaint: String,
    /// The settings of the trail, as they were last read.
    controls: Vec<(&'static str, String)>,
}

/// The trail of this boot.
pub struct Open {
    pub(super) writer: Writer,
    pub(super) files: Files,
    /// Up to here the ring was read.
    pub(super) read: u64,
    /// When the oldest line came that is not on the disk.
    pub(super) since: Option<Instant>,
    /// A checkpoint that is kept once it is on the disk, and how many records it covers.
    pub(super) checkpoint: Option<(String, u64)>,
    pub(super) is_failing: bool,
    pub(super) intents: Intents,
    pub(super) shipper: Shipper,
    pub(super) signing: Signing,
    pub(super) compressor: Compressor,
    /// When it was last looked for intents and old segments.
    pub(super) kept_house: Instant,
    /// When it was last looked for room on the disk.
    pub(super) looked_for_room: Option<Instant>,
}

impl Work for Trail {
    fn round(&mut self) -> i64 {
        let Some(head) = ring::head() else { return IDLE };
        if self.open.is_none() {
            match resume::resume(head, policy()) {
                Ok(open) => self.open = Some(open),
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
        let controls = controls();
        let before = std::mem::replace(&mut self.controls, controls.clone());
        let Some(open) = &mut self.open else { return };
        open.writer.set_policy(policy());
        open.signing.try_now();
        for ((name, old), (_, new)) in before.into_iter().zip(controls).filter(|(old, new)| old != new) {
            let object = [format!("setting {name}").into()];
            let event = Event {
                objects: Objects::Borrowed(&object),
                message: Some(format!("{old} -> {new}").into()),
                success: Some(true),
                ..Event::new(Class::Config, "RELOAD")
            };
            open.append(emit::now(), Body::Event(Box::new(event)));
        }
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

/// What turns the trail up or down.
fn controls() -> Vec<(&'static str, String)> {
    vec![
        ("pgpci.audit_scope", format!("{:?}", guc::AUDIT_SCOPE.get()).to_lowercase()),
        ("pgpci.audit_on_failure", format!("{:?}", guc::AUDIT_ON_FAILURE.get()).to_lowercase()),
        ("pgpci.audit_retention", format!("{} days", guc::AUDIT_RETENTION.get())),
        ("pgpci.audit_checkpoint_interval", format!("{} s", guc::AUDIT_CHECKPOINT_INTERVAL.get())),
    ]
}

fn policy() -> Policy {
    Policy {
        segment_bytes: (guc::AUDIT_SEGMENT_SIZE.get() as u64) << 20,
        segment_micros: i64::from(guc::AUDIT_SEGMENT_AGE.get()) * 60_000_000,
        checkpoint_micros: i64::from(guc::AUDIT_CHECKPOINT_INTERVAL.get()) * 1_000_000,
        ..Policy::default()
    }
}

impl Open {
    /// Makes records of what is in the ring; whether there may be more.
    fn take(&mut self, head: &Head, event: &mut Vec<u8>) -> bool {
        let lost = head.take_lost();
        if lost > 0 {
            let message = "the ring was full while the trail could not be written".into();
            self.append(emit::now(), Body::Gap { lost, message });
        }
        while self.files.unsynced() < GROUP_BYTES {
            let (slots, seq) = match head.next(self.read, event) {
                Next::Nothing => return false,
                Next::Event(slots) => {
                    let seq = match unpack(event) {
                        Some(mut unpacked) => {
                            encoding::to_utf8(&mut unpacked);
                            let since = (self.read >= head.dead()).then(Instant::now);
                            self.intents.note(&unpacked.event, since);
                            self.append(unpacked.time, Body::Event(Box::new(unpacked.event)))
                        }
                        None => self.append(emit::now(), Body::Torn { pid: 0 }),
                    };
                    (slots, seq)
                }
                Next::Torn { slots, pid } => (slots, self.append(emit::now(), Body::Torn { pid })),
            };
            head.set_seq(self.read, seq);
            self.read += slots;
        }
        true
    }

    fn append(&mut self, time: pgpci_core::record::Time, body: Body) -> u64 {
        self.since.get_or_insert_with(Instant::now);
        self.writer.append(time, body, self.files.pending()).0
    }

    /// What need not be done every time.
    fn keep_house(&mut self, head: &Head) {
        self.shipper.look(head);
        self.look_for_room(head);
        self.compressor.look(|| self.files.first_open());
        // Soon after a crash nobody has used a transaction's number again.
        let pause = if self.intents.is_empty() { HOUSE } else { INTENTS };
        if self.kept_house.elapsed() < pause {
            return;
        }
        self.kept_house = Instant::now();
        for event in self.intents.closed() {
            self.append(emit::now(), Body::Event(Box::new(event)));
        }
        if let Some(event) = retention::look(head, &self.writer.file_name()) {
            self.append(emit::now(), Body::Event(Box::new(event)));
        }
    }

    fn look_for_room(&mut self, head: &Head) {
        if self.looked_for_room.is_none_or(|then| then.elapsed() >= SPACE) {
            self.looked_for_room = Some(Instant::now());
            if let Some(event) = space::look(head) {
                self.append(emit::now(), Body::Event(Box::new(event)));
            }
        }
    }

    /// Checkpoints wait for the signing key, records do not.
    fn look_for_key(&mut self, head: &Head) {
        let (signer, is_news) = self.signing.look();
        if let Some(signer) = signer {
            self.writer.set_signer(signer);
        }
        let complaint = self.signing.complaint();
        if is_news && !complaint.is_empty() {
            pgrx::warning!("pgpci: the audit trail: {complaint}");
        }
        if is_news && head.state() == State::Running {
            head.set_state(State::Running, complaint);
        }
    }

    fn what_is_due(&mut self) {
        let now = emit::now();
        let note = match self.writer.due(now) {
            Due::Nothing => return,
            Due::Checkpoint => self.writer.checkpoint(now, self.files.pending()),
            Due::Rotate => {
                let mut next = Vec::new();
                let note = self.writer.rotate(now, self.files.pending(), &mut next);
                self.files.begin(&self.writer.file_name(), next);
                self.compressor.closed();
                note
            }
        };
        self.since.get_or_insert_with(Instant::now);
        if let Some(note) = note {
            self.checkpoint = Some((note, self.writer.seq()));
        }
    }

    fn must_flush(&self, head: &Head) -> bool {
        let is_due = self.since.is_some_and(|since| since.elapsed() >= GROUP);
        self.is_failing
            || self.files.unsynced() > 0
                && (is_due
                    || head.is_wanted(head.tail())
                    || self.files.unsynced() >= GROUP_BYTES
                    || self.read - head.tail() > head.slots() / 4
                    || head.state() != State::Running)
    }

    fn flush(&mut self, head: &Head) -> io::Result<()> {
        let done = self.files.flush();
        self.is_failing = done.is_err();
        done?;
        self.since = None;
        head.seq.store(self.writer.seq(), Ordering::Relaxed);
        head.segment.store(self.writer.segment(), Ordering::Relaxed);
        head.syncs.fetch_add(1, Ordering::Relaxed);
        head.synced_at.store(session::now() as u64, Ordering::Relaxed);
        head.durable(self.read);
        // Not before it is on the disk is it told to others.
        if let Some((note, covered)) = self.checkpoint.take() {
            if let Err(error) = node::replace(&node::checkpoint(), note.as_bytes(), 0o600) {
                pgrx::warning!("pgpci: the last checkpoint of the audit trail cannot be kept: {error}");
            }
            head.sealed.store(covered, Ordering::Relaxed);
            self.shipper.ship(note, covered);
        }
        Ok(())
    }

    /// How long until the next round, in milliseconds.
    fn pause(&self, head: &Head) -> i64 {
        if head.claimed() != self.read {
            // Somebody is filling a place this very moment, or there is more than a group.
            return 1;
        }
        match self.since {
            Some(since) => GROUP.saturating_sub(since.elapsed()).as_millis() as i64 + 1,
            None if !self.intents.is_empty() => INTENTS.as_millis() as i64,
            None if head.may_idle(self.read) => IDLE,
            None => 0,
        }
    }
}
