//! Exemptions: an officer asks, a second one approves, they end by themselves. One of them is a restore, while which
//! ready-made verifiers are taken.

use pgpci_core::account::{Control, EXEMPTIONS, Exemption};
use pgrx::pg_sys;

use super::{life, limits, state};
use crate::access::request::{Exempt, Kind, Request};
use crate::access::requests;
use crate::access::{require_direct, require_duty};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::pg::call::{Call, Value, varlena};
use crate::pg::session;

const DAY: i64 = 86_400_000_000;
const LONGEST: i64 = 366 * DAY;
const LONGEST_RESTORE: i64 = DAY;

/// Registers what is done with a request that was approved.
pub fn register() {
    requests::on_exemption(approved);
}

/// `pci.exempt(control, value, until, reason, role)`: the number of a request
pub fn exempt(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(life::OFFICER)?;
    if (0..4).any(|i| call.is_null(i)) {
        return Err(Error::argument("an exemption is from a control, has a value, an end and a reason"));
    }
    let name = call.text(0);
    let control = Control::parse(&name)
        .filter(|it| !matches!(it, Control::Restore | Control::Kind))
        .ok_or_else(|| {
            Error::argument(format!("\"{name}\" is no control that there are exemptions from"))
                .hint("It is named as its setting is, without the prefix: password_max_age.")
        })?;
    if !control.is_weaker(call.i32(1)) {
        return Err(Error::argument("this value is not weaker than PCI DSS allows, or means nothing")
            .hint(format!("Set pgpci.{}, which needs no exemption.", control.as_str())));
    }
    let role = (!call.is_null(4)).then(|| call.oid(4));
    if role == Some(session::user()) {
        return Err(Error::denied("nobody may ask for an exemption of their own account")
            .hint("Another officer does it."));
    }
    if role.is_some_and(|role| !session::role_exists(role)) {
        return Err(Error::argument("the role does not exist"));
    }
    let now = session::now();
    if !(now..=now + LONGEST).contains(&call.i64(2)) {
        return Err(
            Error::argument("an exemption ends within a year").hint("Ask for it anew before it does.")
        );
    }
    open(Kind::Exempt, Exempt { role, control, value: call.i32(1), until: call.i64(2) }, &call.text(3))
}

/// `pci.end_exemption(control, role)`
pub fn end_exemption(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(life::OFFICER)?;
    let control = (!call.is_null(0)).then(|| Control::parse(&call.text(0))).flatten();
    let control = control.ok_or_else(|| Error::argument("there is no such control"))?;
    end(control, (!call.is_null(1)).then(|| call.oid(1)))?;
    Ok(call.null())
}

/// `pci.begin_restore(duration, reason)`: the number of a request
pub fn begin_restore(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(life::OFFICER)?;
    let length = call
        .interval(0)
        .map(|it| i64::from(it.months()) * 30 * DAY + i64::from(it.days()) * DAY + it.micros());
    let length = length.filter(|it| (1..=LONGEST_RESTORE).contains(it)).ok_or_else(|| {
        Error::argument("a restore takes a day at most").hint("SELECT pci.begin_restore('2 hours', 'why').")
    })?;
    let exempt = Exempt { role: None, control: Control::Restore, value: 1, until: session::now() + length };
    open(Kind::Restore, exempt, &call.text(1))
}

/// `pci.end_restore()`
pub fn end_restore(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(life::OFFICER)?;
    end(Control::Restore, None)?;
    Ok(call.null())
}

/// `pci.exemptions_text()`: for the view, an exemption a line, fields apart by tabs.
pub fn all(call: &mut Call) -> Result<Value> {
    if !life::sees_accounts() {
        return Err(Error::denied("permission denied to see exemptions").hint("Officers and auditors may."));
    }
    let now = session::now();
    let mut lines = Vec::new();
    for (role, account) in state::all() {
        let name = if Some(role) == limits::of_all() { String::new() } else { session::role_name(role) };
        lines.extend(account.exemptions.iter().filter(|it| it.until > now).map(|it| {
            let Exemption { control, value, until, reason } = it;
            format!("{name}\t{}\t{value}\t{}\t{reason}", control.as_str(), session::iso_time(*until))
        }));
    }
    match lines.is_empty() {
        true => Ok(call.null()),
        false => Ok(varlena(lines.join("\n").as_bytes())),
    }
}

/// Whether ready-made verifiers are taken now.
pub fn is_restoring() -> bool {
    let all = limits::of_all().map(state::get).unwrap_or_default();
    all.exemption(Control::Restore, session::now()).is_some()
}

/// Files a request that is about accounts; returns its number.
pub fn open(kind: Kind, exempt: Exempt, reason: &str) -> Result<Value> {
    life::ensure_key()?;
    let mut request = Request::new(kind, reason.replace(['\t', '\n'], " "));
    request.exempt = Some(exempt);
    Ok(requests::open(&request)?.into())
}

fn approved(request: &Request) -> Result<()> {
    let Some(asked) = &request.exempt else { return Err(Error::state("the request names no exemption")) };
    if asked.role == Some(session::user()) {
        return Err(Error::denied("nobody may approve an exemption of their own account")
            .hint("Another officer does it."));
    }
    if asked.control == Control::Kind {
        return life::approved(asked);
    }
    let now = session::now();
    let role = subject(asked.role)?;
    let mut account = state::to_change(role)?;
    account.exemptions.retain(|it| it.until > now && it.control != asked.control);
    if asked.role.is_some() && account.exemptions.len() >= EXEMPTIONS {
        return Err(Error::state(format!("a role has at most {EXEMPTIONS} exemptions"))
            .hint("SELECT pci.end_exemption(…) ends one."));
    }
    account.exemptions.push(Exemption {
        control: asked.control,
        value: asked.value,
        until: asked.until,
        reason: life::shorten(&request.reason),
    });
    state::put(role, &account)?;
    let whose =
        asked.role.map_or("all roles".into(), |role| format!("role \"{}\"", session::role_name(role)));
    let until = session::iso_time(asked.until);
    let what = asked.control.as_str();
    audit::record(Class::Policy, &format!("{whose}: exempt: {what} = {} until {until}", asked.value));
    Ok(())
}

fn end(control: Control, role: Option<pg_sys::Oid>) -> Result<()> {
    let subject = subject(role)?;
    let mut account = state::to_change(subject)?;
    let count = account.exemptions.len();
    account.exemptions.retain(|it| it.control != control);
    if account.exemptions.len() == count {
        return Err(Error::state("there is no such exemption").hint("See the view pci.exemptions."));
    }
    state::put(subject, &account)?;
    let whose = role.map_or("all roles".into(), |role| format!("role \"{}\"", session::role_name(role)));
    audit::record(Class::Policy, &format!("{whose}: exemption ended: {}", control.as_str()));
    Ok(())
}

fn subject(role: Option<pg_sys::Oid>) -> Result<pg_sys::Oid> {
    let subject = role.or_else(limits::of_all).filter(|role| session::role_exists(*role));
    subject.ok_or_else(|| Error::state("the role is gone"))
}
