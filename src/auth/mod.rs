//! Passwords and accounts: what a password must be like, what is kept of a role, and what somebody whose password must
//! be changed may do. Roles belong to the cluster: all of this holds in every database, with the extension or without.

mod change;
mod first_use;
mod idle;
pub mod life;
mod lockout;
mod rules;
mod state;

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::access::roles;
use crate::error::Result;
use crate::key::cluster;
use crate::pg::{port, session};

pub use first_use::is_restricted;
pub use idle::keep as query_ends;
pub use lockout::register;
pub use rules::check_password as check_password_function;

const CUSTODIAN: &str = "pci_custodian";
/// PostgreSQL's STATUS_OK.
const OK: i32 = 0;
/// PostgreSQL's STATUS_ERROR.
const WRONG: i32 = -1;

/// Whether accounts are kept: `pci.init` was run in this cluster. Before, and after a restore, only the rules for
/// passwords hold.
pub fn is_in_force() -> bool {
    session::role(CUSTODIAN).is_some_and(roles::is_marked) && cluster::exists()
}

/// Somebody sets the password of a role, with PostgreSQL's leave.
pub fn check_password(role: &CStr, password: &CStr, is_verifier: bool) {
    or_raise(change::check(&role.to_string_lossy(), password.to_bytes(), is_verifier));
}

/// A utility statement is about to run.
pub fn statement_begins(node: *mut pg_sys::Node) {
    or_raise(first_use::check(node));
    if session::in_transaction() {
        change::begins(node);
    }
}

/// A utility statement has run.
pub fn statement_ends(node: *mut pg_sys::Node) {
    or_raise(change::ends(node));
    idle::keep();
}

/// A query, or a function called by the protocol, is about to run.
pub fn refuse_restricted() {
    or_raise(first_use::check_query());
}

/// The authentication is over, with this status; no database is chosen yet.
pub fn authenticated(status: i32) {
    let Some(name) = port::with_client(|client| String::from_utf8_lossy(client.user).into_owned()) else {
        return;
    };
    let role = session::role(&name);
    match (status, role) {
        (OK, Some(role)) => {
            or_raise(lockout::logs_in(role));
            or_raise(first_use::logs_in(role));
            idle::logs_in(role);
        }
        (WRONG, role) => lockout::failed(role),
        _ => {}
    }
}

/// A transaction ends, or is about to.
pub fn transaction(event: pg_sys::XactEvent::Type) {
    first_use::transaction(event);
    lockout::transaction(event);
    idle::keep();
}

fn or_raise<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => error.raise(),
    }
}
