//! Replication commands: BASE_BACKUP, START_REPLICATION, slots. No hook is called for them; PostgreSQL logs each before
//! it runs it, if `log_replication_commands` is on. So it is on in every walsender, and where the server's own setting is
//! off these lines go no further than here.

use std::cell::Cell;

use pgpci_core::record::{Class, Field};

use super::emit::{Room, emit};
use crate::pg::log::{self, Message};
use crate::pg::session;

thread_local! { static IS_QUIET: Cell<bool> = const { Cell::new(false) } }

/// A walsender has begun.
pub fn begins() {
    IS_QUIET.set(session::log_replication_commands());
}

/// A command was received. Its failure is another event.
pub fn received(message: &mut Message) {
    let text = log::client_text();
    emit(Class::Replication, Room::Never, |packer| {
        packer.text(Field::Event, super::failure::first_word(text)).statement(text);
    });
    if IS_QUIET.get() {
        message.keep_out_of_log();
    }
}
