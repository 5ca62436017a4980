//! An event on its way from the process in which it happened to the one that writes the trail.
//!
//! Packing neither allocates nor fails: what does not fit is cut. So it serves inside of error handling, too.
//! Not for keeping: both ends are the same program.

use super::{Class, Event, Objects, Sqlstate, Text, Time};
use crate::redact::{self, End};

/// How much of a statement is carried, in bytes; more than any line shows of it.
const STATEMENT: usize = 8 * 1024 + 64;
/// How much of another text; more than any line shows of it, so that its line says that it was cut.
const TEXT: usize = 1024 + 64;
/// How many bytes of objects.
const OBJECTS: usize = 8 * 1024;
/// Room that objects leave, for their number.
const RESERVE: usize = 16;

/// A packed event is never longer: the buffer to pack into.
pub const MAX_PACKED: usize = 32 * 1024;

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "see Event")]
pub enum Field {
    SessionUser = 1,
    CurrentUser,
    AppUser,
    OsUser,
    Event,
    Statement,
    StatementBytes,
    Rows,
    Revealed,
    Purpose,
    Xid,
    Success,
    Sqlstate,
    Message,
    ClientAddr,
    ClientPort,
    ApplicationName,
    Pid,
    SessionId,
    Database,
    Object,
    ObjectsTotal,
    /// The encoding of the texts, by PostgreSQL's number; 6 is UTF-8.
    Encoding,
}

/// Packs an event into a buffer.
#[derive(Debug)]
pub struct Packer<'b> {
    buffer: &'b mut [u8],
    len: usize,
    /// Bytes and number of the objects that were taken, and how many there were.
    objects: usize,
    objects_taken: u64,
    objects_total: u64,
}

impl<'b> Packer<'b> {
    /// Begins an event of that class.
    pub fn new(buffer: &'b mut [u8], class: Class, time: Time) -> Self {
        let mut packer = Packer { buffer, len: 0, objects: 0, objects_taken: 0, objects_total: 0 };
        packer.put(&time.micros().to_le_bytes());
        packer.put(&[class as u8]);
        packer
    }

    /// Only fields, to be [copied](Self::fields) into events.
    pub fn bare(buffer: &'b mut [u8]) -> Self {
        Packer { buffer, len: 0, objects: 0, objects_taken: 0, objects_total: 0 }
    }

    /// A text as it is.
    pub fn text(&mut self, field: Field, text: &[u8]) -> &mut Self {
        self.field(field, &text[..text.len().min(TEXT)]);
        self
    }

    /// A text of somebody else's: redacted.
    pub fn foreign(&mut self, field: Field, text: &[u8]) -> &mut Self {
        self.redacted(field, text, TEXT);
        self
    }

    /// The statement, redacted.
    pub fn statement(&mut self, statement: &[u8]) -> &mut Self {
        if self.redacted(Field::Statement, statement, STATEMENT) {
            self.number(Field::StatementBytes, statement.len() as u64);
        }
        self
    }

    /// A statement that was redacted, or holds nothing to be.
    pub fn clean_statement(&mut self, statement: &[u8]) -> &mut Self {
        if statement.len() > STATEMENT {
            return self.statement(statement);
        }
        self.field(Field::Statement, statement);
        self
    }

    /// A number.
    pub fn number(&mut self, field: Field, number: u64) -> &mut Self {
        self.field(field, &number.to_le_bytes());
        self
    }

    /// An object: a table, a vault, a role, a setting.
    pub fn object(&mut self, object: &[u8]) -> &mut Self {
        if let Some(from) = self.begin_object(object) {
            // A table may be called as anything.
            redact::in_place(&mut self.buffer[from..self.len], End::Whole);
        }
        self
    }

    /// An object whose name was redacted, or holds nothing to be.
    pub fn clean_object(&mut self, object: &[u8]) -> &mut Self {
        self.begin_object(object);
        self
    }

    /// Where the name is now, if there was room for it.
    fn begin_object(&mut self, object: &[u8]) -> Option<usize> {
        self.objects_total += 1;
        let object = &object[..object.len().min(TEXT)];
        let fits = self.objects + object.len() <= OBJECTS
            && self.len + 3 + object.len() + RESERVE <= self.buffer.len();
        if !fits {
            return None;
        }
        self.objects += object.len();
        self.objects_taken += 1;
        self.field(Field::Object, object);
        Some(self.len - object.len())
    }

    /// Fields that were packed before.
    pub fn fields(&mut self, fields: &[u8]) -> &mut Self {
        if self.len + fields.len() <= self.buffer.len() {
            self.put(fields);
        }
        self
    }

    /// The packed event.
    pub fn finish(mut self) -> &'b [u8] {
        if self.objects_taken < self.objects_total {
            self.number(Field::ObjectsTotal, self.objects_total);
        }
        &self.buffer[..self.len]
    }

    /// Whether it was cut.
    fn redacted(&mut self, field: Field, text: &[u8], limit: usize) -> bool {
        let room = self.buffer.len().saturating_sub(self.len + 3);
        let taken = text.len().min(limit).min(room);
        let is_cut = taken < text.len();
        self.field(field, &text[..taken]);
        let from = self.len - taken;
        let end = if is_cut { End::Cut } else { End::Whole };
        redact::in_place(&mut self.buffer[from..self.len], end);
        is_cut
    }

    #[inline]
    fn field(&mut self, field: Field, value: &[u8]) {
        let end = self.len + 3 + value.len();
        match self.buffer.get_mut(self.len..end).and_then(<[u8]>::split_first_chunk_mut::<3>) {
            Some((head, place)) => {
                let [low, high] = (value.len() as u16).to_le_bytes();
                *head = [field as u8, low, high];
                place.copy_from_slice(value);
                self.len = end;
            }
            // A field without its whole value is not begun, nor is any after it.
            None => self.buffer = std::mem::take(&mut self.buffer).split_at_mut(self.len).0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// What a packed event holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked<'a> {
    /// When it happened.
    pub time: Time,
    /// What.
    pub event: Event<'a>,
    /// The encoding of its texts, if it is not UTF-8.
    pub encoding: Option<u64>,
}

/// The event; `None` for what was not packed by [`Packer`].
pub fn unpack(packed: &[u8]) -> Option<Unpacked<'_>> {
    let (time, rest) = packed.split_first_chunk::<8>()?;
    let (class, mut rest) = rest.split_first()?;
    let mut event = Event::new(*Class::ALL.get(usize::from(*class))?, "");
    let mut objects = Vec::new();
    let mut encoding = None;
    while let Some((&[field, low, high], after)) = rest.split_first_chunk::<3>() {
        let (value, after) = after.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        rest = after;
        let text = || Some(Text::from(value));
        let number = || value.try_into().ok().map(u64::from_le_bytes);
        match field {
            f if f == Field::SessionUser as u8 => event.session_user = text(),
            f if f == Field::CurrentUser as u8 => event.current_user = text(),
            f if f == Field::AppUser as u8 => event.app_user = text(),
            f if f == Field::OsUser as u8 => event.os_user = text(),
            f if f == Field::Event as u8 => event.event = Text::from(value),
            f if f == Field::Statement as u8 => event.statement = text(),
            f if f == Field::StatementBytes as u8 => event.statement_bytes = number(),
            f if f == Field::Rows as u8 => event.rows = number(),
            f if f == Field::Revealed as u8 => event.revealed = number(),
            f if f == Field::Purpose as u8 => event.purpose = text(),
            f if f == Field::Xid as u8 => event.xid = number(),
            f if f == Field::Success as u8 => event.success = number().map(|it| it != 0),
            f if f == Field::Sqlstate as u8 => event.sqlstate = Sqlstate::new(value),
            f if f == Field::Message as u8 => event.message = text(),
            f if f == Field::ClientAddr as u8 => event.client_addr = text(),
            f if f == Field::ClientPort as u8 => {
                event.client_port = number().and_then(|it| it.try_into().ok())
            }
            f if f == Field::ApplicationName as u8 => event.application_name = text(),
            f if f == Field::Pid as u8 => event.pid = number().and_then(|it| it.try_into().ok()),
            f if f == Field::SessionId as u8 => event.session_id = text(),
            f if f == Field::Database as u8 => event.database = text(),
            f if f == Field::Object as u8 => objects.push(Text::from(value)),
            f if f == Field::ObjectsTotal as u8 => event.objects_total = number(),
            f if f == Field::Encoding as u8 => encoding = number(),
            _ => return None,
        }
    }
    event.objects = Objects::Owned(objects);
    rest.is_empty().then_some(Unpacked {
        time: Time::from_micros(i64::from_le_bytes(*time)),
        event,
        encoding,
    })
}

#[cfg(test)]
mod tests;
