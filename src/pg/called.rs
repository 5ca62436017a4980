//! Functions that are called, and the fast path, by which a client calls one without a statement.

use pgrx::pg_sys;

use crate::pg::audited::text;
use crate::pg::{log, port, session};

/// Schema and name of a function.
pub fn name(function: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: syscache look-ups; the results are palloc'd strings or null.
    unsafe {
        let name = pg_sys::get_func_name(function);
        let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace(function));
        (!name.is_null()).then(|| (text(schema), text(name)))
    }
}

/// Whether the function that is about to be called was asked for by the fast path: there is no statement then, nor a
/// trigger that was deferred to the end of one. Only looks.
pub fn is_fast_path() -> bool {
    use pg_sys::BackendState as B;
    if log::has_client_text() || !port::has_client() || session::trigger_depth() > 0 {
        return false;
    }
    // SAFETY: this backend's own entry, or null. Where activities are not tracked nothing else is known.
    let state = unsafe { pg_sys::MyBEEntry.as_ref() }.map_or(B::STATE_DISABLED, |entry| entry.st_state);
    matches!(state, B::STATE_FASTPATH | B::STATE_DISABLED)
}
