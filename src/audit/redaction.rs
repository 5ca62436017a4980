//! Card numbers and passwords in what the server logs, shows in pg_stat_activity, and hands to other extensions.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};

use pgpci_core::redact::{End, in_place};

use crate::pg::log::{self, Message};

/// Takes them out of the text that the client sent, before anybody else is given it: once a statement.
pub fn client_text() {
    thread_local! { static SEEN: Cell<(usize, usize, i64)> = const { Cell::new((0, 0, 0)) } }
    let mark = log::client_text_mark();
    if SEEN.replace(mark) != mark
        && log::with_client_text(|text| {
            let mark = mark_of(text);
            if CLEAN.with_borrow(|clean| clean[place_of(mark)] == mark) {
                return false;
            }
            let is_clean = in_place(text, End::Whole).is_empty();
            if is_clean {
                CLEAN.with_borrow_mut(|clean| clean[place_of(mark)] = mark);
            }
            !is_clean
        })
    {
        log::show_client_text();
    }
}

/// How many texts are remembered.
const REMEMBERED: usize = 64;

thread_local! {
    // Texts in which nothing was found, by a hash with keys that nobody knows: prepared statements come again and
    // again, and looking a text up costs a fraction of reading it.
    static CLEAN: RefCell<[u64; REMEMBERED]> = const { RefCell::new([0; REMEMBERED]) };
    static KEYS: RandomState = RandomState::new();
}

fn mark_of(text: &[u8]) -> u64 {
    KEYS.with(|keys| keys.hash_one(text)) | 1
}

fn place_of(mark: u64) -> usize {
    (mark >> 32) as usize % REMEMBERED
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
