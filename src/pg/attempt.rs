//! Something that may fail without taking the transaction with it.

use std::panic::AssertUnwindSafe;

use pgrx::PgTryBuilder;
use pgrx::pg_sys::{self, panic::CaughtError};

use crate::error::Result;

/// Runs `f` in a subtransaction, which is undone where it fails; then, why.
pub fn attempt(f: impl FnOnce() -> Result<()>) -> std::result::Result<(), String> {
    // SAFETY: inside a transaction; what a subtransaction changes of these is put back.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = before.0;
        before
    };
    let result = PgTryBuilder::new(AssertUnwindSafe(|| f().map_err(|error| error.to_string())))
        .catch_others(|caught| match caught {
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. } => Err(report.message().to_owned()),
        })
        .execute();
    // SAFETY: as above.
    unsafe {
        match result {
            Ok(()) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
    }
    result
}
