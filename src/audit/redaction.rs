//! Card numbers and passwords in what the server logs, shows in pg_stat_activity, and hands to other extensions.

use std::cell::{Cell, RefCell};

use pgpci_core::redact::{End, in_place};

use crate::pg::log::{self, Message};

/// Takes them out of the text that the client sent, before anybody else is given it: once a statement.
pub fn client_text() {
    thread_local! { static SEEN: Cell<(usize, usize, i64)> = const { Cell::new((0, 0, 0)) } }
    let mark = log::client_text_mark();
    if SEEN.replace(mark) != mark && log::with_client_text(take_out) {
        log::show_client_text();
    }
}

/// How many texts are remembered, of what length at most in bytes.
const REMEMBERED: usize = 64;
const LONGEST: usize = 1024;

thread_local! {
    // Texts in which nothing was found, by their addresses: prepared statements come again and again, mostly in the
    // same place, and comparing costs a fraction of reading.
    static CLEAN: RefCell<[Vec<u8>; REMEMBERED]> = const { RefCell::new([const { Vec::new() }; REMEMBERED]) };
}

/// Whether anything was found.
fn take_out(text: &mut [u8]) -> bool {
    let place = (text.as_ptr() as usize >> 4) % REMEMBERED;
    if CLEAN.with_borrow(|clean| clean[place] == text) {
        return false;
    }
    let found = !in_place(text, End::Whole).is_empty();
    if !found && text.len() <= LONGEST {
        CLEAN.with_borrow_mut(|clean| {
            clean[place].clear();
            clean[place].extend_from_slice(text);
        });
    }
    found
}

/// Takes them out of a message and of the statement that is logged with it.
pub fn message(message: &mut Message) {
    message.for_each_text(|text| {
        in_place(text, End::Whole);
    });
    if log::with_client_text(|text| !in_place(text, End::Whole).is_empty()) {
        log::show_client_text();
    }
}
