//! Writing a record as a line.

use super::json::{hash, marked_string, number, string};
use super::{Body, EVENT, Event, Record, Segment, Text, Time, VERSION};
use crate::chain::Hash;

/// No line is longer, in bytes, without its line feed: what entries of a C2SP tiled log may have.
pub const MAX_LINE: usize = 65_535;

/// How much of a text a line holds, in bytes between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    statement: usize,
    text: usize,
    objects: usize,
}

impl Limits {
    /// At most this much of a statement, itself at most 32 KiB so that no line exceeds [`MAX_LINE`].
    pub fn new(statement: usize) -> Limits {
        Limits { statement: statement.min(32 * 1024), text: 1024, objects: 8192 }
    }

    /// None at all: for what was parsed, and so was cut already.
    pub(super) const NONE: Limits = Limits { statement: MAX_LINE, text: MAX_LINE, objects: MAX_LINE };
}

impl Default for Limits {
    /// 8 KiB of a statement.
    fn default() -> Self {
        Limits::new(8 * 1024)
    }
}

/// Appends the record's line, without a line feed. Allocates only where `out` must grow.
pub fn encode(record: &Record, limits: &Limits, out: &mut Vec<u8>) {
    if let Body::Event(event) = &record.body {
        return encode_event(record.seq, &record.prev, record.time, event, limits, out);
    }
    begin(record.seq, &record.prev, record.time, record.body.kind(), out);
    let mut fields = Fields { out, limits };
    match &record.body {
        Body::Event(_) | Body::Stop => {}
        Body::Segment(segment) => fields.segment(segment),
        Body::Start { server_version, pgpci_version } => {
            fields.text("server_version", Some(server_version));
            fields.text("pgpci_version", Some(pgpci_version));
        }
        Body::Crash(crash) => {
            fields.number("boot", Some(crash.boot));
            fields.number("segment", Some(crash.segment));
            fields.number("torn", Some(crash.torn));
            if let Some(sha256) = &crash.torn_sha256 {
                fields.name("torn_sha256");
                hash(fields.out, sha256);
            }
        }
        Body::Torn { pid } => fields.number("pid", Some(u64::from(*pid))),
        Body::Gap { lost, message } => {
            fields.number("lost", Some(*lost));
            fields.text("message", Some(message));
        }
        Body::Clock { back } => fields.number("back", Some(*back)),
        Body::Checkpoint { note } | Body::Key { note } => fields.whole("note", note),
    }
    out.push(b'}');
}

/// The same for a record that is an event, which need not be moved into one.
pub fn encode_event(seq: u64, prev: &Hash, time: Time, event: &Event, limits: &Limits, out: &mut Vec<u8>) {
    begin(seq, prev, time, EVENT, out);
    Fields { out, limits }.event(event);
    out.push(b'}');
}

fn begin(seq: u64, prev: &Hash, time: Time, kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"v\":");
    number(out, VERSION);
    out.extend_from_slice(b",\"seq\":");
    number(out, seq);
    out.extend_from_slice(b",\"prev\":");
    hash(out, prev);
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(&time.text());
    out.extend_from_slice(b"\",\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
}

struct Fields<'o> {
    out: &'o mut Vec<u8>,
    limits: &'o Limits,
}

impl Fields<'_> {
    /// In the order of the contract: who, what, success, source, object.
    fn event(&mut self, event: &Event) {
        self.text("session_user", event.session_user.as_ref());
        self.text("current_user", event.current_user.as_ref());
        self.text("app_user", event.app_user.as_ref());
        self.text("os_user", event.os_user.as_ref());
        self.text("class", Some(&event.class.as_str().into()));
        self.text("event", Some(&event.event));
        self.statement(event);
        self.number("rows", event.rows);
        self.number("revealed", event.revealed);
        self.text("purpose", event.purpose.as_ref());
        self.number("xid", event.xid);
        if let Some(success) = event.success {
            self.name("success");
            self.out.extend_from_slice(if success { b"true" } else { b"false" });
        }
        self.text("sqlstate", event.sqlstate.as_ref().map(|it| it.as_str().into()).as_ref());
        self.text("message", event.message.as_ref());
        self.text("client_addr", event.client_addr.as_ref());
        self.number("client_port", event.client_port.map(u64::from));
        self.text("application_name", event.application_name.as_ref());
        self.number("pid", event.pid.map(u64::from));
        self.text("session_id", event.session_id.as_ref());
        self.text("database", event.database.as_ref());
        self.objects(event);
    }

    fn segment(&mut self, segment: &Segment) {
        self.number("segment", Some(segment.segment));
        self.text("origin", Some(&segment.origin));
        self.number("boot", Some(segment.boot));
        self.number("size", Some(segment.tree.size()));
        self.name("tree");
        self.out.push(b'[');
        for (i, peak) in segment.tree.peaks().iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            hash(self.out, peak);
        }
        self.out.push(b']');
        if let Some(note) = &segment.predecessor {
            self.whole("predecessor", note);
        }
    }

    fn statement(&mut self, event: &Event) {
        let Some(statement) = &event.statement else {
            return;
        };
        let bytes = statement.as_bytes();
        self.name("statement");
        let taken = string(self.out, bytes, self.limits.statement);
        let cut = (taken < bytes.len()).then_some(bytes.len() as u64);
        self.number("statement_bytes", event.statement_bytes.or(cut));
    }

    fn objects(&mut self, event: &Event) {
        let Some((first, rest)) = event.objects.split_first() else {
            return;
        };
        self.name("objects");
        self.out.push(b'[');
        let start = self.out.len();
        marked_string(self.out, first.as_bytes(), self.limits.text);
        let mut taken = 1;
        for object in rest {
            // Room for a whole one, so that whether it fits does not depend on what is in it.
            if self.out.len() - start + self.limits.text > self.limits.objects && self.limits != &Limits::NONE
            {
                break;
            }
            self.out.push(b',');
            marked_string(self.out, object.as_bytes(), self.limits.text);
            taken += 1;
        }
        self.out.push(b']');
        let cut = (taken < event.objects.len()).then_some(event.objects.len() as u64);
        self.number("objects_total", event.objects_total.or(cut));
    }

    fn text(&mut self, name: &str, text: Option<&Text>) {
        if let Some(text) = text {
            self.name(name);
            marked_string(self.out, text.as_bytes(), self.limits.text);
        }
    }

    /// A text that pgpci made itself and that is of no use when cut.
    fn whole(&mut self, name: &str, text: &Text) {
        self.name(name);
        string(self.out, text.as_bytes(), MAX_LINE);
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            number(self.out, value);
        }
    }

    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}
