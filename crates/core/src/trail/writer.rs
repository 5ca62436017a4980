//! Turns records into bytes of segment files.

use super::Node;
use crate::chain::{Checkpoint, Hash, NextKey, Signer, Tree, VerifyingKey, leaf_hash};
use crate::record::{Body, Crash, Event, Limits, Record, Segment, Text, Time, encode, encode_event};

/// Backward steps of the clock up to this many microseconds are levelled: processes that take the
/// time before they queue an event come in another order.
const LEVELLED: i64 = 2_000_000;

/// When segments and checkpoints end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A segment's size in bytes after which the next begins.
    pub segment_bytes: u64,
    /// A segment's age in microseconds after which the next begins.
    pub segment_micros: i64,
    /// Microseconds between checkpoints; they are signs of life, too, and come without events.
    pub checkpoint_micros: i64,
    /// Records after which a checkpoint is due sooner.
    pub checkpoint_records: u64,
}

impl Default for Policy {
    /// 64 MiB or a day; a minute or 10,000 records.
    fn default() -> Self {
        Policy {
            segment_bytes: 64 << 20,
            segment_micros: 86_400_000_000,
            checkpoint_micros: 60_000_000,
            checkpoint_records: 10_000,
        }
    }
}

/// Where a trail goes on: [`State::default`] for the first segment of a node, or as recovered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The tree over all lines.
    pub tree: Tree,
    /// Hash of the last line.
    pub prev: Hash,
    /// Number of the last segment, 0 before the first.
    pub segment: u64,
    /// Number of the last boot, 0 before the first.
    pub boot: u64,
    /// What the last boot left behind, if it did not stop in order.
    pub crash: Option<Crash>,
}

/// What a boot begins with.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// Version of PostgreSQL.
    pub server_version: &'a str,
    /// Version of pgpci.
    pub pgpci_version: &'a str,
    /// For a node's first segment only: the last checkpoint of the trail that it goes on from.
    pub predecessor: Option<&'a str>,
}

/// What should be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// [`Writer::checkpoint`].
    Checkpoint,
    /// [`Writer::rotate`].
    Rotate,
}

/// Writes the trail of one boot.
///
/// Bytes are durable when the caller has synced them, in the order they came; a checkpoint goes to
/// others, and a record's success to a client, after that and not before.
pub struct Writer {
    /// `None` until the key is at hand: records go on, checkpoints wait.
    signer: Option<Signer>,
    node: Node,
    limits: Limits,
    policy: Policy,
    tree: Tree,
    prev: Hash,
    segment: u64,
    boot: u64,
    last: Time,
    /// Of the current segment.
    opened: Time,
    bytes: u64,
    checkpointed: Time,
    /// Records since the last checkpoint.
    pending: u64,
}

impl Writer {
    /// Begins a boot: the first lines of a new segment file go to `out`. `None` if the key is not
    /// the node's: its name must be [`Node::origin`]. A key that is not at hand yet is given later.
    pub fn start(
        node: Node,
        signer: impl Into<Option<Signer>>,
        (limits, policy): (Limits, Policy),
        state: State,
        start: &Start,
        now: Time,
        out: &mut Vec<u8>,
    ) -> Option<Writer> {
        let signer = signer.into();
        if signer.as_ref().is_some_and(|it| it.name() != node.origin()) {
            return None;
        }
        let State { tree, prev, segment, boot, crash } = state;
        let boot = boot + 1;
        let mut writer = Writer {
            signer,
            node,
            limits,
            policy,
            tree,
            prev,
            segment,
            boot,
            last: now,
            opened: now,
            bytes: 0,
            checkpointed: now,
            pending: 0,
        };
        writer.open(now, start.predecessor, out);
        if let Some(crash) = crash {
            writer.append(now, Body::Crash(crash), out);
        }
        let (server_version, pgpci_version) = (start.server_version.into(), start.pgpci_version.into());
        writer.append(now, Body::Start { server_version, pgpci_version }, out);
        Some(writer)
    }

    /// The file that the bytes belong to.
    pub fn file_name(&self) -> String {
        self.node.file_name(self.segment)
    }

    /// From now on, segments and checkpoints end otherwise.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The key is at hand: checkpoints begin. False if it is another node's.
    pub fn set_signer(&mut self, signer: Signer) -> bool {
        let is_ours = signer.name() == self.node.origin();
        if is_ours {
            self.signer = Some(signer);
        }
        is_ours
    }

    /// The key that signs so far vouches for the next one. That one is given, by [`set_signer`](Self::set_signer), when
    /// the record is durable. False if there is no key that could vouch, or the next one is another node's.
    pub fn vouch(&mut self, next: &VerifyingKey, now: Time, out: &mut Vec<u8>) -> bool {
        let note = self.signer.as_ref().and_then(|signer| NextKey::note(signer, next));
        if let Some(note) = &note {
            self.append(now, Body::Key { note: note.as_str().into() }, out);
        }
        note.is_some()
    }

    /// Number of the current segment.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Number of the last record.
    pub fn seq(&self) -> u64 {
        self.tree.size()
    }

    /// Appends a record's line. Returns its number and hash.
    pub fn append(&mut self, time: Time, body: Body, out: &mut Vec<u8>) -> (u64, Hash) {
        self.advance(time, out);
        self.line(body, out)
    }

    /// The same for an event, which is only looked at.
    pub fn append_event(&mut self, time: Time, event: &Event, out: &mut Vec<u8>) -> (u64, Hash) {
        self.advance(time, out);
        self.count_line(out, |writer, seq, out| {
            encode_event(seq, &writer.prev, writer.last, event, &writer.limits, out)
        })
    }

    /// What is due at that time.
    pub fn due(&self, now: Time) -> Due {
        let since = |then: Time| now.micros().saturating_sub(then.micros());
        if self.bytes >= self.policy.segment_bytes || since(self.opened) >= self.policy.segment_micros {
            Due::Rotate
        } else if self.signer.is_some()
            && (self.pending >= self.policy.checkpoint_records
                || since(self.checkpointed) >= self.policy.checkpoint_micros)
            // The clock was set back: to be recorded now, not when the next event comes.
            || since(self.last) < -LEVELLED
        {
            Due::Checkpoint
        } else {
            Due::Nothing
        }
    }

    /// Appends a checkpoint of all records so far, and returns it as a signed note for others to
    /// keep; `None` as long as the key is not at hand.
    pub fn checkpoint(&mut self, now: Time, out: &mut Vec<u8>) -> Option<String> {
        // Before the tree is signed: it may take a record.
        self.advance(now, out);
        let signer = self.signer.as_ref()?;
        let origin = signer.name().to_string();
        let checkpoint = Checkpoint { origin, size: self.tree.size(), root: self.tree.root() };
        let note = signer.sign(&checkpoint.text());
        self.line(Body::Checkpoint { note: note.as_str().into() }, out);
        self.checkpointed = now;
        self.pending = 0;
        Some(note)
    }

    /// Ends the segment with a checkpoint, which is returned, and begins the next: its first line
    /// goes to `next`. The old file must be durable before the new one is.
    pub fn rotate(&mut self, now: Time, out: &mut Vec<u8>, next: &mut Vec<u8>) -> Option<String> {
        let note = self.checkpoint(now, out);
        self.open(now, None, next);
        note
    }

    /// Ends the boot in order. Returns the last checkpoint.
    pub fn stop(mut self, now: Time, out: &mut Vec<u8>) -> Option<String> {
        self.append(now, Body::Stop, out);
        self.checkpoint(now, out)
    }

    fn open(&mut self, now: Time, predecessor: Option<&str>, out: &mut Vec<u8>) {
        self.segment += 1;
        let first = self.tree.size() == 0;
        let segment = Segment {
            segment: self.segment,
            origin: Text::from(self.node.origin()),
            boot: self.boot,
            tree: self.tree.clone(),
            predecessor: predecessor.filter(|_| first).map(Text::from),
        };
        self.bytes = 0;
        self.last = self.last.max(now);
        self.opened = self.last;
        self.line(Body::Segment(segment), out);
    }

    /// Makes it that time for the next record.
    fn advance(&mut self, time: Time, out: &mut Vec<u8>) {
        let back = self.last.micros().saturating_sub(time.micros());
        if back > LEVELLED {
            self.last = time;
            // What is due by the clock stays so.
            self.opened = self.opened.min(time);
            self.checkpointed = self.checkpointed.min(time);
            self.line(Body::Clock { back: back.unsigned_abs() }, out);
        }
        self.last = self.last.max(time);
    }

    fn line(&mut self, body: Body, out: &mut Vec<u8>) -> (u64, Hash) {
        self.count_line(out, |writer, seq, out| {
            let record = Record { seq, prev: writer.prev, time: writer.last, body };
            encode(&record, &writer.limits, out)
        })
    }

    fn count_line(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&Self, u64, &mut Vec<u8>)) -> (u64, Hash) {
        let (seq, start) = (self.tree.size() + 1, out.len());
        write(self, seq, out);
        self.prev = leaf_hash(&out[start..]);
        self.tree.push(self.prev);
        out.push(b'\n');
        self.bytes += (out.len() - start) as u64;
        self.pending += 1;
        (seq, self.prev)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({}, seq {})", self.file_name(), self.seq())
    }
}
