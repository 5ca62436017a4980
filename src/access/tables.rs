//! Writes to the tables of pgpci: only by its own functions, whoever asks.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::key::ring::Ring;
use crate::pg::{catalog, session};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f`, whose statements may write to our tables.
pub fn writing<T>(f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get().saturating_sub(1));
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _leave = Leave;
    f()
}

/// Whether one of our own functions is writing.
pub fn is_writing() -> bool {
    DEPTH.get() > 0
}

/// Catalogs of roles, their members and labels.
// pg_authid, pg_auth_members, pg_shseclabel: fixed; pgrx binds only the first.
const ROLE_CATALOGS: [u32; 3] = [1260, 1261, 3592];

/// 42501 for a write to a system catalog by hand: to those of roles everywhere, to all where pgpci is. What decides
/// about card numbers rests on them.
pub fn check_catalog_write(relation: pg_sys::Oid, is_here: bool) -> Result<()> {
    let is_catalog = relation.to_u32() < pg_sys::FirstNormalObjectId && session::is_catalog(relation);
    let is_guarded = ROLE_CATALOGS.contains(&relation.to_u32()) || (is_here && is_catalog);
    if is_guarded && !session::in_extension_script() && !session::is_upgrading() {
        crate::audit::record(crate::audit::Class::Denied, "write to a system catalog");
        return Err(Error::denied("system catalogs are not written by hand")
            .hint("Use the statement for it, such as ALTER TABLE, CREATE ROLE or GRANT."));
    }
    Ok(())
}

/// Forgets an interrupted `writing`; called when a transaction ends.
pub fn reset() {
    DEPTH.set(0);
}

/// 42501 for a statement that writes to a table of ours. A restore may fill them while nothing is in force:
/// what arrives so counts for nothing until `pci.accept_policy`.
pub fn check_write(relation: pg_sys::Oid) -> Result<()> {
    let Some(catalog) = catalog::get() else {
        return Ok(());
    };
    if DEPTH.get() > 0 || !catalog.is_protected_table(relation) || session::in_extension_script() {
        return Ok(());
    }
    if Ring::get().is_ok_and(|ring| ring.is_unaccepted()) {
        return Ok(());
    }
    crate::audit::record(crate::audit::Class::Denied, "write to a table of pgpci");
    Err(Error::denied("tables of pgpci change only through its functions")
        .hint("See the schema pci for the function."))
}
