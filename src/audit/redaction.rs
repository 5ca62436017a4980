//! Card numbers and passwords in what the server logs, shows in pg_stat_activity, and hands to other extensions.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use pgpci_core::redact::{End, in_place, literals_in_place, redact};

use crate::pg::local::Local;
use crate::pg::log::{self, Message};
use crate::pg::port;

// Where the text is that was looked through last, and of which statement.
static SEEN: Local<Cell<(usize, usize, i64)>> = Local::new(Cell::new((0, 0, 0)));

/// Takes them out of the text that the client sent, before anybody else is given it: once a statement.
pub fn client_text() {
    let mark = log::client_text_mark();
    if SEEN.replace(mark) != mark && log::with_client_text(take_out) {
        log::show_client_text();
    }
}

/// Whether nothing is to be taken out of it, as far as that is known. Only looks.
pub fn is_clean() -> bool {
    let mark = log::client_text_mark();
    if SEEN.get() == mark {
        return true;
    }
    let mut is_clean = true;
    log::with_client_text(|text| {
        is_clean &= CLEAN.try_borrow().is_ok_and(|clean| clean[place_of(text)] == text);
        false
    });
    if is_clean {
        SEEN.set(mark);
    }
    is_clean
}

/// How many texts are remembered, of what length at most in bytes.
const REMEMBERED: usize = 64;
const LONGEST: usize = 1024;

// Texts in which nothing was found, at a place that a few of their bytes tell: prepared statements come again and again,
// and comparing costs a fraction of reading.
static CLEAN: Local<RefCell<[Vec<u8>; REMEMBERED]>> =
    Local::new(RefCell::new([const { Vec::new() }; REMEMBERED]));

fn place_of(text: &[u8]) -> usize {
    let part =
        |at: usize| text.get(at..).and_then(<[u8]>::first_chunk::<8>).map_or(0, |it| u64::from_le_bytes(*it));
    let len = text.len();
    let mixed = (part(0) ^ part(len / 2).rotate_left(21) ^ part(len.saturating_sub(8)).rotate_left(42))
        .wrapping_add(len as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % REMEMBERED
}

/// Whether anything was found.
fn take_out(text: &mut [u8]) -> bool {
    let place = place_of(text);
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
    // It may stand before every line.
    application_name();
    if message.is_tree() {
        message.with_detail(constants);
    }
    if &message.sqlstate() == SYNTAX_ERROR && log::with_client_text(role_literals) {
        // It quotes what it stumbled at.
        message.for_each_text(|text| {
            literals_in_place(text);
        });
        log::show_client_text();
    }
    let mut has_parameters = false;
    message.for_each_text(|text| has_parameters |= holds(text, PARAMETERS));
    // Wherever it stands: a statement may be long.
    if has_parameters && log::with_client_text(|text| contains(text, PASSWORD_FUNCTION)) {
        message.for_each_text(|text| {
            if holds(text, PARAMETERS) {
                literals_in_place(text);
            }
        });
    }
    message.for_each_text(|text| {
        in_place(text, End::Whole);
    });
    if log::with_client_text(|text| !in_place(text, End::Whole).is_empty()) {
        log::show_client_text();
    }
}

/// What is given passwords as parameters, too; and what stands before parameters in a message.
const PASSWORD_FUNCTION: &[u8] = b"check_password";
const PARAMETERS: &[u8] = b"parameters: $1 = ";
const SYNTAX_ERROR: &[u8; 5] = b"42601";
/// What a statement about roles begins with; and how far it is looked for.
const ROLES: [&[u8]; 4] = [b"create role", b"create user", b"alter role", b"alter user"];
const BEGINNING: usize = 4096;

/// What should have been a statement about a role, and could not be parsed, may hold a password in any of its literals.
fn role_literals(text: &mut [u8]) -> bool {
    ROLES.iter().any(|words| holds(text, words)) && !literals_in_place(text).is_empty()
}

/// Whether the text has these words near its beginning.
fn holds(text: &[u8], words: &[u8]) -> bool {
    contains(&text[..text.len().min(BEGINNING)], words)
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|it| it.eq_ignore_ascii_case(words))
}

/// Constants in a tree that `debug_print_…` prints: their bytes as numbers, and strings.
fn constants(tree: &mut [u8]) {
    let mut closing = None;
    for byte in tree {
        match (*byte, closing) {
            (found, Some(end)) if found == end => closing = None,
            (b'\n', Some(b'"')) => closing = None,
            (b'0'..=b'9', Some(b']')) | (_, Some(b'"')) => *byte = b'*',
            (b'"', None) => closing = Some(b'"'),
            (b'[', None) => closing = Some(b']'),
            _ => {}
        }
    }
}

/// A name as records show it: a table may be called as anything.
pub fn name(name: String) -> String {
    match redact(name.as_bytes()) {
        Cow::Borrowed(_) => name,
        Cow::Owned(redacted) => String::from_utf8_lossy(&redacted).into_owned(),
    }
}

/// Takes a card number out of the name that the application gave itself: it is in pg_stat_activity and in log lines.
pub fn application_name() {
    port::redact_application_name(|name| !in_place(name, End::Whole).is_empty());
}
