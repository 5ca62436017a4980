//! Dual control: what weakens protection is a request, which a second holder of the duty approves.
//! Who that is, is decided by who authenticated, not by SET ROLE.

use std::sync::OnceLock;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::request::{self, Kind, Open, Request};
use super::{custodian, grant, require_direct, require_duty, tables, vaults};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::key::ring::Ring;
use crate::pg::call::{Call, Value};
use crate::pg::{catalog, session, table};

static ON_EXEMPTION: OnceLock<fn(&Request) -> Result<()>> = OnceLock::new();

/// Says what an approved exemption leads to; called once, while the library is preloaded.
pub fn on_exemption(then: fn(&Request) -> Result<()>) {
    let _ = ON_EXEMPTION.set(then);
}

/// Files a request; returns its number.
pub fn open(request: &Request) -> Result<i32> {
    if request.reason.trim().is_empty() {
        return Err(Error::argument("a request needs a reason"));
    }
    let time = |t: Option<i64>| t.map(TimestampWithTimeZone::try_from).transpose();
    let time = |t| time(t).map_err(|_| Error::argument("a time is out of range"));
    let (grant, exempt) = (request.grant.as_ref(), request.exempt.as_ref());
    let ring = Ring::get()?;
    Spi::run("LOCK TABLE ONLY pci.request IN SHARE ROW EXCLUSIVE MODE")?;
    let id = Spi::get_one::<i32>("SELECT coalesce(max(id), 0) + 1 FROM ONLY pci.request")?
        .ok_or_else(|| Error::state("the request has no number"))?;
    let expires = session::now() + i64::from(guc::REQUEST_EXPIRY.get()) * 1_000_000;
    let open = Open {
        id,
        request: request.clone(),
        requested_by: me(),
        requester: session::user(),
        expires,
        mac: Vec::new(),
    };
    let mac = open.mac(&ring)?;
    tables::writing(|| {
        Spi::run_with_args(
            "INSERT INTO pci.request (id, kind, duty, reason, vault, key, role, capability, purposes, valid_from, valid_until, \
             max_per_hour, provider, kek, display_first, display_last, cryptoperiod, requested_by, requester, expires_at, mac, control, value) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
            &[
                id.into(),
                request.kind.as_str().into(),
                request.kind.duty().into(),
                request.reason.as_str().into(),
                request.vault.clone().into(),
                request.key.into(),
                grant.map(|g| g.role).or(exempt.and_then(|e| e.role)).into(),
                grant.map(|g| g.capability.clone()).into(),
                grant.and_then(|g| g.purposes.clone()).into(),
                time(grant.and_then(|g| g.valid_from))?.into(),
                time(grant.and_then(|g| g.valid_until).or(exempt.map(|e| e.until).filter(|until| *until != 0)))?.into(),
                grant.and_then(|g| g.max_per_hour).into(),
                request.provider.clone().into(),
                request.kek.clone().into(),
                request.display.map(|d| d.0).into(),
                request.display.map(|d| d.1).into(),
                request.cryptoperiod.into(),
                open.requested_by.as_str().into(),
                open.requester.into(),
                time(Some(expires))?.into(),
                mac.to_vec().into(),
                exempt.map(|e| e.control.as_str()).into(),
                exempt.map(|e| e.value).into(),
            ],
        )
        .map_err(Error::from)
    })?;
    catalog::changed("request");
    audit::record(Class::Policy, &format!("request {id}: {}", request.kind.as_str()));
    pgrx::notice!(
        "request {id} waits until another member of {} runs SELECT pci.approve({id})",
        request.kind.duty()
    );
    Ok(id)
}

/// `pci.approve(id)`
pub fn approve(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    let open = find(call.i32(0))?;
    require_duty(open.request.kind.duty())?;
    let ring = Ring::get()?;
    ring.require_active()?;
    if open.requester == session::user() || open.requested_by == me() {
        audit::record(Class::Denied, &format!("approval of own request {}", open.id));
        return Err(Error::denied("nobody approves a request of their own")
            .hint(format!("Another member of {} does.", open.request.kind.duty())));
    }
    let duty = session::role(open.request.kind.duty());
    if !duty.is_some_and(|duty| session::is_member(open.requester, duty)) {
        return Err(Error::state(format!(
            "\"{}\" made request {} and has not the duty any more",
            open.requested_by, open.id
        ))
        .hint("Reject it, and make it anew."));
    }
    if let Some(asked) = &open.request.grant
        && !session::role_exists(asked.role)
    {
        return Err(Error::state(format!("the role of request {} is gone", open.id)));
    }
    if open.mac(&ring)?.as_slice() != open.mac {
        audit::record(Class::Denied, &format!("approval of request {}: its MAC is wrong", open.id));
        return Err(Error::denied(format!("request {} is not as pgpci wrote it", open.id))
            .hint("Somebody else wrote it, or a role that it names has another name now: reject it, and make it anew."));
    }
    close(&open, "approved", None)?;
    match open.request.kind {
        Kind::Grant => {
            let asked = open.request.grant.as_ref();
            let asked = asked.ok_or_else(|| Error::state("the request names no grant"))?;
            ring.vault_named(&asked.vault)?;
            grant::write(&ring, asked)?;
        }
        Kind::WidenDisplay => grant::write_display(&ring, &open.request)?,
        Kind::LengthenCryptoperiod => vaults::write_cryptoperiod(&ring, &open.request)?,
        Kind::Exempt | Kind::Restore | Kind::Account => {
            let then = ON_EXEMPTION.get().ok_or_else(|| Error::state("accounts are not kept here"))?;
            then(&open.request)?;
        }
        _ => custodian::approved(&open.request)?,
    }
    audit::record(
        Class::Policy,
        &format!("request {} of \"{}\" approved: {}", open.id, open.requested_by, open.request.kind.as_str()),
    );
    Ok(call.null())
}

/// `pci.reject(id, reason)`: by another holder of the duty, or by who made the request.
pub fn reject(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    let open = find(call.i32(0))?;
    require_duty(open.request.kind.duty())?;
    close(&open, "rejected", Some(&call.text(1)))?;
    audit::record(Class::Policy, &format!("request {} of \"{}\" rejected", open.id, open.requested_by));
    Ok(call.null())
}

/// A policy that arrived from elsewhere is accepted: what was open there was asked of others.
pub fn close_restored() -> Result<()> {
    tables::writing(|| {
        Spi::run_with_args(
            "UPDATE ONLY pci.request SET state = 'rejected', decided_by = $1, decided_at = clock_timestamp(), \
             decision_reason = 'restored from elsewhere' WHERE state = 'open'",
            &[me().into()],
        )
    })?;
    catalog::changed("request");
    Ok(())
}

/// 55000 unless it is open and has not expired.
fn find(id: i32) -> Result<Open> {
    let catalog = catalog::get().ok_or_else(|| Error::state("pgpci is not set up in this database"))?;
    let mut found = None;
    table::scan(catalog.table("request"), |row| {
        if row.get::<i32>(0) == Some(id) {
            found = request::read(&row);
        }
    });
    let (open, state) = found.ok_or_else(|| {
        Error::argument("there is no request of this number").hint("See the view pci.requests.")
    })?;
    if state != "open" {
        return Err(Error::state(format!("request {id} is {state} already")));
    }
    if open.expires <= session::now() {
        return Err(Error::state(format!("request {id} has expired")).hint("Make it anew."));
    }
    Ok(open)
}

/// Two approvals at a time: the second waits for the first, and finds it closed.
fn close(open: &Open, state: &str, reason: Option<&str>) -> Result<()> {
    let closed = tables::writing(|| {
        Spi::get_one_with_args::<i32>(
            "UPDATE ONLY pci.request SET state = $2, decided_by = $3, decided_at = clock_timestamp(), decision_reason = $4 \
             WHERE id = $1 AND state = 'open' RETURNING id",
            &[open.id.into(), state.into(), me().into(), reason.into()],
        )
    });
    catalog::changed("request");
    match closed {
        Ok(Some(_)) => Ok(()),
        _ => Err(Error::state(format!("request {} is not open any more", open.id))),
    }
}

fn me() -> String {
    session::role_name(session::user())
}
