//! Replication commands: BASE_BACKUP, START_REPLICATION, slots. No hook is called for them; PostgreSQL logs each before
//! it runs it, if `log_replication_commands` is on. So it is on in every walsender, and where the server's own setting is
//! off these lines go no further than here.
//!
//! A command is recorded before it runs. What became of it is known when it fails, or else when the next one comes or
//! the session ends.

use std::cell::{Cell, RefCell};

use pgpci_core::record::{Class, Field, Packer};

use super::emit::{Room, emit};
use crate::pg::log::{self, Message};
use crate::pg::session;

/// How much is remembered of a command, in bytes.
const REMEMBERED: usize = 2048;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    // The fields of the command that runs, and their length; 0 if none does. No allocation: see `failure`.
    static RUNNING: RefCell<([u8; REMEMBERED], usize)> = const { RefCell::new(([0; REMEMBERED], 0)) };
}

/// A walsender has begun.
pub fn begins() {
    IS_QUIET.set(session::log_replication_commands());
}

/// A command was received.
pub fn received(message: &mut Message) {
    is_over();
    let text = log::client_text();
    RUNNING.with_borrow_mut(|(fields, len)| {
        let mut packer = Packer::bare(&mut fields[..]);
        packer.text(Field::Event, super::failure::first_word(text)).statement(text);
        *len = packer.finish().len();
    });
    tell(None);
    if IS_QUIET.get() {
        message.keep_out_of_log();
    }
}

/// What ran, if anything did, has failed: the failure's own record says so.
pub fn fails() {
    RUNNING.with_borrow_mut(|(_, len)| *len = 0);
}

/// What ran went well.
pub fn is_over() {
    tell(Some(1));
    fails();
}

fn tell(success: Option<u64>) {
    RUNNING.with_borrow(|(fields, len)| {
        if *len > 0 {
            emit(Class::Replication, Room::Never, |packer| {
                packer.fields(&fields[..*len]);
                if let Some(success) = success {
                    packer.number(Field::Success, success);
                }
            });
        }
    });
}
