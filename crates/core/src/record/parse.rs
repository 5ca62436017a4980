//! Reading a line, strictly.

use super::{
    Body, Class, Crash, Event, Limits, MAX_LINE, Objects, Record, Segment, Sqlstate, Text, Time, VERSION,
    encode,
};
use crate::chain::{Hash, Tree};
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// Why a line is no record. Carries nothing of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than [`MAX_LINE`].
    #[error("line is too long")]
    TooLong,
    /// No JSON object with the fields of a record.
    #[error("line is no audit record")]
    Syntax,
    /// Written by a later version of pgpci.
    #[error("audit record has an unsupported version")]
    Version,
    /// A field is missing, has an impossible value, or does not belong to this kind of record.
    #[error("audit record has fields that do not belong together")]
    Fields,
    /// Another spelling of a record than pgpci's.
    #[error("audit record is not in canonical form")]
    NotCanonical,
}

/// Reads a line, without its line feed. Accepts exactly what [`encode`] writes.
pub fn parse(line: &[u8]) -> Result<Record<'_>, ParseError> {
    if line.len() > MAX_LINE {
        return Err(ParseError::TooLong);
    }
    let text = std::str::from_utf8(line).or(Err(ParseError::Syntax))?;
    let Fields { v, seq, prev, time, kind, rest } =
        serde_json::from_str(text).map_err(|_| other_version(text))?;
    if v != VERSION {
        return Err(ParseError::Version);
    }
    let record = rest.body(&kind).map(|body| Record { seq, prev: prev.0, time: time.0, body });
    let record = record.filter(|_| seq > 0 && is_count(seq)).ok_or(ParseError::Fields)?;
    // One line for a record, so that no two readers of a line can see different things in it.
    let mut canonical = Vec::with_capacity(line.len() + 1);
    encode(&record, &Limits::NONE, &mut canonical);
    if canonical == line { Ok(record) } else { Err(ParseError::NotCanonical) }
}

/// Why the fields could not be read: those of another version may be any.
fn other_version(text: &str) -> ParseError {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    match serde_json::from_str(text) {
        Ok(Version { v }) if v != VERSION => ParseError::Version,
        _ => ParseError::Syntax,
    }
}

macro_rules! fields {
    ($($name:ident: $type:ty,)*) => {
        /// The fields of a line.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct AllFields<'a> {
            v: u64,
            seq: u64,
            prev: Hex,
            time: TimeText,
            #[serde(borrow)]
            kind: Text<'a>,
            $(#[serde(default)] $name: Option<$type>,)*
        }

        /// The fields of which each kind has its own.
        #[derive(Default, PartialEq)]
        struct Rest<'a> {
            $($name: Option<$type>,)*
        }

        impl<'a> From<AllFields<'a>> for Fields<'a> {
            fn from(all: AllFields<'a>) -> Self {
                let AllFields { v, seq, prev, time, kind, $($name,)* } = all;
                Fields { v, seq, prev, time, kind, rest: Rest { $($name,)* } }
            }
        }
    };
}

fields! {
    session_user: Text<'a>,
    current_user: Text<'a>,
    app_user: Text<'a>,
    os_user: Text<'a>,
    class: Text<'a>,
    event: Text<'a>,
    statement: Text<'a>,
    statement_bytes: u64,
    rows: u64,
    revealed: u64,
    purpose: Text<'a>,
    xid: u64,
    success: bool,
    sqlstate: Text<'a>,
    message: Text<'a>,
    client_addr: Text<'a>,
    client_port: u16,
    application_name: Text<'a>,
    pid: u32,
    session_id: Text<'a>,
    database: Text<'a>,
    objects: Vec<Text<'a>>,
    objects_total: u64,
    segment: u64,
    origin: Text<'a>,
    boot: u64,
    size: u64,
    tree: Vec<Hex>,
    predecessor: Text<'a>,
    server_version: Text<'a>,
    pgpci_version: Text<'a>,
    torn: u64,
    torn_sha256: Hex,
    lost: u64,
    back: u64,
    note: Text<'a>,
}

#[derive(Deserialize)]
#[serde(from = "AllFields<'a>")]
struct Fields<'a> {
    v: u64,
    seq: u64,
    prev: Hex,
    time: TimeText,
    kind: Text<'a>,
    #[serde(borrow)]
    rest: Rest<'a>,
}

impl<'a> Rest<'a> {
    /// Takes the fields that belong to a kind; all must be there, and no others.
    fn body(mut self, kind: &Text) -> Option<Body<'a>> {
        let body = match kind.as_bytes() {
            b"event" => Body::Event(Box::new(self.event()?)),
            b"segment" => Body::Segment(Segment {
                segment: self.segment.take().filter(|it| is_count(*it))?,
                origin: self.origin.take()?,
                boot: self.boot.take().filter(|it| is_count(*it))?,
                tree: {
                    let peaks = self.tree.take()?.into_iter().map(|it| it.0).collect();
                    Tree::from_parts(self.size.take()?, peaks)?
                },
                predecessor: self.predecessor.take(),
            }),
            b"start" => Body::Start {
                server_version: self.server_version.take()?,
                pgpci_version: self.pgpci_version.take()?,
            },
            b"stop" => Body::Stop,
            b"crash" => Body::Crash(Crash {
                boot: self.boot.take()?,
                segment: self.segment.take()?,
                torn: self.torn.take()?,
                torn_sha256: self.torn_sha256.take().map(|it| it.0),
            }),
            b"torn" => Body::Torn { pid: self.pid.take()? },
            b"gap" => Body::Gap { lost: self.lost.take()?, message: self.message.take()? },
            b"clock" => Body::Clock { back: self.back.take()? },
            b"checkpoint" => Body::Checkpoint { note: self.note.take()? },
            b"key" => Body::Key { note: self.note.take()? },
            _ => return None,
        };
        (self == Rest::default()).then_some(body)
    }

    fn event(&mut self) -> Option<Event<'a>> {
        Some(Event {
            session_user: self.session_user.take(),
            current_user: self.current_user.take(),
            app_user: self.app_user.take(),
            os_user: self.os_user.take(),
            class: Class::parse(&self.class.take()?.to_str_lossy())?,
            event: self.event.take()?,
            statement: self.statement.take(),
            statement_bytes: self.statement_bytes.take(),
            rows: self.rows.take(),
            revealed: self.revealed.take(),
            purpose: self.purpose.take(),
            xid: self.xid.take(),
            success: self.success.take(),
            sqlstate: match self.sqlstate.take() {
                Some(text) => Some(Sqlstate::new(text.as_bytes())?),
                None => None,
            },
            message: self.message.take(),
            client_addr: self.client_addr.take(),
            client_port: self.client_port.take(),
            application_name: self.application_name.take(),
            pid: self.pid.take(),
            session_id: self.session_id.take(),
            database: self.database.take(),
            objects: Objects::Owned(self.objects.take().unwrap_or_default()),
            objects_total: self.objects_total.take(),
        })
    }
}

/// Whether a number can be one that counts up from 1: room is left to add to it, and it fits SQL's
/// bigint.
fn is_count(number: u64) -> bool {
    i64::try_from(number).is_ok()
}

/// Borrowed from the line where it has no escapes.
impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(text.into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(text.to_string().into())
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A hash in lower-case hex.
#[derive(PartialEq)]
struct Hex(Hash);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| D::Error::custom("length"))?;
        let mut hash = [0; 32];
        for (byte, [high, low]) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
            let digit = |it: u8| char::from(it).to_digit(16).ok_or_else(|| D::Error::custom("digit"));
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Ok(Hex(hash))
    }
}

struct TimeText(Time);

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Time::parse(text).map(TimeText).ok_or_else(|| D::Error::custom("time"))
    }
}
