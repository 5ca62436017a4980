//! What a transaction must have recorded before something leaves or commits, and what became of it.

use std::cell::{Cell, RefCell};

use pgpci_core::record::{Class, Field, Packer};
use pgpci_core::redact::redact;
use pgrx::pg_sys::XactEvent as E;

use super::emit::{self, Room, emit};
use super::session as session_of;
use super::{redaction, statement};
use crate::pg::local::Local;
use crate::pg::session;

/// Values that one door revealed in the running transaction, of one vault for one purpose: recorded before the first
/// leaves, counted, and the count recorded when the transaction ends, however it ends.
struct Reveals {
    door: String,
    vault: String,
    purpose: Option<String>,
    values: u64,
}

static REVEALS: Local<RefCell<Vec<Reveals>>> = Local::new(RefCell::new(Vec::new()));
// Whether there is anything in these: most transactions end without.
static TOUCHED: Local<Cell<bool>> = Local::new(Cell::new(false));
// Tells the tallies of one transaction from those of the next.
static ROUND: Local<Cell<u64>> = Local::new(Cell::new(1));
// Whether the transaction changed something protected; and its intent, once that is recorded.
static PROTECTED: Local<Cell<bool>> = Local::new(Cell::new(false));
static INTENT: Local<Cell<u64>> = Local::new(Cell::new(0));

/// Where a door counts.
#[derive(Clone, Copy)]
pub struct Tally {
    round: u64,
    index: usize,
}

impl Tally {
    /// Nowhere yet.
    pub const NONE: Self = Self { round: 0, index: 0 };

    /// Whether it belongs to the running transaction.
    pub fn is_open(self) -> bool {
        self.round == ROUND.get()
    }
}

/// A door is about to let values through: recorded, and on the disk, before this returns.
pub fn begin_reveal(door: &str, vault: &str, purpose: Option<&str>) -> Tally {
    // A word of the caller's.
    let purpose = purpose.map(|it| String::from_utf8_lossy(&redact(it.as_bytes())).into_owned());
    let round = ROUND.get();
    let known = REVEALS.with_borrow(|r| {
        r.iter().position(|one| one.door == door && one.vault == vault && one.purpose == purpose)
    });
    if let Some(index) = known {
        return Tally { round, index };
    }
    let one = Reveals { door: door.into(), vault: vault.into(), purpose, values: 0 };
    emit(Class::Reveal, Room::Wait, |packer| {
        one.fill(packer);
        xid(packer);
    });
    if let Err(error) = emit::require_durable() {
        error.raise();
    }
    TOUCHED.set(true);
    let index = REVEALS.with_borrow_mut(|r| {
        r.push(one);
        r.len() - 1
    });
    Tally { round, index }
}

/// Counts a value.
pub fn count_reveal(tally: Tally) {
    REVEALS.with_borrow_mut(|r| {
        if let Some(one) = r.get_mut(tally.index) {
            one.values += 1;
        }
    });
}

impl Reveals {
    fn fill(&self, packer: &mut Packer) {
        packer.text(Field::Event, self.door.as_bytes());
        packer.object(format!("vault {}", self.vault).as_bytes());
        if let Some(purpose) = &self.purpose {
            packer.text(Field::Purpose, purpose.as_bytes());
        }
    }
}

/// The transaction changes something protected: it does not commit before that is recorded.
pub fn protect() {
    TOUCHED.set(true);
    PROTECTED.set(true);
}

/// The number of the running transaction, if it has one.
pub fn xid(packer: &mut Packer) {
    match session::full_xid() {
        0 => {}
        xid => {
            packer.number(Field::Xid, xid);
        }
    }
}

/// A transaction ends, or is about to.
pub fn event(event: E::Type) {
    match event {
        E::XACT_EVENT_PRE_COMMIT => {
            session_of::first_commit();
            before_commit("COMMIT");
        }
        E::XACT_EVENT_PRE_PREPARE => before_commit("PREPARE TRANSACTION"),
        E::XACT_EVENT_COMMIT => ends("COMMIT", true),
        E::XACT_EVENT_PREPARE => ends("PREPARE TRANSACTION", true),
        E::XACT_EVENT_ABORT => ends("ROLLBACK", false),
        _ => {}
    }
}

/// What it intends is on the disk before it commits; an error here makes it a rollback.
fn before_commit(what: &str) {
    if !PROTECTED.get() {
        return;
    }
    let number = session::full_xid();
    if number == 0 {
        return;
    }
    emit(Class::Write, Room::Wait, |packer| {
        packer.text(Field::Event, what.as_bytes()).number(Field::Xid, number);
    });
    INTENT.set(number);
    if let Err(error) = emit::require_durable() {
        error.raise();
    }
}

/// It is over: nothing here waits or raises.
fn ends(what: &str, is_committed: bool) {
    redaction::application_name();
    ROUND.set(ROUND.get() + 1);
    statement::transaction_ends(!is_committed);
    if !TOUCHED.take() {
        return;
    }
    for one in REVEALS.take() {
        emit(Class::Reveal, Room::Never, |packer| {
            one.fill(packer);
            packer.number(Field::Revealed, one.values).number(Field::Success, u64::from(is_committed));
        });
    }
    PROTECTED.set(false);
    let number = INTENT.take();
    if number != 0 {
        emit(Class::Write, Room::Never, |packer| {
            packer.text(Field::Event, what.as_bytes());
            packer.number(Field::Xid, number).number(Field::Success, u64::from(is_committed));
        });
    }
}
