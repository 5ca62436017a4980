//! What is recorded, and the one function that everything is recorded through.
//! The record goes to the server log; it never holds a digit of a card number beyond what masks show.

use std::cell::RefCell;
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
    pgrx::log!(
        "pgpci: {class} by \"{}\": {event}",
        session::role_name(session::user())
    );
}

/// Values revealed by the running transaction, by door, vault and purpose: recorded at the first value,
/// counted, and the count recorded when the statement's transaction ends.
#[derive(PartialEq, Eq)]
struct Tally {
    door: &'static str,
    vault: i32,
    purpose: Option<String>,
    values: u64,
}

thread_local! {
    static TALLIES: RefCell<Vec<Tally>> = const { RefCell::new(Vec::new()) };
}

/// Counts a value that goes through a door that decrypts; records the first of each kind at once.
pub fn count_reveal(door: &'static str, vault: i32, vault_name: &str, purpose: Option<&str>) {
    let first = TALLIES.with_borrow_mut(|tallies| {
        let same =
            |t: &&mut Tally| t.door == door && t.vault == vault && t.purpose.as_deref() == purpose;
        if let Some(tally) = tallies.iter_mut().find(same) {
            tally.values += 1;
            return false;
        }
        tallies.push(Tally {
            door,
            vault,
            purpose: purpose.map(str::to_owned),
            values: 1,
        });
        true
    });
    if first {
        record(
            Class::Reveal,
            &format!(
                "{door} begins in vault \"{vault_name}\"{}",
                for_purpose(purpose)
            ),
        );
    }
}

/// Records the counts; called when a transaction ends, however it ends.
pub fn flush_reveals() {
    for tally in TALLIES.take() {
        let Tally {
            door,
            vault,
            purpose,
            values,
        } = tally;
        pgrx::log!(
            "pgpci: REVEAL {door} of {values} values in vault {vault}{}",
            for_purpose(purpose.as_deref())
        );
    }
}

fn for_purpose(purpose: Option<&str>) -> String {
    purpose
        .map(|p| {
            format!(
                ", purpose \"{}\"",
                p.replace(|c: char| c.is_ascii_digit(), "#")
            )
        })
        .unwrap_or_default()
}
