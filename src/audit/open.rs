//! The trail of a boot: records made of what is in the ring, and brought to the disk in groups.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgpci_core::chain::Signer;
use pgpci_core::record::{Body, Class, Event, Time, unpack};
use pgpci_core::trail::{Due, Writer};

use super::closed::Compressor;
use super::controls::Controls;
use super::files::Files;
use super::intents::Intents;
use super::ship::Shipper;
use super::signing::{News, Signing};
use super::timeline::Known;
use super::{emit, encoding, node, retention, space};
use crate::pg::ring::{Head, Next, State};
use crate::pg::session;

/// What nobody waits for is taken out of the ring after this time at most, or when that is filled by one part in so
/// many: to be woken for each event would cost sessions more than what is written.
const GATHER: Duration = Duration::from_millis(20);
const FILLED: u64 = 8;
/// It reaches the disk within this time from then on.
const GROUP: Duration = Duration::from_millis(100);
/// Or when it is so many bytes.
pub(super) const GROUP_BYTES: usize = 1 << 20;
/// How often open intents are looked after, and the rest of the house.
const INTENTS: Duration = Duration::from_millis(10);
const HOUSE: Duration = Duration::from_secs(10);
/// How often it is looked how much room the disk has.
const SPACE: Duration = Duration::from_millis(500);

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
    /// The next signing key, vouched for by a record that is not on the disk yet.
    pub(super) next_signer: Option<Signer>,
    /// How many rotations of it were begun.
    pub(super) rotations: u64,
    pub(super) compressor: Compressor,
    /// When it was last looked for intents and old segments.
    pub(super) kept_house: Instant,
    /// When it was last looked for room on the disk.
    pub(super) looked_for_room: Option<Instant>,
    pub(super) timeline: Known,
}

impl Open {
    /// Makes records of what is in the ring; whether there may be more.
    pub(super) fn take(&mut self, head: &Head, event: &mut Vec<u8>) -> bool {
        let lost = head.take_lost();
        if lost > 0 {
            let message = "the ring was full while the trail could not be written".into();
            self.append(emit::now(), Body::Gap { lost, message });
        }
        let since = Instant::now();
        while self.files.unsynced() < GROUP_BYTES {
            let (slots, seq) = match head.next(self.read, event) {
                Next::Nothing => return false,
                Next::Event(slots) => {
                    let seq = match unpack(event) {
                        Some(mut unpacked) => {
                            encoding::to_utf8(&mut unpacked);
                            let since = (self.read >= head.dead()).then_some(since);
                            if let Some(lost) = self.intents.note(&unpacked.event, since) {
                                self.append(unpacked.time, Body::Event(Box::new(lost)));
                            }
                            self.append_event(unpacked.time, &unpacked.event)
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

    pub(super) fn append(&mut self, time: Time, body: Body) -> u64 {
        self.since.get_or_insert_with(Instant::now);
        self.writer.append(time, body, self.files.pending()).0
    }

    fn append_event(&mut self, time: Time, event: &Event) -> u64 {
        self.since.get_or_insert_with(Instant::now);
        self.writer.append_event(time, event, self.files.pending()).0
    }

    /// Controls that were changed.
    pub(super) fn note_controls(&mut self, before: &Controls, now: &Controls, event: &'static str) {
        let events: Vec<_> = now.changes_since(before, event).collect();
        for event in &events {
            self.append(emit::now(), Body::Event(Box::new(event.clone())));
        }
        if !events.is_empty() {
            now.keep();
        }
    }

    /// What need not be done every time.
    pub(super) fn keep_house(&mut self, head: &Head) {
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
        if let Some(event) = self.timeline.look() {
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
    pub(super) fn look_for_key(&mut self, head: &Head) {
        let rotations = head.rotations.load(Ordering::Acquire);
        if std::mem::replace(&mut self.rotations, rotations) != rotations {
            self.signing.rotate();
        }
        let (news, is_news) = self.signing.look();
        match news {
            Some(News::Signer(signer)) => drop(self.writer.set_signer(signer)),
            Some(News::Next(signer)) => {
                self.since.get_or_insert_with(Instant::now);
                self.writer.vouch(&signer.verifying_key(), emit::now(), self.files.pending());
                self.next_signer = Some(signer);
            }
            Some(News::Rewrapped(message)) => {
                let event = Event { success: Some(true), ..Event::new(Class::Key, message) };
                self.append(emit::now(), Body::Event(Box::new(event)));
            }
            None => {}
        }
        let complaint = self.signing.complaint();
        if is_news && !complaint.is_empty() {
            pgrx::warning!("pgpci: the audit trail: {complaint}");
        }
        if is_news && head.state() == State::Running {
            head.set_state(State::Running, complaint);
        }
    }

    pub(super) fn what_is_due(&mut self) {
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
            self.checkpoint = Some(covering(note));
        }
    }

    pub(super) fn must_flush(&self, head: &Head) -> bool {
        let is_due = self.since.is_some_and(|since| since.elapsed() >= GROUP);
        self.is_failing
            || self.files.unsynced() > 0
                && (is_due
                    || head.is_wanted(head.tail())
                    || self.files.unsynced() >= GROUP_BYTES
                    || self.read - head.tail() > head.slots() / 4
                    || head.state() != State::Running)
    }

    pub(super) fn flush(&mut self, head: &Head) -> io::Result<()> {
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
        if let Some(signer) = self.next_signer.take() {
            self.change_signer(signer);
        }
        Ok(())
    }

    /// That it was vouched for is on the disk: from now on it signs, and the one before no more.
    fn change_signer(&mut self, signer: Signer) {
        if let Err(error) = self.signing.adopt() {
            pgrx::warning!("pgpci: the next signing key of the audit trail cannot be kept: {error}");
            return;
        }
        self.writer.set_signer(signer);
        let now = emit::now();
        let note = self.writer.checkpoint(now, self.files.pending());
        self.since.get_or_insert_with(Instant::now);
        self.checkpoint = note.map(covering);
    }

    /// How long until the next round, in milliseconds.
    pub(super) fn pause(&self, head: &Head) -> i64 {
        match self.since {
            Some(since) if head.set_alarm(self.read + head.slots() / FILLED) => {
                GROUP.saturating_sub(since.elapsed()).min(GATHER).as_millis() as i64 + 1
            }
            Some(_) => 0,
            // Somebody is filling a place this very moment.
            None if head.claimed() != self.read => 1,
            None if !self.intents.is_empty() => INTENTS.as_millis() as i64,
            None if head.set_alarm(self.read) => super::trail::IDLE,
            None => 0,
        }
    }
}

/// A checkpoint's note, and how many records it covers: its second line.
fn covering(note: String) -> (String, u64) {
    let covered = note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0);
    (note, covered)
}
