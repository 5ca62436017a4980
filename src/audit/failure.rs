//! Failures, on their way to the log and the client. Whatever failed may hold locks: nothing here takes one, waits,
//! raises or allocates.

use std::cell::Cell;

use pgpci_core::record::{Class, Field};

use super::emit::{Room, emit};
use super::{redaction, replication, session, statement};
use crate::pg::local::Local;
use crate::pg::log::{self, Message};
use crate::pg::port;

static IS_INSIDE: Local<Cell<bool>> = Local::new(Cell::new(false));

/// Something is about to be logged.
pub fn logged(mut message: Message) {
    if IS_INSIDE.replace(true) {
        return;
    }
    redaction::message(&mut message);
    if message.is_failure() && port::has_client() {
        if !session::is_logged_in() {
            // Whoever has not logged in is told whose refusal it is by no more than its words.
            message.forget_place();
        }
        record(&message);
    }
    if message.is_replication_command() && port::has_client() {
        replication::received(&mut message);
    }
    IS_INSIDE.set(false);
}

fn record(message: &Message) {
    let sqlstate = message.sqlstate();
    if !session::is_logged_in() {
        session::login_fails();
        return emit(Class::Auth, Room::Never, |packer| {
            packer.text(Field::Event, b"LOGIN");
            outcome(packer, message);
        });
    }
    if message.is_fatal() {
        session::last_word(sqlstate);
    }
    statement::fails(sqlstate);
    replication::fails();
    let is_told = statement::with_outermost(|class, fields| {
        emit(class, Room::Never, |packer| {
            packer.fields(fields);
            outcome(packer, message);
        });
    });
    if is_told.is_some() {
        return;
    }
    let text = log::client_text();
    let (class, name) = kind_of(text);
    emit(class, Room::Never, |packer| {
        packer.text(Field::Event, name);
        if !text.is_empty() {
            packer.statement(text);
        }
        message.with_table(|table| {
            packer.object(table);
        });
        outcome(packer, message);
    });
}

fn outcome(packer: &mut pgpci_core::record::Packer, message: &Message) {
    packer.number(Field::Success, 0).text(Field::Sqlstate, &message.sqlstate());
    packer.foreign(Field::Message, message.text());
}

/// What begins so, when nothing else is known of it: it was not parsed, or not allowed.
const KINDS: [(&[u8], Class); 43] = [
    (b"SELECT", Class::Read),
    (b"WITH", Class::Read),
    (b"TABLE", Class::Read),
    (b"VALUES", Class::Read),
    (b"FETCH", Class::Read),
    (b"DECLARE", Class::Read),
    (b"EXPLAIN", Class::Read),
    (b"SHOW", Class::Read),
    (b"INSERT", Class::Write),
    (b"UPDATE", Class::Write),
    (b"DELETE", Class::Write),
    (b"MERGE", Class::Write),
    (b"BEGIN", Class::Write),
    (b"COMMIT", Class::Write),
    (b"END", Class::Write),
    (b"ROLLBACK", Class::Write),
    (b"SAVEPOINT", Class::Write),
    (b"COPY", Class::Copy),
    (b"CREATE", Class::Ddl),
    (b"ALTER", Class::Ddl),
    (b"DROP", Class::Ddl),
    (b"TRUNCATE", Class::Ddl),
    (b"COMMENT", Class::Ddl),
    (b"SECURITY", Class::Ddl),
    (b"REFRESH", Class::Ddl),
    (b"VACUUM", Class::Ddl),
    (b"GRANT", Class::Grant),
    (b"REVOKE", Class::Grant),
    (b"SET", Class::Config),
    (b"RESET", Class::Config),
    (b"LOAD", Class::Config),
    (b"DO", Class::Function),
    (b"CALL", Class::Function),
    (b"EXECUTE", Class::Function),
    (b"IDENTIFY_SYSTEM", Class::Replication),
    (b"TIMELINE_HISTORY", Class::Replication),
    (b"START_REPLICATION", Class::Replication),
    (b"BASE_BACKUP", Class::Replication),
    (b"UPLOAD_MANIFEST", Class::Replication),
    (b"CREATE_REPLICATION_SLOT", Class::Replication),
    (b"ALTER_REPLICATION_SLOT", Class::Replication),
    (b"DROP_REPLICATION_SLOT", Class::Replication),
    (b"READ_REPLICATION_SLOT", Class::Replication),
];

/// The word that a text begins with.
pub(super) fn first_word(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'_');
    &text[..end.unwrap_or(text.len())]
}

fn kind_of(text: &[u8]) -> (Class, &'static [u8]) {
    let word = first_word(text);
    let known = KINDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    known.map_or((Class::Session, b"STATEMENT"), |(name, class)| (*class, name))
}
