//! Sessions: who came, who was refused, who left.

use std::cell::Cell;

use pgpci_core::record::{Class, Field};

use super::emit::{self, Room, emit};
use super::{replication, statement};
use crate::pg::local::Local;
use crate::pg::{port, ring_wait, session, session_end};

static LOGGED_IN: Local<Cell<bool>> = Local::new(Cell::new(false));
// Somebody failed to authenticate, and no error has told of it yet.
static REFUSED: Local<Cell<bool>> = Local::new(Cell::new(false));
static REPAIRS: Local<Cell<bool>> = Local::new(Cell::new(false));
static LAST_WORD: Local<Cell<[u8; 5]>> = Local::new(Cell::new(*b"00000"));

/// Whether the session is established: before, whatever fails is a failed login.
pub fn is_logged_in() -> bool {
    LOGGED_IN.get()
}

/// Whether it is a superuser's on the machine itself, who can repair the trail's disk: such a session never waits for
/// room in the ring, and a part of that is its own.
pub fn repairs() -> bool {
    REPAIRS.get()
}

/// The first transaction of a session is about to commit: with it the session is established.
pub fn first_commit() {
    if LOGGED_IN.get() || !port::has_client() {
        return;
    }
    LOGGED_IN.set(true);
    let is_local = port::with_client(|client| client.host == port::LOCAL) == Some(true);
    REPAIRS.set(is_local && session::is_superuser(session::user()));
    emit::refresh();
    // A walsender outlives the trail worker when the server stops.
    if session::is_walsender() {
        replication::begins();
    } else {
        ring_wait::count_session(1);
    }
    session_end::at_end(ends);
    emit(Class::Auth, Room::Wait, |packer| {
        packer.text(Field::Event, b"LOGIN").number(Field::Success, 1);
        if session::is_walsender() {
            packer.object(b"replication");
        }
    });
}

/// PostgreSQL's STATUS_ERROR: the proof of identity was wrong. A client that hung up to ask for one has another.
const WRONG: i32 = -1;

/// The authentication is over. What it refused is told by the error that follows; where errors that end a session are
/// not logged, by the end of the process.
pub fn authenticated(status: i32) {
    if status == WRONG {
        REFUSED.set(true);
        session_end::at_end(|| {
            if REFUSED.get() {
                emit(Class::Auth, Room::Never, |packer| {
                    packer.text(Field::Event, b"LOGIN").number(Field::Success, 0);
                });
            }
        });
    }
}

/// A login fails by an error that tells of it.
pub fn login_fails() {
    REFUSED.set(false);
}

/// The session ends by this error.
pub fn last_word(sqlstate: [u8; 5]) {
    LAST_WORD.set(sqlstate);
}

fn ends() {
    // What the session leaves undone is told before its end.
    if statement::is_recording() {
        statement::transaction_ends(true);
    }
    replication::is_over();
    emit(Class::Session, Room::Never, |packer| {
        packer.text(Field::Event, b"LOGOUT").number(Field::Success, 1);
        if LAST_WORD.get() != *b"00000" {
            packer.text(Field::Sqlstate, &LAST_WORD.get());
        }
    });
    if !session::is_walsender() {
        ring_wait::count_session(-1);
    }
}
