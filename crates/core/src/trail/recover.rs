//! Where the trail goes on after the server stopped, in order or not.

use super::{AnchorState, Fault, Node, State, Tail, Verifier};
use crate::chain::{Checkpoint, Note, VerifyingKey};
use crate::record::{Body, Crash, Time, parse};
use sha2::{Digest, Sha256};

/// What the last segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Where to go on, with [`super::Writer::start`].
    pub state: State,
    /// Bytes at the beginning of the file that are good lines.
    pub valid: usize,
    /// Time of the last good record.
    pub last_time: Option<Time>,
    /// How many records the last good checkpoint covers, 0 if there is none in this segment.
    pub sealed: u64,
}

/// Why the trail must not go on by itself: what is there was changed, and signing it again would
/// hide that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Not even the first line is whole: the server crashed when it began the segment. The file
    /// holds no record; remove it, and take the segment before.
    #[error("segment has no record")]
    Empty,
    /// A whole line is wrong in a way that no crash explains.
    #[error("segment was changed: {0}")]
    Changed(Fault),
    /// Behind bytes that are no line is a valid checkpoint, which was written after what stood there.
    #[error("segment was changed before its last checkpoint")]
    Sealed,
    /// A checkpoint that was kept elsewhere covers more records, or others.
    #[error("trail was put back to an earlier state")]
    PutBack,
}

/// Reads the last segment of a node's trail, of that number, after the server ended. `kept` are
/// checkpoints of this trail that were kept elsewhere, verified by the caller.
///
/// What a crash leaves is a beginning of lines and then part of a line, or of a page: that is the
/// torn tail, and stays in the file. Anything else is an error.
pub fn recover(
    node: Node,
    keys: &[VerifyingKey],
    kept: Vec<Checkpoint>,
    segment: u64,
    bytes: &[u8],
) -> Result<Recovered, RecoveryError> {
    let mut verifier = Verifier::new(node, keys, kept, u64::MAX);
    verifier.segment(segment);
    let mut valid = 0;
    let mut tail = None;
    while let Some(rest) = bytes.get(valid..).filter(|it| !it.is_empty()) {
        let end = memchr::memchr(b'\n', rest);
        match end.map_or(Err(Fault::Torn), |end| verifier.line(&rest[..end])) {
            Ok(()) => valid += end.unwrap_or(0) + 1,
            Err(fault @ (Fault::Torn | Fault::Line(_))) => {
                if has_checkpoint(rest, keys) {
                    return Err(RecoveryError::Sealed);
                }
                tail = Some(Tail { fault, bytes: rest.len() as u64, sha256: Sha256::digest(rest).into() });
                break;
            }
            Err(fault) => return Err(RecoveryError::Changed(fault)),
        }
    }
    let report = verifier.report();
    let put_back = report
        .anchors
        .iter()
        .any(|it| it.state == AnchorState::Contradicts || it.checkpoint.size > report.last_seq);
    let (last_time, sealed) = (report.last_time, report.sealed);
    let (last, stopped) = match (verifier.into_last(), tail) {
        (Some(last), _) => last,
        (None, Some(Tail { fault: Fault::Line(_), .. })) if bytes.contains(&b'\n') => {
            return Err(RecoveryError::Changed(Fault::Head));
        }
        (None, _) => return Err(RecoveryError::Empty),
    };
    if put_back {
        return Err(RecoveryError::PutBack);
    }
    let crash = (!stopped || tail.is_some()).then(|| Crash {
        boot: last.boot,
        segment,
        torn: tail.map_or(0, |it| it.bytes),
        torn_sha256: tail.map(|it| it.sha256),
    });
    let state = State { tree: last.tree, prev: last.hash, segment, boot: last.boot, crash };
    Ok(Recovered { state, valid, last_time, sealed })
}

/// Whether any whole line is a checkpoint that was signed by a key.
fn has_checkpoint(bytes: &[u8], keys: &[VerifyingKey]) -> bool {
    let whole = &bytes[..memchr::memrchr(b'\n', bytes).unwrap_or(0)];
    whole.split(|it| *it == b'\n').any(|line| match parse(line).map(|it| it.body) {
        Ok(Body::Checkpoint { note }) => Note::parse(note.as_bytes()).is_ok_and(|it| it.verify(keys).is_ok()),
        _ => false,
    })
}
