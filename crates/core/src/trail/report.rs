//! What the verifier finds.

use crate::chain::{Checkpoint, Hash, NoteError, Tree};
use crate::record::{Body, ParseError, Record, Time};

/// The whole finding, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is there and unchanged, up to an anchor that was kept elsewhere at least.
    Ok,
    /// Nothing contradicts; but without an anchor a trail cut short or put back looks the same.
    Unanchored,
    /// Segments are missing, or could not be checked.
    Incomplete,
    /// Records at the end of the trail or of a segment are missing.
    Truncated,
    /// Records were changed, added, removed or put elsewhere.
    Tampered,
}

impl Verdict {
    /// As it is printed, in SQL and by the command.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unanchored => "unanchored",
            Verdict::Incomplete => "incomplete",
            Verdict::Truncated => "truncated",
            Verdict::Tampered => "tampered",
        }
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No record, or none in canonical form.
    #[error("{0}")]
    Line(#[from] ParseError),
    /// The file ends within a line.
    #[error("file ends within a line")]
    Torn,
    /// Bytes at the end of a segment, of which the next says nothing.
    #[error("bytes that no crash accounts for")]
    Foreign,
    /// Another number than the one that follows.
    #[error("record has number {found}, not {expected}")]
    Seq {
        /// What should have come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The previous record is not the one that this one was written after.
    #[error("record does not match the hash that the next one has of it")]
    Prev,
    /// The time is before that of the previous record of the same boot.
    #[error("time goes back")]
    Time,
    /// A segment does not begin with its own head, or has another inside.
    #[error("segment has a wrong head")]
    Head,
    /// The head is that of another segment or node.
    #[error("file has the name of another segment")]
    Name,
    /// The head has a tree over other records than those before.
    #[error("tree in the head of the segment is that of other records")]
    Tree,
    /// A checkpoint that is malformed or not signed by the key.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// A checkpoint over other records than those before it.
    #[error("checkpoint is one of other records")]
    Root,
    /// A compressed file that does not decompress.
    #[error("compressed file is damaged")]
    Compressed,
    /// The same segment in more than one file.
    #[error("segment is there more than once")]
    Duplicate,
}

impl Fault {
    fn verdict(self) -> Verdict {
        match self {
            Fault::Torn => Verdict::Truncated,
            Fault::Line(ParseError::Version) => Verdict::Incomplete,
            _ => Verdict::Tampered,
        }
    }
}

/// What follows the last good line of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// What is wrong with the first line of it.
    pub fault: Fault,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: Hash,
}

/// A segment with something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// The segment.
    pub segment: u64,
    /// Number of the first record that cannot be trusted.
    pub seq: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// A checkpoint that was kept elsewhere, verified by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What became of it.
    pub state: AnchorState,
}

/// What the trail says about an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorState {
    /// Its records are missing, so it says nothing.
    Unchecked,
    /// The trail goes on from it. With the time of the last record it covers.
    Holds(Time),
    /// The trail has other records: changed, or another branch.
    Contradicts,
    /// The trail is shorter.
    Beyond,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of the first record that is there; 0 if there is none.
    pub first_seq: u64,
    /// Number of the last good record.
    pub last_seq: u64,
    /// Time of the last good record.
    pub last_time: Option<Time>,
    /// Good records.
    pub records: u64,
    /// How many records the last good checkpoint covers.
    pub sealed: u64,
    /// Records behind the last checkpoint, which only the chain holds.
    pub unsealed: u64,
    /// Ranges of missing records, first and last.
    pub missing: Vec<(u64, u64)>,
    /// Whether any of them are at the end of a segment that is there.
    pub truncated: bool,
    /// What is wrong, by segment.
    pub broken: Vec<Broken>,
    /// The anchors.
    pub anchors: Vec<Anchor>,
    /// The checkpoint of another node's trail that this one goes on from, unverified.
    pub predecessor: Option<String>,
}

impl Report {
    /// The worst of it all.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::Unanchored;
        if self.anchors.iter().any(|it| matches!(it.state, AnchorState::Holds(_))) {
            verdict = Verdict::Ok;
        }
        let mut at_least =
            |found: bool, worse: Verdict| verdict = if found { verdict.max(worse) } else { verdict };
        at_least(!self.missing.is_empty() || self.records == 0, Verdict::Incomplete);
        at_least(self.truncated, Verdict::Truncated);
        for anchor in &self.anchors {
            at_least(anchor.state == AnchorState::Contradicts, Verdict::Tampered);
            at_least(anchor.state == AnchorState::Beyond, Verdict::Truncated);
        }
        for broken in &self.broken {
            at_least(true, broken.fault.verdict());
        }
        verdict
    }
}

impl Report {
    pub(super) fn count(&mut self, record: &Record) {
        if self.first_seq == 0 {
            self.first_seq = record.seq;
        }
        self.last_seq = record.seq;
        self.last_time = Some(record.time);
        self.records += 1;
        self.unsealed = if matches!(record.body, Body::Checkpoint { .. }) { 0 } else { self.unsealed + 1 };
    }

    /// Compares the anchors that cover exactly the records so far.
    pub(super) fn check_anchors(&mut self, tree: &Tree, time: Time) {
        for anchor in &mut self.anchors {
            if anchor.checkpoint.size == tree.size() {
                let holds = anchor.checkpoint.root == tree.root();
                anchor.state = if holds { AnchorState::Holds(time) } else { AnchorState::Contradicts };
            }
        }
    }

    /// The first record that cannot be trusted when the next line has this fault.
    pub(super) fn suspect(&self, fault: Fault) -> u64 {
        match fault {
            // The chain was recomputed: anything since the last good checkpoint.
            Fault::Root => self.sealed + 1,
            Fault::Prev => self.last_seq,
            _ => self.last_seq + 1,
        }
    }
}
