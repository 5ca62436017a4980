//! Verifies the trail of a node from its lines alone, in constant memory.

use super::Node;
use super::report::{Anchor, AnchorState, Broken, Fault, Report, Tail};
use crate::chain::{Checkpoint, Hash, NextKey, Note, Tree, VerifyingKey, leaf_hash};
use crate::record::{Body, Crash, Record, Segment, Time, parse};
use std::fmt;

/// Verifies a trail segment by segment: [`segment`](Self::segment), [`line`](Self::line) for each
/// line, [`end`](Self::end), and [`finish`](Self::finish) after the last.
pub struct Verifier {
    node: Node,
    keys: Vec<VerifyingKey>,
    /// Which of them vouched for which: as soon as that one signs, the one before must not.
    next_keys: Vec<NextKey>,
    /// Records up to here are kept elsewhere.
    archived: u64,
    /// Number of the current segment's file.
    segment: u64,
    /// Good lines of it.
    lines: u64,
    /// What the next record must follow; `None` before the first.
    last: Option<Last>,
    /// Whether the segment before could not be read to its end.
    lost: bool,
    /// The tail of the segment before, until a crash record accounts for it.
    tail: Option<(Broken, Tail)>,
    ending: Ending,
    report: Report,
}

/// The last good record.
pub(super) struct Last {
    pub tree: Tree,
    pub hash: Hash,
    pub boot: u64,
    pub segment: u64,
    time: Time,
}

/// How the boot ends, as far as it was read.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Running,
    Stopped,
    Sealed,
}

impl Verifier {
    /// Begins. Only keys with the node's name count. The anchors' signatures are the caller's to
    /// check. Records up to number `archived` may be absent.
    pub fn new(node: Node, keys: &[VerifyingKey], mut anchors: Vec<Checkpoint>, archived: u64) -> Self {
        let origin = node.origin();
        anchors.sort_by_key(|it| it.size);
        let anchors = anchors
            .into_iter()
            .map(|checkpoint| Anchor { checkpoint, state: AnchorState::Unchecked })
            .collect();
        Verifier {
            node,
            keys: keys.iter().filter(|it| it.name() == origin).cloned().collect(),
            next_keys: Vec::new(),
            archived,
            segment: 0,
            lines: 0,
            last: None,
            lost: false,
            tail: None,
            ending: Ending::Running,
            report: Report { anchors, ..Report::default() },
        }
    }

    /// Begins a segment by the number in its file's name, in rising order. Returns false if it was
    /// there before; then it must not be read again.
    pub fn segment(&mut self, segment: u64) -> bool {
        let new = segment != self.segment;
        if !new {
            let seq = self.report.last_seq;
            self.report.broken.push(Broken { segment, seq, fault: Fault::Duplicate });
        }
        (self.segment, self.lines) = (segment, if new { 0 } else { self.lines });
        new
    }

    /// Checks a line, without its line feed. After a fault the rest of the segment is its
    /// [`Tail`].
    pub fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let record = parse(line)?;
        match &record.body {
            Body::Segment(head) if self.lines == 0 => self.head(&record, head)?,
            Body::Segment(_) => return Err(Fault::Head),
            _ if self.lines == 0 => return Err(Fault::Head),
            _ => self.following(&record)?,
        }
        let Some(last) = &mut self.last else {
            return Err(Fault::Head);
        };
        self.ending = match (&record.body, self.ending) {
            (Body::Checkpoint { note }, ending) => {
                let key = check_note(note.as_bytes(), &self.keys, &self.node.origin(), &last.tree)?;
                for over in self.next_keys.extract_if(.., |it| it.to == key) {
                    self.keys.retain(|it| *it != over.from);
                }
                self.report.sealed = last.tree.size();
                if ending == Ending::Running { Ending::Running } else { Ending::Sealed }
            }
            (Body::Key { note }, _) => {
                let next = NextKey::verify(note.as_bytes(), &self.keys)?;
                self.keys.push(next.to.clone());
                self.next_keys.push(next);
                Ending::Running
            }
            (Body::Stop, _) => Ending::Stopped,
            _ => Ending::Running,
        };
        last.hash = leaf_hash(line);
        last.tree.push(last.hash);
        last.time = record.time;
        self.lines += 1;
        self.report.count(&record);
        self.report.check_anchors(&last.tree, last.time);
        if self.lines == 2 {
            self.account_for_tail(if let Body::Crash(crash) = &record.body { Some(crash) } else { None });
        }
        Ok(())
    }

    /// Ends a segment, with what follows its last good line.
    pub fn end(&mut self, tail: Option<Tail>) {
        if self.lines < 2 {
            self.account_for_tail(None);
        }
        // A file without a byte was cut, too.
        let fault = tail.map(|it| it.fault).or((self.lines == 0).then_some(Fault::Torn));
        let Some(fault) = fault else {
            self.lost = false;
            return;
        };
        self.lost = fault != Fault::Torn;
        if let Fault::Seq { expected, found } = fault
            && found > expected
        {
            self.report.missing.push((expected, found - 1));
        }
        let broken = Broken { segment: self.segment, seq: self.report.suspect(fault), fault };
        match tail {
            Some(tail) if self.lines > 0 => self.tail = Some((broken, tail)),
            _ => self.report.broken.push(broken),
        }
    }

    /// The finding.
    pub fn finish(mut self) -> Report {
        self.account_for_tail(None);
        for anchor in &mut self.report.anchors {
            if anchor.checkpoint.size > self.report.last_seq {
                anchor.state = AnchorState::Beyond;
            }
        }
        self.report
    }

    /// The keys that may sign from here on: those that were given, and those that they vouched for.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// What was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The last good record, and whether the boot ended in order with it: a checkpoint follows where the key was
    /// at hand.
    pub(super) fn into_last(self) -> Option<(Last, bool)> {
        let stopped = self.ending != Ending::Running;
        self.last.map(|last| (last, stopped))
    }

    /// Checks the head of a segment against the record before it, if that is there.
    fn head(&mut self, record: &Record, head: &Segment) -> Result<(), Fault> {
        if head.segment != self.segment || head.origin.as_bytes() != self.node.origin().as_bytes() {
            return Err(Fault::Name);
        }
        let is_first = record.seq == 1;
        if head.tree.size().checked_add(1) != Some(record.seq) || (head.segment == 1) != is_first {
            return Err(Fault::Head);
        }
        if is_first && record.prev != [0; 32] {
            return Err(Fault::Prev);
        }
        let absent = if self.last.is_none() { self.archived } else { 0 };
        let expected = self.report.last_seq.max(absent).saturating_add(1);
        match &self.last {
            Some(last) if record.seq == expected => {
                if record.prev != last.hash {
                    return Err(Fault::Prev);
                } else if head.tree != last.tree {
                    return Err(Fault::Tree);
                } else if head.segment != last.segment + 1 || head.boot.wrapping_sub(last.boot) > 1 {
                    return Err(Fault::Head);
                } else if head.boot == last.boot && record.time < last.time {
                    return Err(Fault::Time);
                }
                // Nothing is missing, so what is behind the last record was added.
                if let Some((broken, _)) = &mut self.tail
                    && broken.fault == Fault::Torn
                {
                    broken.fault = Fault::Foreign;
                }
            }
            Some(_) if record.seq < expected => return Err(Fault::Seq { expected, found: record.seq }),
            last if record.seq > expected && !self.lost => {
                self.report.missing.push((expected, record.seq - 1));
                self.report.truncated |= last.as_ref().is_some_and(|it| head.segment == it.segment + 1);
            }
            _ => {}
        }
        let last = Last {
            tree: head.tree.clone(),
            hash: record.prev,
            boot: head.boot,
            segment: head.segment,
            time: record.time,
        };
        self.report.check_anchors(&last.tree, last.time);
        self.last = Some(last);
        if let Some(note) = &head.predecessor {
            self.report.predecessor = Some(note.to_str_lossy().into_owned());
        }
        Ok(())
    }

    fn following(&self, record: &Record) -> Result<(), Fault> {
        let Some(last) = &self.last else {
            return Err(Fault::Head);
        };
        let expected = last.tree.size() + 1;
        if record.seq != expected {
            return Err(Fault::Seq { expected, found: record.seq });
        }
        if record.prev != last.hash {
            return Err(Fault::Prev);
        }
        let earliest = match &record.body {
            Body::Clock { back } => last.time.micros().saturating_sub_unsigned(*back),
            _ => last.time.micros(),
        };
        if record.time.micros() < earliest { Err(Fault::Time) } else { Ok(()) }
    }

    /// Whether the bytes at the end of the segment before are what the crash record says.
    fn account_for_tail(&mut self, crash: Option<&Crash>) {
        if let Some((broken, tail)) = self.tail.take() {
            let accounted = crash.is_some_and(|it| {
                it.segment == broken.segment && it.torn == tail.bytes && it.torn_sha256 == Some(tail.sha256)
            });
            if !accounted {
                self.report.broken.push(broken);
            }
        }
    }
}

/// Returns the key that signed it.
fn check_note(note: &[u8], keys: &[VerifyingKey], origin: &str, tree: &Tree) -> Result<VerifyingKey, Fault> {
    let note = Note::parse(note)?;
    let checkpoint = Checkpoint::parse(note.verify(keys)?)?;
    let is_ours =
        checkpoint.origin == origin && checkpoint.size == tree.size() && checkpoint.root == tree.root();
    let key = keys.iter().find(|key| note.verify(std::slice::from_ref(*key)).is_ok());
    key.filter(|_| is_ours).cloned().ok_or(Fault::Root)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}, seq {})", self.node, self.report.last_seq)
    }
}
