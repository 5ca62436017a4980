//! What is recorded, and how it becomes the trail.
//!
//! `emit` puts events into the ring; `transaction` has what must be recorded before something leaves or commits;
//! `trail` is the worker that makes records of them, with `files` and `node`. No event holds a digit of a card
//! number beyond what masks show.

mod closed;
mod controls;
mod emit;
mod encoding;
mod failure;
mod files;
mod function;
mod intents;
mod lines;
mod node;
mod open;
pub mod read;
mod redaction;
mod replication;
mod resume;
mod retention;
pub mod rotation;
mod scope;
mod session;
mod ship;
mod signing;
mod space;
mod statement;
mod timeline;
mod trail;
mod transaction;
pub mod verify;

use pgpci_core::record::{Class as Kind, Field};

pub use failure::logged;
pub use function::{calls, may_be_listed};
pub use redaction::client_text;
pub use session::authenticated;
pub use statement::{
    ends, is_not_starting, is_recording, is_recording_utility, object, passes, passes_utility, permissions,
    ran, starts, utility_ends, utility_starts,
};
pub use trail::register;
pub use transaction::{Tally, begin_reveal, count_reveal, protect};

use emit::{Room, emit};

/// What kind of thing happened (PCI DSS 10.2.1).
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// Somebody was refused (10.2.1.4).
    Denied,
    /// Keys were made or changed.
    Key,
    /// Policy was made or changed (10.2.1.5).
    Policy,
    /// Something happened at a login.
    Account,
}

/// Records one event. Changes of keys and policy do not commit before it is on the disk.
pub fn record(class: Class, event: &str) {
    let kind = match class {
        Class::Denied => {
            return emit(Kind::Policy, Room::Wait, |packer| {
                packer.text(Field::Event, b"DENIED").foreign(Field::Message, event.as_bytes());
                packer.number(Field::Success, 0).text(Field::Sqlstate, b"42501");
            });
        }
        Class::Account => {
            return emit(Kind::Auth, Room::Wait, |packer| {
                packer.foreign(Field::Event, event.as_bytes());
            });
        }
        Class::Key => Kind::Key,
        Class::Policy => Kind::Policy,
    };
    transaction::protect();
    emit(kind, Room::Wait, |packer| {
        packer.foreign(Field::Event, event.as_bytes());
        transaction::xid(packer);
    });
}

/// A transaction ends, or is about to.
pub fn transaction(event: pgrx::pg_sys::XactEvent::Type) {
    transaction::event(event)
}

/// A subtransaction is undone.
pub fn subtransaction_aborts() {
    statement::subtransaction_aborts()
}
