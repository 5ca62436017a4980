//! The trail of a node: numbered records in segment files, begun, continued after a crash, and
//! verified. The caller does the I/O and has the clock.
//!
//! A **node** is one data directory in one life: a promoted standby, a restored copy or a clone is
//! another, and its first segment names the checkpoint it goes on from. Its trail is one sequence of
//! records, its `seq` without gaps over all **segments**; a segment file belongs to one **boot**, one
//! run of the server. It begins with a `segment` record, with which it can be continued and verified
//! alone, and ends with a `checkpoint`, unless the server crashed. No file is written again after
//! its boot: what a crash left at its end stays there, and the next segment says in a `crash` record
//! how many bytes that is and what their hash is.
//!
//! `time` never goes back within a boot: small steps are levelled, and when the clock is set back by
//! more, a `clock` record says so.

mod recover;
mod report;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use recover::{Recovered, RecoveryError, recover};
pub use report::{Anchor, AnchorState, Broken, Fault, Report, Tail, Verdict};
pub use verify::Verifier;
pub use writer::{Due, Policy, Start, State, Writer};

/// The id of a node: random, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub [u8; 16]);

impl Node {
    /// The origin line of its checkpoints, and the name of the key that signs them.
    pub fn origin(self) -> String {
        format!("{ORIGIN_PREFIX}{self}")
    }

    /// The node of that origin.
    pub fn from_origin(origin: &str) -> Option<Node> {
        Node::parse(origin.strip_prefix(ORIGIN_PREFIX)?)
    }

    /// The name of a segment's file: `<32 hex digits>-<10 digits>.jsonl`, sorted as the segments are.
    pub fn file_name(self, segment: u64) -> String {
        format!("{self}-{segment:010}{EXTENSION}")
    }

    /// Node and segment of a file's name, which may have a further ending, `.gz`.
    pub fn parse_file_name(name: &str) -> Option<(Node, u64)> {
        let (node, rest) = name.split_at_checked(32)?;
        let (segment, ending) = rest.strip_prefix('-')?.split_once(EXTENSION)?;
        let is_number = segment.len() >= 10 && segment.bytes().all(|it| it.is_ascii_digit());
        let (node, segment) = (Node::parse(node)?, segment.parse().ok().filter(|_| is_number)?);
        let whole = node.file_name(segment) + ending;
        (whole == name && matches!(ending, "" | ".gz")).then_some((node, segment))
    }

    fn parse(hex: &str) -> Option<Node> {
        let id = u128::from_str_radix(hex, 16).ok()?;
        let node = Node(id.to_be_bytes());
        (node.to_string() == hex).then_some(node)
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

const ORIGIN_PREFIX: &str = "pgpci/";
const EXTENSION: &str = ".jsonl";
