//! Comparisons that no expression asks for: by an index, for a partition, in a sort. For who may not compare, an index
//! is kept up to date, and what it finds equal is counted; but a stored card number is not held against others again:
//! copied among guesses it would soon be found out.

use pgpci_core::seal::Pan;
use pgrx::pg_sys;

use super::{conflicts, search};
use crate::error::{Error, Result};
use crate::key::nonce;
use crate::pg::activity::{self, Kind};
use crate::pg::query;
use crate::pg::{relation, typed};

const HINT: &str = "A stored card number is written to what compares it by roles with the capability search only: write the \
                    number itself, or have an officer grant search.";

/// What a statement that writes is, for the comparisons to come: that of a user who may not make any is looked at.
pub fn kind(desc: *mut pg_sys::QueryDesc) -> Kind {
    let compares = query::targets(desc).into_iter().any(relation::has_pan_key);
    if !compares || search::require_quietly().is_ok() {
        return Kind::Query;
    }
    let mut parameters = true;
    query::for_each_parameter_with_pan(desc, |value| {
        // An array or a row is not looked into.
        parameters &= value.is_some_and(|bytes| Pan::from_stored(bytes).is_ok_and(is_to_write));
    });
    Kind::Write(activity::new_write(typed::writes_typed(query::plan(desc), parameters)))
}

/// The same of a foreign-key statement that cascades, whose parameters PostgreSQL takes from the row that changed.
pub fn kind_of_cascade(desc: *mut pg_sys::QueryDesc) -> Kind {
    Kind::ForeignKeyWrite(activity::new_write(typed::writes_typed(query::plan(desc), true)))
}

/// The same of COPY FROM, of which nothing is known before it reads.
pub fn kind_of_copy() -> Kind {
    match search::require_quietly() {
        Ok(()) => Kind::Utility,
        Err(_) => Kind::Write(activity::new_write(false)),
    }
}

/// Whether a query is about a card number that this session typed.
pub fn is_about_typed(desc: *mut pg_sys::QueryDesc) -> bool {
    let mut typed = false;
    query::for_each_parameter_with_pan(desc, |value| {
        let pan = value.and_then(|bytes| Pan::from_stored(bytes).ok());
        typed |= pan.and_then(Pan::nonce).is_some_and(nonce::is_of_transaction);
    });
    typed
}

/// 42501 unless the two may be held against each other by what runs.
pub fn check(a: Pan<'_>, b: Pan<'_>) -> Result<()> {
    if may_compare() || is_to_write(a) || is_to_write(b) { Ok(()) } else { Err(refuse()) }
}

/// 42501 unless the hash of the value may be used by what runs.
pub fn check_one(a: Pan<'_>) -> Result<()> {
    if may_compare() || is_to_write(a) { Ok(()) } else { Err(refuse()) }
}

/// Two were found equal. One that this session typed and one that was there: that is what a guess looks like.
pub fn found_equal(a: Pan<'_>, b: Pan<'_>) -> Result<()> {
    let typed = |pan: Pan<'_>| pan.nonce().is_some_and(nonce::is_of_transaction);
    if typed(a) == typed(b) || activity::innermost() == Some(Kind::ForeignKeyRead) {
        return Ok(());
    }
    conflicts::found_equal()
}

/// Whether what runs may compare any.
fn may_compare() -> bool {
    match activity::innermost() {
        // An index is built, a table is rewritten: judged when it was defined.
        None | Some(Kind::Utility | Kind::ForeignKeyRead | Kind::Compares) => true,
        Some(Kind::Write(write) | Kind::ForeignKeyWrite(write)) if write.is_typed => true,
        _ => search::require_quietly().is_ok(),
    }
}

/// One without an equality hash equals nothing but itself.
fn is_to_write(pan: Pan<'_>) -> bool {
    !pan.is_searchable() || pan.nonce().is_some_and(nonce::is_mine_to_write)
}

fn refuse() -> Error {
    search::refuse().hint(HINT)
}
