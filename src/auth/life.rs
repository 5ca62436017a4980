//! What officers do with accounts.

use pgpci_core::account::{Account, Control, Hours, Kind, REASON, SOURCES, Source};
use pgrx::pg_sys;

use super::limits::Limits;
use super::state::Proof;
use super::{exemptions, lockout, state};
use crate::access::request::{self, Exempt};
use crate::access::{require_direct, require_duty, roles};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::cluster;
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pg::call::{Call, Value, varlena};
use crate::pg::session;

/// The duty.
pub const OFFICER: &str = "pci_officer";
const AUDITOR: &str = "pci_auditor";

/// `pci.set_account(role, kind)`: the number of a request, where a second officer has to approve
pub fn set_account(call: &mut Call) -> Result<Value> {
    if call.is_null(0) || call.is_null(1) {
        return Err(Error::argument("an account is of a role, and of a kind"));
    }
    let role = of_another(call, "change the kind of")?;
    let name = call.text(1);
    let kind = Kind::parse(&name).ok_or_else(|| {
        Error::argument(format!("there is no kind of account \"{name}\""))
            .hint("person, service, vendor or break_glass.")
    })?;
    ensure_key()?;
    let zone = call.opt_text(5).unwrap_or_else(|| "UTC".into());
    let hours = call.opt_text(4).map(|hours| parse_hours(&hours, &zone)).transpose()?;
    let mut account = state::to_change(role)?;
    if account.kind.is_human() && !kind.is_human() && is_used(role, &account) {
        return ask(role, account.kind, kind, (2..7).all(|i| i == 5 || call.is_null(i)));
    }
    account.kind = kind;
    account.valid_from = (!call.is_null(2)).then(|| call.i64(2));
    account.valid_until = (!call.is_null(3)).then(|| call.i64(3));
    account.sources = call.text_array(6).iter().map(|it| parse_source(it)).collect::<Result<_>>()?;
    check_window(&account)?;
    account.hours = hours;
    state::put(role, &account)?;
    record(role, &describe(&account));
    Ok(call.null())
}

/// Whether anybody has logged in with it.
fn is_used(role: pg_sys::Oid, account: &Account) -> bool {
    let seen = crate::pg::lockout::with_logins(|logins| logins.seen(role.to_u32()).last);
    account.last_login.max(seen.unwrap_or(0)) != 0
}

/// Whoever knows the password of such an account would be free of what holds for people: that is for two to decide.
fn ask(role: pg_sys::Oid, from: Kind, to: Kind, is_unlimited: bool) -> Result<Value> {
    if !is_unlimited {
        return Err(Error::argument("limits are set when the account is of that kind").hint(
            "Somebody has logged in with it, so that a second officer approves the kind: ask for that alone first.",
        ));
    }
    let exempt = Exempt { role: Some(role), control: Control::Kind, value: to.number(), until: 0 };
    exemptions::open(request::Kind::Account, exempt, &format!("{} instead of {}", to.as_str(), from.as_str()))
}

/// A second officer has approved the kind of an account.
pub fn approved(asked: &Exempt) -> Result<()> {
    let role = asked.role.filter(|role| session::role_exists(*role));
    let (Some(role), Some(kind)) = (role, Kind::numbered(asked.value)) else {
        return Err(Error::argument("the role does not exist"));
    };
    let mut account = state::to_change(role)?;
    account.kind = kind;
    (account.valid_from, account.valid_until, account.hours) = (None, None, None);
    account.sources.clear();
    state::put(role, &account)?;
    record(role, &describe(&account));
    Ok(())
}

/// `pci.lock_account(role, reason)`
pub fn lock_account(call: &mut Call) -> Result<Value> {
    let (role, reason) = (of_another(call, "lock")?, call.text(1).into_owned());
    if reason.trim().is_empty() {
        return Err(Error::argument("an account is locked for a reason"));
    }
    ensure_key()?;
    lockout::lock(role, None, Some(shorten(&reason)))?;
    record(role, &format!("locked by an officer: {}", shorten(&reason)));
    if call.is_true(2) {
        lockout::end_sessions(role);
    }
    Ok(call.null())
}

/// `pci.unlock_account(role)`
pub fn unlock_account(call: &mut Call) -> Result<Value> {
    let role = of_another(call, "unlock")?;
    lockout::unlock(role)?;
    record(role, "unlocked by an officer");
    Ok(call.null())
}

/// `pci.account_text(role)`: for the view, fields apart by tabs.
pub fn account(call: &mut Call) -> Result<Value> {
    let role = call.oid(0);
    if role != session::user() && !sees_accounts() {
        return Err(Error::denied("permission denied to see the accounts of others")
            .hint("Officers and auditors may; others see their own: SELECT … FROM pci.accounts WHERE role = session_user."));
    }
    let (account, proof) = state::look(role);
    let limits = Limits::of(&account);
    let seen = crate::pg::lockout::with_logins(|logins| logins.seen(role.to_u32())).unwrap_or_default();
    let lock = account.lock.as_ref();
    let until = lock.map(|it| it.until).or_else(|| lockout::in_memory(role));
    let locked_until = until.map(|until| until.map_or_else(|| "infinity".into(), session::iso_time));
    let fields = [
        account.kind.as_str().into(),
        session::iso_time(account.changed_at),
        account.must_change.to_string(),
        until.is_some().to_string(),
        lock.map(|it| session::iso_time(it.since)).unwrap_or_default(),
        locked_until.unwrap_or_default(),
        lock.and_then(|it| it.reason.clone()).unwrap_or_default().replace(['\t', '\n'], " "),
        lockout::failures(role).to_string(),
        match proof {
            Proof::Forged => "false".into(),
            Proof::Unproven => String::new(),
            Proof::Genuine | Proof::Nothing => "true".into(),
        },
        session::iso_time(account.last_login.max(seen.last)),
        account.valid_from.map(session::iso_time).unwrap_or_default(),
        account.valid_until.map(session::iso_time).unwrap_or_default(),
        account.hours.as_ref().map(Hours::to_string).unwrap_or_default(),
        sources(&account),
        account.expires_at(limits.days(Control::MaxAge)).map(session::iso_time).unwrap_or_default(),
        session::iso_time(seen.shared_at),
        seen.shared.to_string(),
        exemptions(&account, limits.now()),
    ];
    Ok(varlena(fields.join("\t").as_bytes()))
}

fn parse_hours(hours: &str, zone: &str) -> Result<Hours> {
    if session::minute_of_day(session::now(), zone).is_none() {
        return Err(
            Error::argument(format!("there is no time zone \"{zone}\"")).hint("See pg_timezone_names.")
        );
    }
    Hours::parse(hours, zone).ok_or_else(|| {
        Error::argument("hours are a span of the day").hint("Such as 08:00-18:00, or 22:00-06:00.")
    })
}

fn parse_source(source: &str) -> Result<Source> {
    Source::parse(source).ok_or_else(|| {
        Error::argument(format!("\"{source}\" is no source"))
            .hint("An address, a network such as 10.1.0.0/16, or local for the server's socket.")
    })
}

fn check_window(account: &Account) -> Result<()> {
    if account.kind == Kind::Vendor && account.valid_until.is_none() {
        return Err(Error::argument("a vendor's account needs an end")
            .hint("valid_until says until when it is needed (PCI DSS 8.2.7)."));
    }
    if account.kind == Kind::BreakGlass
        && (account.valid_from.or(account.valid_until).is_some() || !account.sources.is_empty())
    {
        return Err(Error::argument("a break_glass account has no limits of time or source")
            .hint("It logs in on the server itself only."));
    }
    if account.valid_from.zip(account.valid_until).is_some_and(|(from, until)| from >= until) {
        return Err(Error::argument("valid_from must be before valid_until"));
    }
    if account.sources.len() > SOURCES {
        return Err(Error::argument(format!("an account has at most {SOURCES} sources"))
            .hint("Name larger networks."));
    }
    Ok(())
}

/// An account in one line, for the trail.
fn describe(account: &Account) -> String {
    let mut text = format!("account of kind {}", account.kind.as_str());
    for (what, when) in [("from", account.valid_from), ("until", account.valid_until)] {
        if let Some(when) = when {
            text += &format!(", {what} {}", session::iso_time(when));
        }
    }
    if let Some(hours) = &account.hours {
        text += &format!(", at {hours}");
    }
    if !account.sources.is_empty() {
        text += &format!(", from {}", sources(account));
    }
    text
}

fn sources(account: &Account) -> String {
    account.sources.iter().map(Source::to_string).collect::<Vec<_>>().join(" ")
}

/// As much of a reason as is kept of a role; the trail has the statement.
pub fn shorten(reason: &str) -> String {
    let end = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= REASON).last();
    reason[..end.unwrap_or(0)].to_owned()
}

/// Whether the user may see the accounts of others.
pub fn sees_accounts() -> bool {
    let is_auditor = session::role(AUDITOR)
        .is_some_and(|duty| roles::is_marked(duty) && session::is_member(session::user(), duty));
    is_auditor || roles::is_officer()
}

/// What an account itself is exempt from now.
fn exemptions(account: &Account, now: i64) -> String {
    let active = account.exemptions.iter().filter(|it| it.until > now);
    active.map(|it| format!("{}={}", it.control.as_str(), it.value)).collect::<Vec<_>>().join(" ")
}

/// The role that an officer does something with, who is somebody else.
fn of_another(call: &Call, what: &str) -> Result<pg_sys::Oid> {
    require_direct(call)?;
    require_duty(OFFICER)?;
    let role = call.oid(0);
    if role == session::user() {
        return Err(
            Error::denied(format!("nobody may {what} their own account")).hint("Another officer does it.")
        );
    }
    if !session::role_exists(role) {
        return Err(Error::argument("the role does not exist"));
    }
    Ok(role)
}

fn record(role: pg_sys::Oid, what: &str) {
    audit::record(Class::Policy, &format!("role \"{}\": {what}", session::role_name(role)));
}

/// Where `pci.init` ran before there was a key for accounts.
pub fn ensure_key() -> Result<()> {
    if cluster::exists() {
        return Ok(());
    }
    let ring = Ring::get()?;
    ring.require_active()?;
    let vault = ring.vault(DEFAULT_VAULT)?;
    match ring.installation {
        Some(installation) => cluster::make(installation, &vault.provider, &vault.kek),
        None => Ok(()),
    }
}
