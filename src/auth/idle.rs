//! A person's session that idles is ended (PCI DSS 8.2.8), whatever the session's own settings say.

use std::cell::Cell;

use pgrx::pg_sys;

use super::{is_in_force, state};
use crate::guc;
use crate::pg::local::Local;
use crate::pg::timeouts;

// Milliseconds; 0: this session may idle.
static LIMIT: Local<Cell<i32>> = Local::new(Cell::new(0));

/// A role has logged in.
pub fn logs_in(role: pg_sys::Oid) {
    let is_limited = is_in_force() && state::get(role).kind.is_human();
    LIMIT.set(if is_limited { guc::IDLE_SESSION_TIMEOUT.get().saturating_mul(1000) } else { 0 });
}

/// A statement or transaction has ended, which may have changed the session's settings.
pub fn keep() {
    let limit = LIMIT.get();
    if limit > 0 {
        timeouts::limit_idle(limit);
    }
}
