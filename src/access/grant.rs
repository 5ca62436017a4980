//! `pci.grant_access` and `pci.revoke_access`.

use pgpci_core::access::Capability;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::policy::{Grant, Origin};
use super::request::{Kind, Request};
use super::{requests, require_direct, require_duty, tables};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::ring::Ring;
use crate::pg::call::{Call, Value};
use crate::pg::{catalog, session};

const INSERT: &str = "INSERT INTO pci.access_grant \
    (role, vault, capability, purposes, valid_from, valid_until, max_per_hour, mac, granted_by, granted_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())";
const END_REPLICATION: &str = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_replication \
    WHERE usesysid = $1 OR (NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = usesysid) AND pg_catalog.pg_has_role(usesysid, $1, 'member'))";
const DELETE: &str = "DELETE FROM ONLY pci.access_grant WHERE role = $1 AND vault = $2 AND capability = $3";

/// `pci.grant_access(role, vault, capability, purposes, valid_from, valid_until, max_per_hour)`
pub fn grant(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty("pci_officer")?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let (role, vault, capability) = subject(call, &ring)?;
    let mut grant = Grant::new(role, &vault, capability);
    grant.purposes = (!call.is_null(3)).then(|| call.text_array(3));
    grant.valid_from = (!call.is_null(4)).then(|| call.i64(4));
    grant.valid_until = (!call.is_null(5)).then(|| call.i64(5));
    grant.max_per_hour = (!call.is_null(6)).then(|| call.i32(6));
    if grant.purposes.is_some() && capability != Capability::Reveal {
        return Err(Error::argument("only the capability reveal has purposes"));
    }
    if grant.max_per_hour.is_some_and(|m| m <= 0)
        || (grant.max_per_hour.is_some() && capability != Capability::Reveal)
    {
        return Err(Error::argument("max_per_hour is a positive number, for the capability reveal"));
    }
    if let (Some(from), Some(until)) = (grant.valid_from, grant.valid_until)
        && from >= until
    {
        return Err(Error::argument("valid_from must be before valid_until"));
    }
    // What lets digits or hashes out is not one person's decision.
    if matches!(capability, Capability::Reveal | Capability::Export) {
        let mut request = Request::new(Kind::Grant, format!("grant {}", capability.as_str()));
        (request.vault, request.grant) = (Some(vault), Some(grant));
        return Ok(requests::open(&request)?.into());
    }
    write(&ring, &grant)?;
    audit::record(
        Class::Policy,
        &format!("grant {} on vault \"{vault}\" to \"{}\"", capability.as_str(), session::role_name(role)),
    );
    Ok(call.null())
}

/// `pci.revoke_access(role, vault, capability)`
pub fn revoke(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty("pci_officer")?;
    let ring = Ring::get()?;
    let (role, vault, capability) = subject(call, &ring)?;
    let removed = delete(role, &vault, capability)?;
    if removed == 0 {
        return Err(Error::argument("there is no such grant").hint("See the view pci.access."));
    }
    catalog::changed("access_grant");
    if capability == Capability::Export {
        // A walsender cannot look again while it decodes: it connects anew and finds the grant gone.
        Spi::run_with_args(END_REPLICATION, &[role.into()])?;
    }
    audit::record(
        Class::Policy,
        &format!("revoke {} on vault \"{vault}\" from \"{}\"", capability.as_str(), session::role_name(role)),
    );
    Ok(call.null())
}

/// `pci.set_display(vault, first, last)`: NULL, or the number of a request where it shows more than before
pub fn set_display(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty("pci_officer")?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let vault = ring.vault_named(&call.text(0))?;
    let (first, last) = (call.i32(1), call.i32(2));
    super::custodian::check_display(first, last)?;
    let mut request = Request::new(Kind::WidenDisplay, format!("show {first} and {last} digits"));
    (request.vault, request.display) = (Some(vault.name.clone()), Some((first, last)));
    if first > i32::from(vault.display.0) || last > i32::from(vault.display.1) {
        return Ok(requests::open(&request)?.into());
    }
    write_display(&ring, &request)?;
    Ok(call.null())
}

/// Writes a display rule: it holds for values that are stored from now on.
pub fn write_display(ring: &Ring, request: &Request) -> Result<()> {
    let vault = ring.vault_named(request.vault.as_deref().unwrap_or_default())?;
    let (first, last) = request.display.ok_or_else(|| Error::state("the request names no display rule"))?;
    tables::writing(|| {
        Spi::run_with_args(
            "UPDATE ONLY pci.vault SET display_first = $2, display_last = $3 WHERE number = $1",
            &[vault.number.into(), first.into(), last.into()],
        )
    })?;
    catalog::changed("vault");
    audit::record(Class::Policy, &format!("vault \"{}\" shows {first} and {last} digits", vault.name));
    Ok(())
}

/// Writes a grant, in place of one for the same role, vault and capability.
pub fn write(ring: &Ring, grant: &Grant) -> Result<()> {
    let mac = grant.mac(ring, Origin::here())?;
    let time = |t: Option<i64>| t.map(TimestampWithTimeZone::try_from).transpose();
    let time = |t| time(t).map_err(|_| Error::argument("a time is out of range"));
    let (from, until) = (time(grant.valid_from)?, time(grant.valid_until)?);
    let capability = Capability::parse(&grant.capability).ok_or_else(unknown_capability)?;
    delete(grant.role, &grant.vault, capability)?;
    tables::writing(|| {
        Spi::run_with_args(
            INSERT,
            &[
                grant.role.into(),
                grant.vault.as_str().into(),
                grant.capability.as_str().into(),
                grant.purposes.clone().into(),
                from.into(),
                until.into(),
                grant.max_per_hour.into(),
                mac.to_vec().into(),
                session::role_name(session::user()).into(),
            ],
        )
    })?;
    super::roles::mark(grant.role);
    catalog::changed("access_grant");
    Ok(())
}

/// Takes away what came by a restore and is not what pgpci wrote where it came from.
pub fn forget(row: &Grant) -> Result<()> {
    let role = session::role_name(row.role);
    Error::state(format!(
        "the grant of {} to role \"{role}\" is not as pgpci wrote it, and left out",
        row.capability
    ))
    .hint("Somebody else wrote it, or the role had another name.")
    .warn();
    if let Some(capability) = Capability::parse(&row.capability) {
        delete(row.role, &row.vault, capability)?;
    }
    audit::record(
        Class::Policy,
        &format!("grant {} to \"{role}\" left out: its MAC is wrong", row.capability),
    );
    Ok(())
}

fn delete(role: pg_sys::Oid, vault: &str, capability: Capability) -> Result<usize> {
    Ok(tables::writing(|| {
        Spi::connect_mut(|client| {
            let table =
                client.update(DELETE, None, &[role.into(), vault.into(), capability.as_str().into()])?;
            Ok::<usize, pgrx::spi::Error>(table.len())
        })
    })?)
}

fn subject(call: &Call, ring: &Ring) -> Result<(pg_sys::Oid, String, Capability)> {
    if (0..3).any(|i| call.is_null(i)) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "role, vault and capability must not be null",
        ));
    }
    if !session::role_exists(call.oid(0)) {
        return Err(Error::argument("there is no such role"));
    }
    let role = call.oid(0);
    let vault = ring.vault_named(&call.text(1))?.name.clone();
    let capability = Capability::parse(&call.text(2)).ok_or_else(unknown_capability)?;
    Ok((role, vault, capability))
}

fn unknown_capability() -> Error {
    Error::argument("unknown capability").hint("The capabilities are store, search, reveal and export.")
}
