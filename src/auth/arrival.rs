//! Who may log in when and from where (PCI DSS 8.2.6, 8.2.7), how long the session may last, and what is said to whoever
//! has arrived.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use pgpci_core::account::{Account, Control, Kind};
use pgpci_core::logins::Login;
use pgrx::pg_sys;

use super::limits::Limits;
use crate::audit::{self, Class};
use crate::guc;
use crate::pg::local::Local;
use crate::pg::{deadline, lockout, port, role, session, sessions};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 86_400_000_000;

// When the session must end; MAX: never.
static END: Local<Cell<i64>> = Local::new(Cell::new(i64::MAX));
static NOTICES: Local<RefCell<Vec<String>>> = Local::new(RefCell::new(Vec::new()));

/// Why a role may not log in now, if it may not.
pub fn refuses(role: pg_sys::Oid, limits: &Limits<'_>, account: &Account) -> Option<&'static str> {
    if !account.admits(client()) {
        return Some("it does not come from there");
    }
    if time_is_up(account, limits.now()).is_none() {
        return Some("it is not its time");
    }
    is_inactive(role, limits, account).then_some("there was no login for too long")
}

/// Whether there was no login of the role for so long that it is disabled.
pub fn is_inactive(role: pg_sys::Oid, limits: &Limits<'_>, account: &Account) -> bool {
    // Whoever repairs what nobody else can.
    if role.to_u32() == pg_sys::BOOTSTRAP_SUPERUSERID
        || account.kind == Kind::Service && !guc::DISABLE_INACTIVE_SERVICES.get()
    {
        return false;
    }
    let seen = lockout::with_logins(|logins| logins.seen(role.to_u32()).last).unwrap_or(0);
    account.is_inactive(limits.now(), seen, limits.days(Control::Inactivity))
}

/// A role logs in: when its session ends, and what it is told.
pub fn logs_in(role: pg_sys::Oid, limits: &Limits<'_>, account: &Account) {
    let now = limits.now();
    let longest = i64::from(guc::MAX_SESSION_LENGTH.get()) * SECOND;
    let until = time_is_up(account, now).unwrap_or(i64::MAX);
    let is_short = longest > 0 && account.kind.is_human();
    END.set(if is_short { until.min(now.saturating_add(longest)) } else { until });
    let mut notices = Vec::new();
    if account.kind.is_human() && port::method_is_password() && !session::is_walsender() {
        let warning = i64::from(guc::PASSWORD_WARNING.get()) * DAY;
        let is_near = |end: &i64| *end != i64::MAX && (1..=warning).contains(&end.saturating_sub(now));
        if let Some(end) = account.expires_at(limits.days(Control::MaxAge)).filter(is_near) {
            notices.push(format!("the password must be changed by {}", session::iso_time(end)));
        }
        let ends = role::read(role).and_then(|it| it.valid_until).into_iter().chain(account.valid_until);
        if let Some(end) = ends.min().filter(is_near) {
            notices.push(format!("the account ends at {}", session::iso_time(end)));
        }
    }
    NOTICES.set(notices);
}

/// The session is established.
pub fn arrived(role: pg_sys::Oid, account_is_personal: bool) {
    let window = i64::from(guc::SHARED_USE_WINDOW.get()) * MINUTE;
    let (source, process) = (source_of_person(), sessions::own_process());
    let login = Login::new(session::now(), source, process);
    let is_open = |other| sessions::is_of(other, role);
    let is_shared =
        lockout::with_logins(|logins| logins.log_in(role.to_u32(), login, window, is_open)) == Some(true);
    if is_shared && account_is_personal {
        let name = session::role_name(role);
        audit::record(Class::Account, &format!("role \"{name}\": used from several sources"));
        pgrx::log!("pgpci: role \"{name}\" is used from several sources");
    }
    for notice in NOTICES.take() {
        pgrx::notice!("{notice}");
    }
    keep();
}

/// A statement or transaction has ended; an error among them may have stopped all clocks. Whether the session has an end.
pub fn keep() -> bool {
    let has_end = END.get() != i64::MAX;
    if has_end {
        deadline::end_session_at(END.get());
    }
    has_end
}

/// The client's address; None is the local socket, and what is no address comes from nowhere that a rule could name.
pub fn client() -> Option<IpAddr> {
    port::with_client(|client| match client.host {
        port::LOCAL => None,
        _ => Some(client.address.unwrap_or(IpAddr::from([0; 4]))),
    })
    .flatten()
}

/// Until when a role may stay that logs in now; None: it may not log in.
fn time_is_up(account: &Account, now: i64) -> Option<i64> {
    let is_open_ended = account.kind == Kind::Vendor && account.valid_until.is_none();
    let end = account.valid_until.unwrap_or(i64::MAX);
    if is_open_ended || now >= end || account.valid_from.is_some_and(|from| now < from) {
        return None;
    }
    let Some(hours) = &account.hours else { return Some(end) };
    let left = hours.left(session::minute_of_day(now, &hours.zone)?)?;
    Some(end.min(now - now.rem_euclid(MINUTE) + i64::from(left) * MINUTE))
}

/// Where a person sits: the machine itself is one place, by whatever way.
fn source_of_person() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    client().map(|it| it.to_canonical()).hash(&mut hasher);
    hasher.finish()
}
