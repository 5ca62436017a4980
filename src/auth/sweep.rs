//! What the worker does that is not urgent: it writes last logins, coarsely, begins to keep roles that nothing was kept
//! of, and disables those that nobody used for too long (PCI DSS 8.2.6).

use std::cell::RefCell;

use pgpci_core::account::Account;
use pgrx::pg_sys;

use super::limits::Limits;
use super::{arrival, lockout as locks, state};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::cluster;
use crate::pg::attempt::attempt;
use crate::pg::local::Local;
use crate::pg::{lockout, role, session};

const HOUR: i64 = 3_600_000_000;
/// How far a label may be behind: the catalog is not written at each login.
const GRAIN: i64 = 24 * HOUR;
/// After it failed.
const LATER: i64 = HOUR / 6;

// What the transaction has written: roles, and their last logins.
static WRITTEN: Local<RefCell<Vec<(u32, i64)>>> = Local::new(RefCell::new(Vec::new()));

/// Whether there is something to do; no catalog can be read.
pub fn is_due(now: i64) -> bool {
    let is_postponed = (0..=LATER).contains(&lockout::postponed().saturating_sub(now));
    !is_postponed
        && lockout::with_logins(|logins| {
            !(0..HOUR).contains(&now.saturating_sub(logins.swept)) || logins.unwritten(GRAIN).next().is_some()
        }) == Some(true)
}

/// In the worker, in a transaction. Where it cannot be done, it is tried again later: locks do not wait for it.
pub fn run(now: i64) {
    if !is_due(now) {
        return;
    }
    if let Err(error) = write(now) {
        lockout::postpone(now.saturating_add(LATER));
        pgrx::log!("pgpci: last logins are not written to roles yet: {error}");
    }
}

/// The transaction has committed.
pub fn done() {
    for (role, last) in WRITTEN.take() {
        lockout::with_logins(|logins| match last {
            0 => logins.forget(role),
            _ => logins.set_written(role, last),
        });
    }
}

fn write(now: i64) -> Result<()> {
    if !super::is_in_force() {
        lockout::with_logins(|logins| logins.swept = now);
        return Ok(());
    }
    let behind: Vec<(u32, i64)> =
        lockout::with_logins(|logins| logins.unwritten(GRAIN).collect()).unwrap_or_default();
    // Without the key, not every role waits for it.
    cluster::with(|_| Ok(()))?;
    // Somebody may hold a role in a transaction that does not end: the others do not wait for it.
    let mut failed = None;
    for (id, last) in behind {
        failed = attempt(|| write_last(id, last, now)).err().or(failed);
    }
    for role in role::all() {
        failed = attempt(|| look_at(role, now)).err().or(failed);
    }
    lockout::with_logins(|logins| logins.swept = now);
    failed.map_or(Ok(()), |why| Err(Error::state(why)))
}

fn write_last(id: u32, last: i64, now: i64) -> Result<()> {
    let role = pg_sys::Oid::from(id);
    let is_there = session::role_exists(role);
    if is_there && let Some(account) = state::proven(role)? {
        state::put(role, &since(Account { last_login: last, ..account }, now))?;
    }
    WRITTEN.with_borrow_mut(|written| written.push((id, if is_there { last } else { 0 })));
    Ok(())
}

fn look_at(role: pg_sys::Oid, now: i64) -> Result<()> {
    let account = state::get(role);
    if account.since == 0 {
        if let Some(account) = state::proven(role)? {
            state::put(role, &since(account, now))?;
        }
    } else if account.lock.is_none() && arrival::is_inactive(role, &Limits::of(&account), &account) {
        locks::lock(role, None, Some("no login for too long".into()))?;
        let name = session::role_name(role);
        audit::record(Class::Policy, &format!("role \"{name}\": disabled: no login for too long"));
    }
    Ok(())
}

/// From when it is kept, it counts as used.
fn since(account: Account, now: i64) -> Account {
    Account { since: if account.since == 0 { now } else { account.since }, ..account }
}
