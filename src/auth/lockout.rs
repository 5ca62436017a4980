//! Who guesses passwords is locked out (PCI DSS 8.3.4): at once in memory, and, by a worker, in the role itself, where
//! VALID UNTIL makes a right password look like a wrong one before any hook runs.

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};

use pgpci_core::account::{Account, Control, Kind, Lock};
use pgpci_core::lockout::{Attempt, Outcome, Rules};
use pgrx::pg_sys::{self, XactEvent as E};
use pgrx::prelude::*;

use super::limits::Limits;
use super::{arrival, first_use, state, sweep};
use crate::access::tables;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::key::cluster;
use crate::pg::attempt::attempt;
use crate::pg::local::Local;
use crate::pg::lock_worker::{self, Work};
use crate::pg::{lockout, port, role, session, sessions};

const MINUTE: i64 = 60_000_000;
/// PostgreSQL's `-infinity`.
const NEVER: i64 = i64::MIN;
/// In microseconds.
const ASK_AGAIN: i64 = 10_000_000;
/// PCI DSS 8.3.4.
const SHORTEST: i64 = 30;

// Who logged in, until the session is established.
static ARRIVING: Local<Cell<Option<(pg_sys::Oid, u64, bool)>>> = Local::new(Cell::new(None));
/// A role, and until when it is locked, if it is.
type Change = (u32, Option<Option<i64>>);

// What the table learns once the running transaction has committed.
static LATER: Local<RefCell<Vec<Change>>> = Local::new(RefCell::new(Vec::new()));
// The roles whose sessions end then.
static ENDING: Local<RefCell<Vec<pg_sys::Oid>>> = Local::new(RefCell::new(Vec::new()));
// What the worker has written.
static WRITTEN: Local<RefCell<Vec<u32>>> = Local::new(RefCell::new(Vec::new()));

/// Registers the worker; called once, while the library is preloaded.
pub fn register() {
    lockout::register(&crate::directory::path().join("lockout"));
    lock_worker::register(Work { is_due, write, written, database: guc::home_database });
}

/// Somebody gave a wrong password, or no right one.
pub fn failed(role: Option<pg_sys::Oid>, limits: &Limits<'_>, account: &Account) {
    if !port::method_is_password() {
        return;
    }
    let (source, is_local) = source();
    let now = session::now();
    let set = rules(limits);
    let rules = Rules { max_of_source: if is_local { 0 } else { set.max_of_source }, ..set };
    // Nobody can guess what is not there, or is over; and who repairs the server is never shut out.
    // Nor does a stranger lock out who never comes from there.
    let is_target = account.kind != Kind::BreakGlass && account.admits(arrival::client());
    let target = role.filter(|role| is_target && has_valid_password(*role, now));
    let Some(role) = target else {
        lockout::with(|table| table.fail_unknown(source, now, &rules));
        return;
    };
    let by_source = account.kind == Kind::Service;
    let attempt = Attempt { role: role.to_u32(), source, by_source, tls: port::has_tls(), now };
    match lockout::with(|table| table.fail(&attempt, &rules)) {
        Some(Outcome::Locked) => {
            lockout::wake();
            let what = if by_source { "the source is locked out of it" } else { "locked" };
            let name = session::role_name(role);
            audit::record(Class::Account, &format!("role \"{name}\": {what} after wrong passwords"));
            pgrx::log!("pgpci: role \"{name}\": {what} after {} wrong passwords", rules.max_failures);
        }
        Some(Outcome::Full) => {
            pgrx::log!("pgpci: wrong passwords are not counted: too many roles are locked")
        }
        _ => {}
    }
}

/// Somebody has proved who they are: 28P01, in PostgreSQL's own words, where that does not count now.
pub fn logs_in(role: pg_sys::Oid, limits: &Limits<'_>, account: &Account) -> Result<()> {
    let (source, is_local) = source();
    let now = session::now();
    let refused = if account.kind == Kind::BreakGlass {
        (!is_local).then_some("break_glass accounts log in on the server itself")
    } else {
        let rules = rules(limits);
        let is_throttled = !is_local && port::method_is_password();
        let is_locked = account.is_locked(now)
            || lockout::with(|table| {
                table.is_locked(role.to_u32(), source, now)
                    || is_throttled && table.is_throttled(source, now, &rules)
            }) == Some(true);
        let is_too_old = || first_use::is_past_grace(limits, account);
        match is_locked {
            true => Some("it, or where it comes from, is locked"),
            false if limits.is_in_force() => arrival::refuses(role, limits, account)
                .or_else(|| is_too_old().then_some("the password is too old")),
            false => None,
        }
    };
    if let Some(why) = refused {
        let name = session::role_name(role);
        // The client is told nothing of it.
        audit::record(Class::Account, &format!("role \"{name}\": login refused: {why}"));
        return Err(refusal(&name));
    }
    if account.kind == Kind::BreakGlass {
        let name = session::role_name(role);
        audit::record(Class::Account, &format!("role \"{name}\": break_glass account logs in"));
        pgrx::log!("pgpci: break_glass account \"{name}\" logs in");
    }
    ARRIVING.set(Some((role, source, account.kind.is_human())));
    Ok(())
}

/// A transaction ends, or is about to.
pub fn transaction(event: pg_sys::XactEvent::Type) -> Result<()> {
    let is_idle =
        ARRIVING.get().is_none() && LATER.with_borrow(Vec::is_empty) && ENDING.with_borrow(Vec::is_empty);
    // Nearly every one.
    if is_idle {
        return Ok(());
    }
    if event == E::XACT_EVENT_PRE_COMMIT
        && let Some((role, source, is_personal)) = ARRIVING.take()
    {
        let (id, now) = (role.to_u32(), session::now());
        let is_locked = lockout::with(|table| {
            let is_locked = table.is_locked(id, source, now);
            if !is_locked {
                table.succeed(id, source);
            }
            is_locked
        });
        // Whoever was locked since is not among the sessions that were ended.
        if is_locked == Some(true) {
            return Err(refusal(&session::role_name(role)));
        }
        arrival::arrived(role, is_personal);
    }
    if event == E::XACT_EVENT_PRE_COMMIT {
        // A savepoint may have taken it back.
        LATER.with_borrow_mut(|later| later.retain(is_in_role));
        ENDING.with_borrow_mut(|ending| ending.retain(|role| state::get(*role).lock.is_some()));
    }
    // What is prepared goes on without this session: the role alone has it then.
    if matches!(event, E::XACT_EVENT_COMMIT | E::XACT_EVENT_ABORT | E::XACT_EVENT_PREPARE) {
        for (role, lock) in LATER.take() {
            if event == E::XACT_EVENT_COMMIT {
                lockout::with(|table| match lock {
                    Some(until) => table.lock(role, until, session::now()) && table.set_written(role),
                    None => {
                        table.forget(role);
                        true
                    }
                });
            }
        }
        for role in ENDING.take() {
            if event == E::XACT_EVENT_COMMIT {
                sessions::end_all(role);
            }
        }
    }
    Ok(())
}

fn is_in_role(change: &Change) -> bool {
    let lock = state::get(pg_sys::Oid::from(change.0)).lock.map(|it| it.until);
    lock == change.1
}

/// Ends the sessions of a role once the running transaction has committed.
pub fn end_sessions(role: pg_sys::Oid) {
    ENDING.with_borrow_mut(|ending| ending.push(role));
}

/// Locks a role, in the running transaction.
pub fn lock(role: pg_sys::Oid, until: Option<i64>, reason: Option<String>) -> Result<()> {
    let mut account = state::to_change(role)?;
    let Some(row) = role::read(role) else { return Ok(()) };
    let (valid_until, longest) = match &account.lock {
        Some(lock) => (lock.valid_until, lock.until),
        None => (row.valid_until, until),
    };
    // An officer may have locked it while this waited: no lock is made shorter.
    if account.is_locked(session::now()) && longest.unwrap_or(i64::MAX) > until.unwrap_or(i64::MAX) {
        LATER.with_borrow_mut(|later| later.push((role.to_u32(), Some(longest))));
        return Ok(());
    }
    account.lock = Some(Lock { since: session::now(), until, valid_until, reason });
    state::put(role, &account)?;
    set_valid_until(role, Some(NEVER))?;
    LATER.with_borrow_mut(|later| later.push((role.to_u32(), Some(until))));
    Ok(())
}

/// Unlocks it, in the running transaction.
pub fn unlock(role: pg_sys::Oid) -> Result<()> {
    let mut account = state::to_change(role)?;
    if let Some(lock) = account.lock.take() {
        // Else whoever was not there for long would be disabled again.
        account.since = session::now();
        state::put(role, &account)?;
        set_valid_until(role, lock.valid_until)?;
    }
    LATER.with_borrow_mut(|later| later.push((role.to_u32(), None)));
    Ok(())
}

/// Somebody has set VALID UNTIL of a role that is locked: that is what unlocking will restore.
pub fn keep_locked(role: pg_sys::Oid, row: &role::Role, account: &mut Account) -> Result<()> {
    let Some(lock) =
        account.lock.as_mut().filter(|_| row.valid_until != Some(NEVER) && !tables::is_writing())
    else {
        return Ok(());
    };
    lock.valid_until = row.valid_until;
    state::put(role, account)?;
    set_valid_until(role, Some(NEVER))
}

/// Whether a login may ask for the key that proves labels: not all of them while it cannot be had.
pub fn may_ask() -> bool {
    lockout::may_ask(session::now(), ASK_AGAIN)
}

/// Failures that are counted of a role now.
pub fn failures(role: pg_sys::Oid) -> u32 {
    lockout::with(|table| {
        table.failures(role.to_u32(), session::now(), &rules(&Limits::of(&Account::default())))
    })
    .unwrap_or(0)
}

/// Until when a role is locked in memory, if it is: before the worker has written it.
pub fn in_memory(role: pg_sys::Oid) -> Option<Option<i64>> {
    let now = session::now();
    lockout::with(|table| table.locked(now).find(|it| it.role == role.to_u32()).map(|it| it.until)).flatten()
}

fn is_due() -> bool {
    let now = session::now();
    lockout::is_unseen()
        || lockout::with(|table| table.has_unwritten(now)) == Some(true)
        || sweep::is_due(now)
}

/// In the worker: what memory says goes into the roles, and what roles say goes into memory.
fn write() {
    let now = session::now();
    let (mut over, accounts) = (Vec::new(), state::all());
    for (role, account) in accounts {
        match &account.lock {
            Some(_) if !account.is_locked(now) => over.push(role),
            Some(lock) => {
                let until = lock.until;
                LATER.with_borrow_mut(|later| later.push((role.to_u32(), Some(until))));
            }
            None => {}
        }
    }
    let unwritten = lockout::with(|table| table.unwritten(now)).unwrap_or_default();
    if super::is_in_force() && !(over.is_empty() && unwritten.is_empty()) {
        // Without the key, not every role waits for it.
        super::or_raise(cluster::with(|_| Ok(())));
    }
    for role in over {
        one(role, || unlock_by_time(role, now));
    }
    for (id, locked) in unwritten {
        let role = pg_sys::Oid::from(id);
        match (locked, session::role_exists(role)) {
            (Some(until), true) if super::is_in_force() => one(role, || lock_by_guesses(role, until)),
            // What cannot be written holds in memory.
            (Some(_), true) => WRITTEN.with_borrow_mut(|written| written.push(id)),
            _ => LATER.with_borrow_mut(|later| later.push((id, None))),
        }
    }
    // Locks do not wait for what is not urgent.
    if WRITTEN.with_borrow(Vec::is_empty) {
        sweep::run(now);
    }
}

/// Does something with one role. Where it fails, as where somebody holds the role in a transaction that does not end, the
/// others do not wait for it, and it is tried again.
fn one(role: pg_sys::Oid, f: impl FnOnce() -> Result<()>) {
    if let Err(why) = attempt(f) {
        pgrx::log!("pgpci: role \"{}\": its lock is not written yet: {why}", session::role_name(role));
    }
}

fn unlock_by_time(role: pg_sys::Oid, now: i64) -> Result<()> {
    // An officer may have locked it while this waited.
    if state::to_change(role)?.is_locked(now) {
        return Ok(());
    }
    unlock(role)?;
    let name = session::role_name(role);
    audit::record(Class::Policy, &format!("role \"{name}\": unlocked by time"));
    Ok(())
}

fn lock_by_guesses(role: pg_sys::Oid, until: Option<i64>) -> Result<()> {
    if state::to_change(role)?.kind != Kind::BreakGlass {
        lock(role, until, None)?;
        let name = session::role_name(role);
        audit::record(Class::Policy, &format!("role \"{name}\": locked after wrong passwords"));
    }
    WRITTEN.with_borrow_mut(|written| written.push(role.to_u32()));
    Ok(())
}

fn written() {
    for role in WRITTEN.take() {
        lockout::with(|table| table.set_written(role));
    }
    lockout::seen();
    sweep::done();
}

fn set_valid_until(role: pg_sys::Oid, until: Option<i64>) -> Result<()> {
    // What was never limited is limited by infinity: there is no way back to nothing.
    let text: String = match until {
        Some(NEVER) => "-infinity".into(),
        None | Some(i64::MAX) => "infinity".into(),
        Some(moment) => session::iso_time(moment),
    };
    tables::writing(|| role::set_valid_until(role, &text))
}

fn has_valid_password(role: pg_sys::Oid, now: i64) -> bool {
    role::read(role)
        .is_some_and(|it| it.password.is_some() && it.valid_until.is_none_or(|until| until >= now))
}

/// Where the client is, hashed, and whether that is the server itself.
fn source() -> (u64, bool) {
    port::with_client(|client| {
        let mut hasher = DefaultHasher::new();
        client.host.hash(&mut hasher);
        (hasher.finish(), client.host == port::LOCAL)
    })
    .unwrap_or_default()
}

fn rules(limits: &Limits<'_>) -> Rules {
    let minutes = i64::from(guc::LOCKOUT_TIME.get());
    let exempt = limits.exemption(Control::LockoutTime).map(i64::from);
    Rules {
        max_failures: limits.get(Control::MaxFailures).unsigned_abs(),
        lock_for: exempt.or((minutes > 0).then(|| minutes.max(SHORTEST))).map(|it| it * MINUTE),
        forgive_after: i64::from(guc::FAILED_LOGIN_FORGIVENESS.get()) * MINUTE,
        max_of_source: guc::MAX_FAILED_LOGINS_PER_SOURCE.get().unsigned_abs(),
    }
}

fn refusal(name: &str) -> Error {
    if port::method_is_password() {
        return Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PASSWORD,
            format!("password authentication failed for user \"{name}\""),
        );
    }
    Error::new(
        PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        format!("authentication failed for user \"{name}\""),
    )
}
