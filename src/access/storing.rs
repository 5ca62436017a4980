//! A value made for comparison only (by somebody who may search but not store) must not be kept: it holds no
//! digits. A statement that writes is refused to them if it writes a card number that is not already stored.

use pgpci_core::access::Capability;
use pgrx::pg_sys;

use crate::access::{self, search};
use crate::error::Result;
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pg::{query, walk_plan};

/// A statement that writes starts: 42501 if it is such a one.
pub fn check(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    if !walk_plan::makes_pan(query::plan(desc)) || !Ring::get()?.active {
        return Ok(());
    }
    if search::require_quietly().is_ok() && !access::may(Capability::Store, DEFAULT_VAULT)? {
        return Err(access::refuse(Capability::Store, DEFAULT_VAULT));
    }
    Ok(())
}
