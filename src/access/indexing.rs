//! Comparisons that no expression asks for: by an index, for a partition, in a sort. For who may not compare, an index
//! is kept up to date all the same, and what it finds equal is counted. But a stored card number is not written where it
//! is compared: copied among guesses it would soon be found out.

use pgpci_core::seal::Pan;
use pgrx::pg_sys;

use super::{conflicts, search};
use crate::error::{Error, Result};
use crate::key::nonce;
use crate::pg::activity::{self, Kind};
use crate::pg::typed::{self, Known};
use crate::pg::{caller, query, table_keys};

const HINT: &str = "A stored card number is written to a table that compares it (by an index, a foreign key, a hash partition, in an \
                    array or row) by roles with the capability search only: write the number itself, or have an officer grant search.";

/// A statement that writes starts: 42501 if it writes stored card numbers where they are compared, for a user who may
/// not compare. What it is, for the comparisons to come.
pub fn start(desc: *mut pg_sys::QueryDesc) -> Result<Kind> {
    if query::makes_containers(desc) {
        search::require_quietly().map_err(|_| refuse())?;
    }
    let compares = query::targets(desc).into_iter().any(table_keys::has_pan_key);
    if !compares {
        return Ok(Kind::OtherWrite);
    }
    if search::require_quietly().is_ok() {
        return Ok(Kind::Compares);
    }
    let mut parameters = true;
    query::for_each_parameter_with_pan(desc, |value| {
        let pan = value.and_then(|bytes| Pan::from_stored(bytes).ok());
        // An unknown kind of value is not looked into.
        parameters &= pan.is_some_and(is_typed);
    });
    judge(desc, parameters, false).map(Kind::Write)
}

/// The same of a foreign-key statement that cascades, whose parameters PostgreSQL takes from the row that changed.
pub fn start_cascade(desc: *mut pg_sys::QueryDesc) -> Result<Kind> {
    let compares = query::targets(desc).into_iter().any(table_keys::has_pan_key);
    match compares && search::require_quietly().is_err() {
        true => judge(desc, true, true).map(Kind::ForeignKeyWrite),
        false => Ok(Kind::ForeignKeyWrite(activity::new_write())),
    }
}

/// A foreign-key statement that only reads starts: what it looks for was written by a statement that was judged before
/// the table had that key, if a row has moved to another partition.
pub fn start_read(desc: *mut pg_sys::QueryDesc) -> Result<Kind> {
    let mut compares = false;
    query::for_each_parameter_with_pan(desc, |_| compares = true);
    if compares {
        match activity::innermost() {
            Some(Kind::OtherWrite) => search::require_quietly().map_err(|_| refuse())?,
            _ => judge_again()?,
        }
    }
    Ok(Kind::ForeignKeyRead)
}

/// What runs was judged by the keys that tables had then. What was typed is so for ever.
fn judge_again() -> Result<()> {
    let Some(outdated) = activity::outdated() else { return Ok(()) };
    let cascades = matches!(activity::innermost(), Some(Kind::ForeignKeyWrite(_)));
    let known = Known { parameters: true, cascades, is_typed: |_| true };
    match typed::writes_typed(query::plan(outdated as *mut pg_sys::QueryDesc), known) {
        true => activity::is_judged(outdated),
        false => return Err(refuse()),
    }
    Ok(())
}

fn judge(desc: *mut pg_sys::QueryDesc, parameters: bool, cascades: bool) -> Result<u32> {
    let is_typed = |bytes: &[u8]| Pan::from_stored(bytes).is_ok_and(is_typed);
    match typed::writes_typed(query::plan(desc), Known { parameters, cascades, is_typed }) {
        true => Ok(activity::new_write()),
        false => Err(refuse()),
    }
}

/// Whether a card number was typed where the statement may write it. One without an equality hash equals nothing but
/// itself.
fn is_typed(pan: Pan<'_>) -> bool {
    !pan.is_searchable() || pan.nonce().is_none_or(nonce::is_mine_to_write)
}

/// What COPY FROM is: what it reads was typed.
pub fn kind_of_copy() -> Kind {
    match search::require_quietly() {
        Ok(()) => Kind::Utility,
        Err(_) => Kind::Write(activity::new_write()),
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

/// 42501 unless what runs may compare card numbers, or keeps an index. `by_index`: it is an index's own function that is
/// called: what a query has an index do shows in its plan, and what else asks an index looks after it (amcheck).
pub fn check(by_index: bool) -> Result<()> {
    match activity::innermost() {
        // Where nothing runs, an index is built or a table rewritten: judged when it was defined.
        None => Ok(()),
        Some(Kind::Write(_) | Kind::ForeignKeyWrite(_)) => judge_again(),
        Some(Kind::Utility | Kind::Compares | Kind::ForeignKeyRead) => Ok(()),
        Some(Kind::Query) if by_index => Ok(()),
        // What is built anew is as it was; statistics are not taken so.
        Some(Kind::Vacuum) if !caller::is_analyzing() => Ok(()),
        Some(Kind::Query | Kind::OtherWrite | Kind::Vacuum) => {
            search::require_quietly().map_err(|_| search::refuse())
        }
    }
}

/// The same for a hash. A hash index that is built anew shows by its size how many of them fall together, whatever else
/// was deleted from the table or added to it.
pub fn check_hash(by_index: bool) -> Result<()> {
    match activity::innermost() {
        Some(Kind::Utility | Kind::Vacuum) => search::require_quietly().map_err(|_| search::refuse()),
        _ => check(by_index),
    }
}

/// Two values were found equal: that is what a guess looks like, unless it is the same row as it was.
pub fn found_equal(a: Pan<'_>, b: Pan<'_>) -> Result<()> {
    match a.bytes() == b.bytes() || activity::innermost() == Some(Kind::ForeignKeyRead) {
        true => Ok(()),
        false => conflicts::found_equal(),
    }
}

fn refuse() -> Error {
    search::refuse().hint(HINT)
}
