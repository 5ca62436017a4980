//! A stored card number that is copied among guesses of the copier's own is soon found out: by a unique or foreign
//! key, a partition, a constraint. So a role without `search` does not copy: a stored number leaves its row only as
//! what is printed. What a statement writes must be made by it, or come in its parameters from the same transaction.

use pgpci_core::seal::Pan;
use pgrx::pg_sys;

use super::search;
use crate::error::Result;
use crate::key::nonce;
use crate::pg::query;

const HINT: &str = "A stored card number is copied by roles with the capability search only: write the number itself, \
                    or have an officer grant search.";

/// A statement that writes starts; its plan may say that it copies.
pub fn check(desc: *mut pg_sys::QueryDesc, mut copies: bool) -> Result<()> {
    query::for_each_parameter_with_pan(desc, |value| {
        // An array or a row of card numbers is not looked into.
        copies |= value.is_none_or(|bytes| Pan::from_stored(bytes).is_ok_and(is_stored));
    });
    if copies && search::require_quietly().is_err() {
        return Err(search::refuse().hint(HINT));
    }
    Ok(())
}

/// Whether a value was there before this transaction. One without an equality hash equals nothing but itself.
fn is_stored(pan: Pan<'_>) -> bool {
    pan.is_searchable() && pan.nonce().is_some_and(|nonce| !nonce::is_mine(nonce))
}
