//! Records of the audit trail, and the lines they are written as.
//!
//! A record is one line of canonical JSON: fixed order of fields, no white space, what is absent is
//! left out, every character that need not be escaped is not. So there is one line for a record,
//! and [`parse`] refuses every other. The fields are grouped as PCI DSS 10.2.2 asks: who, what,
//! when, success, source, object.
//!
//! ```json
//! {"v":1,"seq":7,"prev":"…64 hex…","time":"2026-11-24T14:17:44.123456Z","kind":"event",
//!  "session_user":"ann","class":"READ","event":"SELECT","statement":"SELECT …","rows":1,
//!  "success":true,"client_addr":"10.0.0.7","pid":4711,"database":"shop","objects":["shop.payments"]}
//! ```
//!
//! `prev` is the hash of the previous line, [`crate::chain::leaf_hash`]; that of the first line of
//! all is 64 zeros. A record's own `hash` is computed from its line and never written into it.
//!
//! Texts are UTF-8. A byte that is none becomes the four characters `\xhh`, as PostgreSQL itself
//! shows it, and so does NUL, which jsonb could not hold. What is longer than its [`Limits`] is
//! cut: a statement then has `statement_bytes`, its whole length; a list of objects
//! `objects_total`; any other text ends in `…`.
//!
//! Besides events there are records of the trail itself, of another `kind`: see [`Body`].

mod encode;
mod event;
mod json;
mod packed;
mod parse;
#[cfg(test)]
mod tests;
mod time;

pub use encode::{Limits, MAX_LINE, encode, encode_event};
pub use event::{Class, Event, Objects, Sqlstate, Text};
pub use packed::{Field, MAX_PACKED, Packer, Unpacked, unpack};
pub use parse::{ParseError, parse};
pub use time::Time;

use crate::chain::{Hash, Tree};

/// Version of the format, the field `v`.
pub const VERSION: u64 = 1;

/// The kind of a record that is an event.
const EVENT: &str = "event";

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number in the trail of a node, from 1 without gaps; so it is also the number of leaves of
    /// the tree up to here.
    pub seq: u64,
    /// Hash of the previous line; zeros in the first.
    pub prev: Hash,
    /// When it happened; never before the previous record's, except after [`Body::Clock`] and at a
    /// new boot.
    pub time: Time,
    /// What happened.
    pub body: Body<'a>,
}

/// What a record is about, by its `kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// `event`: something was done in the database.
    Event(Box<Event<'a>>),
    /// `segment`: the first line of every segment file.
    Segment(Segment<'a>),
    /// `start`: the server started.
    Start {
        /// Version of PostgreSQL.
        server_version: Text<'a>,
        /// Version of pgpci.
        pgpci_version: Text<'a>,
    },
    /// `stop`: the server stopped in order.
    Stop,
    /// `crash`: the run before this one ended without `stop`.
    Crash(Crash),
    /// `torn`: a process died while it wrote an event.
    Torn {
        /// Its process id.
        pid: u32,
    },
    /// `gap`: events were lost.
    Gap {
        /// How many.
        lost: u64,
        /// Why.
        message: Text<'a>,
    },
    /// `clock`: the clock was set back; times go on from here.
    Clock {
        /// By how many microseconds.
        back: u64,
    },
    /// `checkpoint`: a signed note over all lines before this one.
    Checkpoint {
        /// The note, see [`crate::chain::Note`].
        note: Text<'a>,
    },
    /// `key`: another key signs from here on. The note is signed by the one that did so before, so that whoever
    /// trusts that one may trust this.
    Key {
        /// The note, see [`crate::chain::NextKey`].
        note: Text<'a>,
    },
}

impl Body<'_> {
    /// The field `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Event(_) => EVENT,
            Body::Segment(_) => "segment",
            Body::Start { .. } => "start",
            Body::Stop => "stop",
            Body::Crash(_) => "crash",
            Body::Torn { .. } => "torn",
            Body::Gap { .. } => "gap",
            Body::Clock { .. } => "clock",
            Body::Checkpoint { .. } => "checkpoint",
            Body::Key { .. } => "key",
        }
    }
}

/// The head of a segment: with it, the segment can be continued and verified without those before.
/// The last seq and hash of the one before are the head's own `seq` - 1 and `prev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Number of the segment in the trail of its node, from 1.
    pub segment: u64,
    /// Which node's trail: the origin line of its checkpoints.
    pub origin: Text<'a>,
    /// Number of the server's start, from 1.
    pub boot: u64,
    /// The tree over all lines before: its size is `size`, its peaks are `tree`. A forged one does
    /// not lead to the root that the next checkpoint signs.
    pub tree: Tree,
    /// In the first segment of a node that continues another's database, after promotion or
    /// restore: the last checkpoint known of the other's trail, as a signed note.
    pub predecessor: Option<Text<'a>>,
}

/// What a crash left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The boot that did not end in order.
    pub boot: u64,
    /// The segment it wrote.
    pub segment: u64,
    /// Bytes at that segment's end that are no lines of the trail; the file keeps them.
    pub torn: u64,
    /// SHA-256 of these bytes, if there are any.
    pub torn_sha256: Option<Hash>,
}
