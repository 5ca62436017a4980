//! What is recorded, and the one function that everything is recorded through.
//! The record goes to the server log; it never holds a digit of a card number beyond what masks show.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::pg::session;

/// What kind of thing happened (PCI DSS 10.2.1).
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// Clear digits left (10.2.1.1).
    Reveal,
    /// Somebody was refused (10.2.1.4).
    Denied,
    /// Keys were made or changed.
    Key,
    /// Policy was made or changed (10.2.1.5).
    Policy,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reveal => "REVEAL",
            Self::Denied => "DENIED",
            Self::Key => "KEY",
            Self::Policy => "POLICY",
        })
    }
}

/// Records one event.
pub fn record(class: Class, event: &str) {
    pgrx::log!("pgpci: {class} by \"{}\": {event}", session::role_name(session::user()));
}

/// Values that one door revealed in the running transaction, of one vault for one purpose: recorded when the
/// first is about to leave, counted, and the count recorded when the transaction ends, however it ends.
struct Reveals {
    what: String,
    values: u64,
}

thread_local! {
    static REVEALS: RefCell<Vec<Reveals>> = const { RefCell::new(Vec::new()) };
    // Tells the tallies of one transaction from those of the next.
    static ROUND: Cell<u64> = const { Cell::new(1) };
}

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

/// A door is about to let values through; recorded at once.
pub fn begin_reveal(door: &str, vault: &str, purpose: Option<&str>) -> Tally {
    // A purpose is a word of the caller's: whatever it holds, digits do not reach the record.
    let purpose = purpose.map(|p| format!(", purpose \"{}\"", p.replace(|c: char| c.is_ascii_digit(), "#")));
    let what = format!("{door} in vault \"{vault}\"{}", purpose.unwrap_or_default());
    let round = ROUND.get();
    if let Some(index) = REVEALS.with_borrow(|r| r.iter().position(|one| one.what == what)) {
        return Tally { round, index };
    }
    record(Class::Reveal, &format!("{what} begins"));
    let index = REVEALS.with_borrow_mut(|r| {
        r.push(Reveals { what, values: 0 });
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

/// Records the counts; called when a transaction ends.
pub fn flush_reveals() {
    ROUND.set(ROUND.get() + 1);
    for Reveals { what, values } in REVEALS.take() {
        pgrx::log!("pgpci: REVEAL ends: {what}, {values} values");
    }
}
