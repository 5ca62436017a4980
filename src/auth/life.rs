//! What officers do with accounts.

use pgpci_core::account::Kind;
use pgrx::pg_sys;

use super::{lockout, state};
use crate::access::{require_direct, require_duty, roles};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::cluster;
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pg::call::{Call, Value, varlena};
use crate::pg::session;

const OFFICER: &str = "pci_officer";
const AUDITOR: &str = "pci_auditor";

/// `pci.set_account(role, kind)`
pub fn set_account(call: &mut Call) -> Result<Value> {
    let (role, name) = (of_another(call, "change the kind of")?, call.text(1));
    let kind = Kind::parse(&name).ok_or_else(|| {
        Error::argument(format!("there is no kind of account \"{name}\""))
            .hint("person, service, vendor or break_glass.")
    })?;
    ensure_key()?;
    let mut account = state::get(role);
    account.kind = kind;
    state::put(role, &account);
    record(role, &format!("account of kind {}", kind.as_str()));
    Ok(call.null())
}

/// `pci.lock_account(role, reason)`
pub fn lock_account(call: &mut Call) -> Result<Value> {
    let (role, reason) = (of_another(call, "lock")?, call.text(1).into_owned());
    if reason.trim().is_empty() {
        return Err(Error::argument("an account is locked for a reason"));
    }
    ensure_key()?;
    lockout::lock(role, None, Some(reason))?;
    record(role, "locked by an officer");
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
    let is_auditor = session::role(AUDITOR)
        .is_some_and(|duty| roles::is_marked(duty) && session::is_member(session::user(), duty));
    if role != session::user() && !is_auditor && !roles::is_officer() {
        return Err(Error::denied("permission denied to see the accounts of others")
            .hint("Officers and auditors may; others see their own: SELECT … FROM pci.accounts WHERE role = session_user."));
    }
    let account = state::get(role);
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
    ];
    Ok(varlena(fields.join("\t").as_bytes()))
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
fn ensure_key() -> Result<()> {
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
