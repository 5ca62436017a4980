//! Passwords and accounts: what a password must be like, what is kept of a role, and what somebody whose password must
//! be changed may do. Roles belong to the cluster: all of this holds in every database, with the extension or without.

mod arrival;
mod change;
pub mod exemptions;
mod first_use;
mod idle;
pub mod life;
mod limits;
mod lockout;
mod rules;
mod state;
mod sweep;

use std::ffi::CStr;

use pgpci_core::account::{Account, Arrival, ClusterKey, Label};
use pgrx::pg_sys;

use crate::access::roles;
use crate::error::Result;
use crate::key::cluster;
use crate::pg::facts::{self, About};
use crate::pg::{message, port, session};
use limits::Limits;
use state::Proof;

pub use first_use::is_restricted;
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

/// Whether a restore may bring this label: it counts for nothing until `pci.accept_policy` has proven it.
pub fn may_be_restored(label: &str) -> bool {
    !is_in_force() && (Label::parse(label).is_some() || ClusterKey::parse(label).is_some())
}

/// Registers what the hooks do not call; called once, while the library is preloaded.
pub fn register() {
    lockout::register();
    exemptions::register();
}

/// Somebody sets the password of a role, with PostgreSQL's leave.
pub fn check_password(role: &CStr, password: &CStr, is_verifier: bool) {
    or_raise(change::check(role.to_bytes(), password.to_bytes(), is_verifier));
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
    query_ends();
}

/// A query has ended.
pub fn query_ends() {
    // Settings go back to what they were after a transaction has ended, and an error outside of any stops clocks: again
    // when the message is done with.
    let is_limited = idle::keep() | arrival::keep();
    if is_limited {
        message::when_over(query_ends);
    }
}

/// A query, or a function called by the protocol, is about to run.
pub fn refuse_restricted() {
    or_raise(first_use::check_query());
}

/// The authentication is over, with this status; no database is chosen yet.
pub fn authenticated(status: i32) {
    let Some(role) = port::with_client(|client| session::role_by_name(client.user)) else { return };
    if status != OK && status != WRONG {
        return;
    }
    // A role that is not there takes as long as one that is.
    let Arrival { account, all, is_in_force } = known(role.unwrap_or(pg_sys::InvalidOid));
    let limits = Limits::at_login(&account, all, is_in_force);
    match role {
        Some(role) if status == OK => {
            or_raise(lockout::logs_in(role, &limits, &account));
            or_raise(first_use::logs_in(role, &limits, &account));
            idle::logs_in(&limits, &account);
            arrival::logs_in(role, &limits, &account);
        }
        _ if status == WRONG => lockout::failed(role, &limits, &account),
        _ => {}
    }
}

/// What a login believes of a role, by another session's reading where nothing has changed since.
fn known(role: pg_sys::Oid) -> Arrival {
    let mut room = [0; facts::ROOM];
    let recalled = facts::recall(About::Account, role, &mut room).and_then(Arrival::from_bytes);
    recalled.unwrap_or_else(|| {
        let moment = facts::moment();
        let (arrival, is_certain) = read(role);
        if let (true, Some(moment), Some(bytes)) = (is_certain, moment, arrival.to_bytes(&mut room)) {
            facts::learn(moment, About::Account, role, bytes);
        }
        arrival
    })
}

/// The same as it is written: its label, if its MAC is right or cannot be verified now; and whether nothing is left to be
/// verified, or to be told of.
fn read(role: pg_sys::Oid) -> (Arrival, bool) {
    let is_in_force = is_in_force();
    let key = if is_in_force { cluster::at_hand() } else { None };
    let key = key.as_ref().map(|key| key.expose());
    let (account, proof) = state::look_with(role, key);
    match proof {
        Proof::Forged => state::accuse(role),
        Proof::Unproven if is_in_force && lockout::may_ask() => cluster::ask(),
        _ => {}
    }
    let (all, proof_of_all) =
        limits::of_all().map_or((Account::default(), Proof::Nothing), |all| state::look_with(all, key));
    let is_certain = [proof, proof_of_all].iter().all(|it| matches!(it, Proof::Genuine | Proof::Nothing));
    (Arrival::new(account, all, is_in_force), is_certain)
}

/// A transaction ends, or is about to.
pub fn transaction(event: pg_sys::XactEvent::Type) {
    first_use::transaction(event);
    or_raise(lockout::transaction(event));
    query_ends();
}

fn or_raise<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => error.raise(),
    }
}
