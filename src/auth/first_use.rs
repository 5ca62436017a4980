//! Whoever has a first password, one that somebody else reset, or one that is too old, changes it before anything else
//! (PCI DSS 8.3.5, 8.3.9).

use std::cell::Cell;

use pgpci_core::account::{Account, Control};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, XactEvent as E};

use super::limits::Limits;
use super::state;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::local::Local;
use crate::pg::role::{self, Statement};
use crate::pg::{port, session};

const DAY: i64 = 86_400_000_000;

/// Why the session may do nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Somebody else set the password.
    Given,
    /// It is too old.
    Old,
}

static WHY: Local<Cell<Option<Why>>> = Local::new(Cell::new(None));
// The running transaction changed the password; once that is certain, the session is like any other.
static CHANGED: Local<Cell<bool>> = Local::new(Cell::new(false));
static IS_LIFTED: Local<Cell<bool>> = Local::new(Cell::new(false));

/// Whether the session may only change its password.
pub fn is_restricted() -> bool {
    WHY.get().is_some()
}

/// A role has authenticated itself.
pub fn logs_in(role: pg_sys::Oid, limits: &Limits<'_>, account: &Account) -> Result<()> {
    if !port::method_is_password() {
        return Ok(());
    }
    let max_age = limits.days(Control::MaxAge);
    let why = match account.is_expired(limits.now(), max_age) {
        _ if account.must_change && account.kind.is_human() => Some(Why::Given),
        true => Some(Why::Old),
        false => None,
    };
    WHY.set(why);
    match why {
        // There is nothing there to change it with.
        Some(why) if session::is_walsender() => Err(refuse(why, role)),
        _ => Ok(()),
    }
}

/// Whether the password is so old that it does not even let in to change it.
pub fn is_past_grace(limits: &Limits<'_>, account: &Account) -> bool {
    let grace = i64::from(guc::PASSWORD_GRACE.get()) * DAY;
    let max_age = limits.days(Control::MaxAge);
    port::method_is_password()
        && grace > 0
        && max_age > 0
        && account.is_expired(limits.now(), max_age + grace)
}

/// The session's own password was changed.
pub fn changed() {
    CHANGED.set(true);
}

/// 28000 for a query of a session that must change its password first.
pub fn check_query() -> Result<()> {
    match WHY.get() {
        Some(why) if role::is_clients() => Err(refuse(why, session::user())),
        _ => Ok(()),
    }
}

/// The same for a utility statement, unless it is that change.
pub fn check(node: *mut pg_sys::Node) -> Result<()> {
    let Some(why) = WHY.get() else { return Ok(()) };
    let is_change = || match role::statement(node) {
        Some(Statement::Alters { role, only_password }) => only_password && role == session::user(),
        _ => false,
    };
    if !role::is_clients() || role::is_harmless(node) || session::in_transaction() && is_change() {
        return Ok(());
    }
    audit::record(Class::Denied, "statement before the password was changed");
    Err(refuse(why, session::user()))
}

/// A transaction ends, or is about to.
pub fn transaction(event: pg_sys::XactEvent::Type) {
    if WHY.get().is_none() {
        CHANGED.set(false);
        return;
    }
    match event {
        E::XACT_EVENT_PRE_COMMIT => IS_LIFTED.set(CHANGED.get() && is_renewed()),
        E::XACT_EVENT_COMMIT | E::XACT_EVENT_ABORT => {
            if event == E::XACT_EVENT_COMMIT && IS_LIFTED.get() {
                WHY.set(None);
            }
            CHANGED.set(false);
            IS_LIFTED.set(false);
        }
        _ => {}
    }
}

/// Whether the change is there: a savepoint may have taken it back.
fn is_renewed() -> bool {
    let account = state::get(session::user());
    let limits = Limits::of(&account);
    !account.must_change && !account.is_expired(limits.now(), limits.days(Control::MaxAge))
}

fn refuse(why: Why, role: pg_sys::Oid) -> Error {
    let message = match why {
        Why::Given => "the password must be changed before anything else: somebody else set it",
        Why::Old => "the password must be changed before anything else: it is too old",
    };
    Error::new(PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, message)
        .hint(match role::cannot_change_itself(role) {
            true => "In PostgreSQL 15, a role with REPLICATION cannot: an officer makes it a service, by pci.set_account.",
            false => "ALTER ROLE CURRENT_USER PASSWORD '…'; over TLS.",
        })
}
