//! Definitions that matter: objects of pgpci itself, which nobody changes; code in C; and objects that keep, compare or
//! lay bare card numbers by being there, which need `search` or `export`. They are judged by what the catalog says of
//! them once they are made.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::search;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::installed;
use crate::key::ring::Ring;
use crate::pg::definition::{self, Verdict};
use crate::pg::{catalog, ddl, session, using};

const NEEDS_SEARCH: &str = "It keeps, orders or compares card numbers: an officer grants the capability search to the role that \
                            defines it; an index or foreign key can be made while the table is empty.";

const NEEDS_EXPORT: &str = "A card number in a definition lies in the catalogs in its sealed form, for everybody to read: \
                            leave it out, or have an officer grant export.";

/// A utility statement is about to run.
pub fn check_statement(node: *mut pg_sys::Node) -> Result<()> {
    if ddl::compares_stored(node) || using::rewrites_by_pan(node) {
        search::require().map_err(|e| e.hint(NEEDS_SEARCH))?;
    }
    let is_in_force = || !Ring::get().is_ok_and(|ring| ring.is_unaccepted());
    if ddl::changes_members(node) && !session::in_extension_script() && is_in_force() {
        return Err(refuse_change());
    }
    if ddl::prints_skipped_pan(node) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "COPY would print skipped values that may hold card numbers",
        )
        .hint(
            "Leave LOG_VERBOSITY and REJECT_LIMIT out, or copy card numbers into a column of type pci.pan.",
        ));
    }
    Ok(())
}

/// A utility statement has run: for what no hook tells of, partitions and inheritance. A table that is now partitioned
/// by card numbers tells where they went.
pub fn check_done(node: *mut pg_sys::Node) -> Result<()> {
    for table in ddl::partitioned(node) {
        check_content(definition::partitioned(table))?;
    }
    let has_family = |catalog: &catalog::Catalog| catalog.protected_tables().any(definition::is_inherited);
    if ddl::may_inherit(node)
        && catalog::get().is_some_and(|catalog| has_family(&catalog))
        && !session::in_extension_script()
    {
        return Err(refuse_change());
    }
    Ok(())
}

/// The extension was dropped.
pub fn extension_ends() {
    installed::forget();
}

/// An object was made: `column` and `is_internal` as `definition::created` has them.
pub fn object_created(class: pg_sys::Oid, object: pg_sys::Oid, column: i32, is_internal: bool) -> Result<()> {
    if session::in_extension_script() {
        return Ok(());
    }
    let is_again = is_internal || ddl::is_reindexing();
    let verdict = definition::created(class.to_u32(), object, column, is_again);
    if verdict.ours {
        return Err(refuse_change());
    }
    // A restore brings what was there before pgpci was.
    let is_restored = Ring::get().is_ok_and(|ring| ring.is_unaccepted());
    let is_by_hand = ddl::is_making_function() && !ddl::is_by_extension_script();
    if verdict.foreign_code && is_by_hand && !is_restored {
        audit::record(Class::Denied, "function in C, of internal code or in pg_catalog");
        return Err(Error::denied(
            "functions are not made in C, of internal code or in pg_catalog where pgpci is",
        )
        .hint("Make it in SQL or a procedural language, in another schema, or as part of an extension."));
    }
    if verdict.operates_on_pan && !ddl::is_making_range() && !is_restored {
        audit::record(Class::Denied, "cast or operator class of pci.pan");
        return Err(Error::denied("casts and operator classes of pci.pan are not defined outside of pgpci"));
    }
    check_content(verdict)
}

/// What is needed to have card numbers in a definition. A restore has what was allowed where it was made.
fn check_content(verdict: Verdict) -> Result<()> {
    if verdict.compares {
        search::require().map_err(|e| e.hint(NEEDS_SEARCH))?;
    }
    let ring = Ring::get()?;
    if verdict.constant && !ring.is_unaccepted() {
        // Which vault's it is, nobody looks.
        let all = ring.vaults().iter().try_for_each(|vault| search::require_export(vault.number));
        all.map_err(|e| e.hint(NEEDS_EXPORT))?;
    }
    Ok(())
}

/// An object is altered or dropped: 42501 if it is one of ours, whoever does it, but for our own script and the
/// end of the whole extension.
pub fn object_changes(class: pg_sys::Oid, object: pg_sys::Oid, drops: bool) -> Result<()> {
    if session::in_extension_script() || (drops && ddl::dropping_extension()) {
        return Ok(());
    }
    let verdict = if drops { Verdict::default() } else { definition::altered(class.to_u32(), object) };
    if !verdict.ours && !ddl::is_ours(class, object) && !definition::is_part_of_ours(class.to_u32(), object) {
        return check_content(verdict);
    }
    // Before pci.init and after a restore there is nothing to protect yet, and a restore sets owners and rights.
    if Ring::get().is_ok_and(|ring| ring.is_unaccepted()) {
        return Ok(());
    }
    Err(refuse_change())
}

fn refuse_change() -> Error {
    audit::record(Class::Denied, "change of an object of pgpci");
    Error::denied("objects of pgpci are not changed by hand")
        .hint("ALTER EXTENSION pgpci UPDATE changes them; DROP EXTENSION pgpci removes them all.")
}

/// Node trees hold the bytes of constants: nobody is shown them while pgpci is here.
pub fn keep_trees_out_of_logs() {
    if catalog::get().is_some() {
        ddl::turn_off_debug_print();
    }
}
