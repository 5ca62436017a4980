//! The hashes of a transaction: a value made before `pci.rekey_equality` must not be stored after it, where its hash
//! would equal no other. It waits for the lock on its table, and is refused then.

use std::cell::RefCell;

use pgpci_core::key::KeyId;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::Sealing;
use crate::error::{Error, Result};
use crate::pg::local::Local;
use crate::pg::query;

// The comparison keys that values of the running transaction were made with.
static MADE: Local<RefCell<Vec<(i32, KeyId)>>> = Local::new(RefCell::new(Vec::new()));

/// A value was made.
#[inline]
pub fn made(vault: i32, equality: KeyId) {
    MADE.with_borrow_mut(|made| {
        if made.last() != Some(&(vault, equality)) && !made.contains(&(vault, equality)) {
            made.push((vault, equality));
        }
    });
}

/// A statement starts, with its locks: 40001 if it would write a hash of before.
pub fn check(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    let made = MADE.with_borrow(|made| if made.is_empty() { Vec::new() } else { made.clone() });
    if made.is_empty() || !query::writes(desc) {
        return Ok(());
    }
    for (vault, equality) in made {
        if Sealing::equality_of(vault)? != equality {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "the vault's comparison key was replaced while the statement waited",
            )
            .hint("Run the transaction again."));
        }
    }
    Ok(())
}

/// A transaction ends.
pub fn transaction_ends() {
    MADE.with_borrow_mut(Vec::clear);
}
