//! Card numbers and passwords in what the server logs, shows in pg_stat_activity, and hands to other extensions.

use std::cell::Cell;

use pgpci_core::redact::{End, in_place};

use crate::pg::log::{self, Message};

/// Takes them out of the text that the client sent, before anybody else is given it: once a statement.
pub fn client_text() {
    thread_local! { static SEEN: Cell<(usize, usize, i64)> = const { Cell::new((0, 0, 0)) } }
    let mark = log::client_text_mark();
    if SEEN.replace(mark) != mark && take_out() {
        log::show_client_text();
    }
}

/// Takes them out of a message and of the statement that is logged with it.
pub fn message(message: &mut Message) {
    message.for_each_text(|text| {
        in_place(text, End::Whole);
    });
    if take_out() {
        log::show_client_text();
    }
}

fn take_out() -> bool {
    log::with_client_text(|text| !in_place(text, End::Whole).is_empty())
}
