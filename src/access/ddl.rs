//! Definitions that matter: objects of pgpci itself, which nobody changes, and objects that compare or lay bare
//! card numbers by being there (list and range partition keys, statistics, clustering, casts), which need `search`.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::search;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::pg::{catalog, constraints, ddl, session};

const NEEDS_SEARCH: &str = "A list or range partition key, statistics or a clustering on card numbers compares them: \
                            an officer grants the capability search to the role that does it.";

const NEEDS_SEARCH_TO_CONSTRAIN: &str = "A unique or foreign key over card numbers that are there already compares them: \
                                         make it while the table is empty, or have an officer grant the capability search.";

/// A utility statement is about to run.
pub fn check_statement(node: *mut pg_sys::Node) -> Result<()> {
    if ddl::orders_or_samples_pan(node) {
        search::require().map_err(|e| e.hint(NEEDS_SEARCH))?;
    }
    if constraints::compares_stored(node) {
        search::require().map_err(|e| e.hint(NEEDS_SEARCH_TO_CONSTRAIN))?;
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
    if ddl::casts_pan(node) && !session::in_extension_script() {
        audit::record(Class::Denied, "cast of pci.pan");
        return Err(Error::denied("casts of pci.pan are not defined outside of pgpci"));
    }
    Ok(())
}

/// A utility statement has run: a table that is now partitioned by card numbers tells where they went.
pub fn check_partition_key(node: *mut pg_sys::Node) -> Result<()> {
    match ddl::partitions_by_pan(node) {
        true => search::require().map_err(|e| e.hint(NEEDS_SEARCH)),
        false => Ok(()),
    }
}

/// An object is altered or dropped: 42501 if it is one of ours, whoever does it, but for our own script and the
/// end of the whole extension.
pub fn object_changes(class: pg_sys::Oid, object: pg_sys::Oid, drops: bool) -> Result<()> {
    if !ddl::is_ours(class, object) || session::in_extension_script() || (drops && ddl::dropping_extension())
    {
        return Ok(());
    }
    // Before pci.init and after a restore there is nothing to protect yet, and a restore sets owners and rights.
    if crate::key::ring::Ring::get().is_ok_and(|ring| ring.is_unaccepted()) {
        return Ok(());
    }
    audit::record(Class::Denied, "change of an object of pgpci");
    Err(Error::denied("objects of pgpci are not changed by hand")
        .hint("ALTER EXTENSION pgpci UPDATE changes them; DROP EXTENSION pgpci removes them all."))
}

/// Node trees hold the bytes of constants: nobody is shown them while pgpci is here.
pub fn keep_trees_out_of_logs() {
    if catalog::get().is_some() {
        ddl::turn_off_debug_print();
    }
}
