//! Events into the ring: filled in with who is calling and from where, and waited for where that must be.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use pgpci_core::record::{Class, Field, MAX_PACKED, Packer, Time};
use pgpci_core::redact::{End, in_place};
use pgrx::PgSqlErrorCode as S;

use crate::error::{Error, Result};
use crate::guc::{self, OnFailure};
use crate::pg::local::Local;
use crate::pg::ring::{self, Share, State};
use crate::pg::{port, ring_wait, session};

/// What happens when there is no room in the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is waited for.
    Wait,
    /// The event takes what is left to those that cannot wait: in the log hook, and behind a commit.
    Never,
}

/// Who and from where: the same in every event of a session, so packed once.
struct Block {
    bytes: [u8; 2048],
    len: usize,
}

/// The application's name, and what the trail says of it; PostgreSQL cuts it at 63 bytes.
struct Application {
    name: [u8; 64],
    clean: [u8; 64],
    len: usize,
}

static APPLICATION: Local<RefCell<Application>> =
    Local::new(RefCell::new(Application { name: [0; 64], clean: [0; 64], len: 0 }));
static BUFFER: Local<RefCell<[u8; MAX_PACKED]>> = Local::new(RefCell::new([0; MAX_PACKED]));
static BLOCK: Local<RefCell<Block>> = Local::new(RefCell::new(Block { bytes: [0; 2048], len: 0 }));
// The place behind the last event of this process.
static LAST: Local<Cell<u64>> = Local::new(Cell::new(0));
static IS_WRITER: Local<Cell<bool>> = Local::new(Cell::new(false));

/// This process is the one that writes the trail: what happens in it is no event.
pub fn is_writer() {
    IS_WRITER.set(true);
}

/// Now.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Records an event. Does not raise unless it may wait and is cancelled meanwhile.
pub fn emit(class: Class, room: Room, fill: impl FnOnce(&mut Packer)) {
    let Some(head) = ring::head() else { return };
    if IS_WRITER.get() || session::is_parallel_worker() || !session::has_postmaster() {
        return;
    }
    let packed = (|| {
        // In use only where an event is interrupted by an error's.
        let Ok(mut buffer) = BUFFER.try_borrow_mut() else {
            head.lose();
            return None;
        };
        let mut packer = Packer::new(&mut buffer[..], class, now());
        who(&mut packer, room);
        fill(&mut packer);
        let event = packer.finish();
        let repairs = super::session::repairs();
        let share = match room {
            _ if repairs => Share::Repair,
            Room::Never => Share::Unwaiting,
            Room::Wait => Share::Common,
        };
        match head.push(event, share) {
            Some(place) => LAST.set(place),
            // Whoever repairs the disk waits for nothing that needs it.
            None if room == Room::Wait && !repairs => return Some(event.to_vec()),
            None => head.lose(),
        }
        None
    })();
    if let Some(event) = packed {
        wait_and_push(head, &event);
    }
}

#[cold]
fn wait_and_push(head: &ring::Head, event: &[u8]) {
    loop {
        // Work that needs no record goes on while records cannot be written; how many are missing is recorded.
        if !ring_wait::wait_for_room() {
            return head.lose();
        }
        if let Some(place) = head.push(event, Share::Common) {
            return LAST.set(place);
        }
    }
}

fn who(packer: &mut Packer, room: Room) {
    if let Ok(mut block) = BLOCK.try_borrow_mut() {
        let is_known = block.len > 0 || block.fill(room);
        packer.fields(&block.bytes[..block.len]);
        if !is_known {
            block.len = 0;
        }
    }
    port::with_application_name(|name| application(packer, name));
    guc::with_app_user(|name| {
        packer.foreign(Field::AppUser, name);
    });
}

/// The application's name hardly ever changes, and is redacted once.
fn application(packer: &mut Packer, name: &[u8]) {
    let Ok(mut known) = APPLICATION.try_borrow_mut() else { return };
    let known = &mut *known;
    if known.len != name.len() || known.name[..known.len] != *name {
        let len = name.len();
        let (Some(given), Some(clean)) = (known.name.get_mut(..len), known.clean.get_mut(..len)) else {
            packer.foreign(Field::ApplicationName, name);
            return;
        };
        given.copy_from_slice(name);
        clean.copy_from_slice(name);
        in_place(clean, End::Whole);
        known.len = len;
    }
    packer.text(Field::ApplicationName, &known.clean[..known.len]);
}

/// The session is another from here on: it has logged in.
pub fn refresh() {
    BLOCK.with_borrow_mut(|block| block.len = 0);
}

impl Block {
    /// Whether it is complete: where nothing may be waited for, no catalog is read.
    fn fill(&mut self, room: Room) -> bool {
        let mut packer = Packer::bare(&mut self.bytes);
        let (start, pid) = port::session_id();
        packer.number(Field::Pid, pid as u64);
        let mut id = [0; 32];
        packer.text(Field::SessionId, hex(&mut id, start as u64, pid as u64));
        let mut known = port::with_client(|client| {
            let texts = [
                (Field::SessionUser, client.user),
                (Field::Database, client.database),
                (Field::OsUser, client.identity),
                (Field::ClientAddr, client.host),
            ];
            for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
                // Typed by somebody: the wrong thing, perhaps.
                packer.foreign(field, text);
            }
            if client.port != 0 {
                packer.number(Field::ClientPort, u64::from(client.port));
            }
        });
        if known.is_none() && room == Room::Wait && session::can_read_catalog() {
            known = Some(());
            packer.text(Field::SessionUser, session::role_name(session::user()).as_bytes());
            packer.text(Field::Database, session::database_name().as_bytes());
        }
        if let Some(encoding) = session::foreign_encoding() {
            packer.number(Field::Encoding, encoding);
        }
        self.len = packer.finish().len();
        known.is_some() && (super::session::is_logged_in() || !port::has_client())
    }
}

/// `start.pid`, in hexadecimal, as log lines have it.
fn hex(place: &mut [u8; 32], start: u64, pid: u64) -> &[u8] {
    use std::io::Write;
    let mut rest = &mut place[..];
    let _ = write!(rest, "{start:x}.{pid:x}");
    let left = rest.len();
    let len = place.len() - left;
    &place[..len]
}

/// Waits until everything that this session recorded is on the disk: before clear digits leave, before protected
/// changes commit. While the trail cannot be written, that is refused (53100, 58030), unless
/// `pgpci.audit_on_failure` allows it.
pub fn require_durable() -> Result<()> {
    // A parallel worker's part is recorded by its leader.
    if session::is_parallel_worker() || ring_wait::wait_durable(LAST.get()) && LAST.get() > 0 {
        return Ok(());
    }
    if guc::AUDIT_ON_FAILURE.get() == OnFailure::Allow {
        return Ok(());
    }
    let (state, why) =
        ring::head().map_or((State::Failing, "it has no memory".into()), |it| (it.state(), it.message()));
    let sqlstate = match state {
        State::Full => S::ERRCODE_DISK_FULL,
        State::Starting => S::ERRCODE_CANNOT_CONNECT_NOW,
        _ => S::ERRCODE_IO_ERROR,
    };
    Err(Error::new(sqlstate, format!("the audit trail cannot be written: {why}"))
        .hint("What must be recorded waits until it can be; see pci.audit_status."))
}
