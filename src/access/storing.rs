//! A value made for comparison only (by somebody who may search but not store) must not be kept: it holds no
//! digits. A statement that writes is refused to them if it writes a card number that is not already stored.

use pgpci_core::access::Capability;
use pgrx::pg_sys;

use crate::access::{self, search, tables};
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pan;
use crate::pg::{query, walk_plan};

/// A statement that writes starts: 42501 if it is such a one.
pub fn check(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    if !walk_plan::makes_pan(query::plan(desc)) || !Ring::get()?.active {
        return Ok(());
    }
    // What our own functions write is stored already.
    if tables::is_writing() || !may_make_comparands()? {
        return Ok(());
    }
    access::require(Capability::Store, DEFAULT_VAULT)?;
    if search::is_plural()? {
        pan::require_default()?;
        if walk_plan::gives_comparand(query::plan(desc)) {
            return Err(Error::state(
                "the statement was prepared when vault \"default\" took no card numbers",
            )
            .hint("Prepare it again."));
        }
    }
    Ok(())
}

/// Whether input may have made such a value for the user.
fn may_make_comparands() -> Result<bool> {
    if search::require_quietly().is_ok() {
        return Ok(true);
    }
    if !search::is_plural()? {
        return Ok(false);
    }
    for vault in Ring::get()?.vaults().iter().map(|vault| vault.number) {
        if access::may(Capability::Store, vault)? || access::may(Capability::Search, vault)? {
            return Ok(true);
        }
    }
    Ok(false)
}
