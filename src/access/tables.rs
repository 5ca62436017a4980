//! Writes to the tables of pgpci: only by its own functions, whoever asks.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::key::ring::Ring;
use crate::pg::call::{Call, Value};
use crate::pg::catalog::{self, Catalog};
use crate::pg::local::Local;
use crate::pg::session;
use crate::pg::trigger::Trigger;

static DEPTH: Local<Cell<u32>> = Local::new(Cell::new(0));
// Whether the one statement that a function of ours writes with has yet to start.
static ANNOUNCED: Local<Cell<bool>> = Local::new(Cell::new(false));

/// Runs `f`, of whose statements one may write to one of our tables. What that one sets off, a trigger's code or an
/// operator's, may not.
pub fn writing<T>(f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get().saturating_sub(1));
            ANNOUNCED.set(false);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    ANNOUNCED.set(true);
    let _leave = Leave;
    f()
}

/// Runs `f`, which writes to tables of others, whose code may run in it, what is stored already: to none of ours.
pub fn rewriting<T>(f: impl FnOnce() -> T) -> T {
    writing(|| {
        ANNOUNCED.set(false);
        f()
    })
}

/// Whether this is the one statement that a function of ours has announced, which is now made.
pub fn is_announced() -> bool {
    ANNOUNCED.replace(false)
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
    let is_of_roles = ROLE_CATALOGS.contains(&relation.to_u32());
    // Our own script writes none of roles; an event trigger might while it runs.
    if is_of_roles || is_here && is_catalog && !session::in_extension_script() {
        crate::audit::record(crate::audit::Class::Denied, "write to a system catalog");
        return Err(Error::denied("system catalogs are not written by hand")
            .hint("Use the statement for it, such as ALTER TABLE, CREATE ROLE or GRANT."));
    }
    Ok(())
}

/// Forgets an interrupted `writing`; called when a transaction ends.
pub fn reset() {
    DEPTH.set(0);
    ANNOUNCED.set(false);
}

/// 42501 for a statement that writes to a table of ours. A restore may fill them while nothing is in force:
/// what arrives so counts for nothing until `pci.accept_policy`.
pub fn check_write(relation: pg_sys::Oid) -> Result<()> {
    let Some(catalog) = catalog::get() else {
        return Ok(());
    };
    if !catalog.is_protected_table(relation) || session::in_extension_script() || is_announced() {
        return Ok(());
    }
    if Ring::get().is_ok_and(|ring| ring.is_unaccepted()) {
        return Ok(());
    }
    Err(refuse())
}

/// The trigger of each of our tables, which fires always: for writes that are no statements, those of logical
/// replication. Keys that another node makes may arrive by it, and that they are retired: a wrapped key is of use only
/// where its wrapping key is.
pub fn protect(call: &mut Call) -> Result<Value> {
    let trigger =
        Trigger::of(call).ok_or_else(|| Error::state("this function is a trigger of pgpci's tables"))?;
    let Some(catalog) = catalog::get() else {
        return Ok(trigger.go_on);
    };
    if DEPTH.get() > 0 || session::in_extension_script() {
        return Ok(trigger.go_on);
    }
    if Ring::get().is_ok_and(|ring| ring.is_unaccepted()) {
        return Ok(trigger.go_on);
    }
    if session::is_applying() && arrives(&trigger, &catalog) {
        catalog::changed("key");
        return Ok(trigger.go_on);
    }
    Err(refuse())
}

fn arrives(trigger: &Trigger, catalog: &Catalog) -> bool {
    let is_retired = match trigger.updated.as_slice() {
        [[column, old, new]] => {
            (column.as_str(), old.as_str(), new.as_str()) == ("state", "active", "deactivated")
        }
        _ => false,
    };
    trigger.table == catalog.table("key") && (trigger.inserts || is_retired)
}

fn refuse() -> Error {
    crate::audit::record(crate::audit::Class::Denied, "write to a table of pgpci");
    Error::denied("tables of pgpci change only through its functions")
        .hint("See the schema pci for the function.")
}
