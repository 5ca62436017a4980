//! `pci.init`: duty roles, the installation's identifier, vault `default` and its keys; once per database.
//! `pci.accept_policy`: puts a policy that arrived by restore in force.

use pgpci_core::key::Purpose;
use pgrx::prelude::*;

use super::{custodian, grant, policy, requests, require_duty, roles, tables};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, NO_VAULT, Ring};
use crate::key::{self, installed, nonce};
use crate::pg::call::{Call, Value};
use crate::pg::{catalog, session};

const DUTIES: [&str; 3] = ["pci_officer", "pci_custodian", "pci_auditor"];

/// `pci.init(officers, custodians, auditors, provider, kek)`
pub fn init(call: &mut Call) -> Result<Value> {
    super::require_direct(call)?;
    if !is_superuser() {
        return Err(Error::denied("permission denied: pci.init needs a superuser"));
    }
    let ring = Ring::get()?;
    if ring.installation.is_some() {
        return Err(Error::state("pgpci is already set up in this database"));
    }
    let (provider, kek) = (call.text(3).into_owned(), call.text(4).into_owned());
    let holders = [call.text_array(0), call.text_array(1), call.text_array(2)];
    check_holders(&holders)?;
    let is_first = !has_accounts();
    make_duties(&holders)?;
    let mut installation = [0; 16];
    nonce::fill(&mut installation)?;
    // RFC 9562, version 4.
    installation[6] = installation[6] & 0x0f | 0x40;
    installation[8] = installation[8] & 0x3f | 0x80;
    run(
        "INSERT INTO pci.installation (id, system_identifier, database, activated_by) VALUES ($1, $2, $3, $4)",
        &[
            pgrx::Uuid::from_bytes(installation).into(),
            (session::system_identifier() as i64).into(),
            session::database().into(),
            session::role_name(session::user()).into(),
        ],
    )?;
    run(
        "INSERT INTO pci.vault (number, name, provider, kek, display_first, display_last, searchable, created_by) \
         VALUES ($1, 'default', $2, $3, 6, 4, true, $4)",
        &[
            DEFAULT_VAULT.into(),
            provider.as_str().into(),
            kek.as_str().into(),
            session::role_name(session::user()).into(),
        ],
    )?;
    installed::mark();
    catalog::changed("installation");
    let ring = Ring::get()?;
    for (vault, purpose) in [
        (NO_VAULT, Purpose::Policy),
        (DEFAULT_VAULT, Purpose::Data),
        (DEFAULT_VAULT, Purpose::Equality),
        (DEFAULT_VAULT, Purpose::Hash),
    ] {
        custodian::make_key(&ring, vault, purpose, 1, &provider, &kek)?;
    }
    if is_first {
        begin_accounts();
    }
    key::cluster::make(installation, &provider, &kek)?;
    catalog::changed("installation");
    audit::record(Class::Policy, "pci.init");
    Ok(call.null())
}

/// `pci.accept_policy()`: the first officer proposes, a second one puts in force. True when in force.
pub fn accept_policy(call: &mut Call) -> Result<Value> {
    super::require_direct(call)?;
    require_duty("pci_officer")?;
    let ring = Ring::get()?;
    if ring.installation.is_none() {
        return ring.require_active().map(|()| call.null());
    }
    if ring.active {
        return Err(Error::state("the policy is already in force"));
    }
    let first = installed::proposer().filter(|first| {
        let officer = session::role("pci_officer");
        officer.is_some_and(|officer| session::is_member(*first, officer))
    });
    if first.is_none_or(|first| first == session::user()) {
        installed::propose(session::user());
        audit::record(Class::Policy, "accept_policy: first officer");
        return Ok(false.into());
    }
    // The wrapping key proves that this is where the policy belongs; without it this fails.
    let (cluster, database) = ring.origin.unwrap_or_default();
    let origin = policy::Origin { cluster, database };
    for row in policy::rows() {
        if row.is_authentic_from(&ring, origin)? {
            grant::write(&ring, &row)?;
        } else {
            grant::forget(&row)?;
        }
    }
    requests::close_restored()?;
    if !has_accounts() {
        accept_accounts(&ring)?;
    }
    for duty in DUTIES {
        if let Some(role) = session::role(duty) {
            roles::mark(role);
        }
    }
    run(
        "UPDATE ONLY pci.installation SET system_identifier = $1, database = $2, activated_by = $3, activated_at = clock_timestamp()",
        &[
            (session::system_identifier() as i64).into(),
            session::database().into(),
            session::role_name(session::user()).into(),
        ],
    )?;
    installed::mark();
    catalog::changed("installation");
    audit::record(Class::Policy, "accept_policy: in force");
    Ok(true.into())
}

/// `pci.is_active()`: whether the policy is in force here.
pub fn is_active(_: &mut Call) -> Result<Value> {
    Ok(Ring::get()?.active.into())
}

/// Whether accounts are in force in this cluster already, by another database.
fn has_accounts() -> bool {
    session::role(custodian::DUTY).is_some_and(roles::is_marked)
}

/// What is kept of roles already, before there was a policy, was restored, or planted: only what is genuine stays.
fn begin_accounts() {
    let is_restored = key::cluster::exists() && key::cluster::accept().is_ok();
    if !is_restored && key::cluster::begin_anew() > 0 {
        pgrx::notice!("what was kept of roles before is dropped: its key cannot be had");
    }
}

/// What a restore has brought of roles comes in force with the policy, as far as it is genuine.
fn accept_accounts(ring: &Ring) -> Result<()> {
    let vault = ring.vault(DEFAULT_VAULT)?;
    if let (false, Some(installation)) = (key::cluster::exists(), ring.installation) {
        key::cluster::make(installation, &vault.provider, &vault.kek)?;
    }
    for name in key::cluster::accept()? {
        audit::record(Class::Denied, &format!("what a restore brought of role \"{name}\": its MAC is wrong"));
        Error::denied(format!(
            "what was restored of role \"{name}\" was not written by pgpci, and is dropped"
        ))
        .hint("Until pci.set_account says otherwise, it is a person's account that nothing is known of.")
        .warn();
    }
    Ok(())
}

fn check_holders(holders: &[Vec<String>; 3]) -> Result<()> {
    for (i, names) in holders.iter().enumerate() {
        for name in names {
            if session::role(name).is_none() {
                return Err(Error::argument(format!("role \"{name}\" does not exist")));
            }
            if holders.iter().skip(i + 1).any(|other| other.contains(name)) {
                return Err(Error::argument(format!("role \"{name}\" is named for two duties"))
                    .hint("Separation of duties: no person holds two."));
            }
        }
        if names.len() < 2 {
            Error::state(format!("{} has fewer than two holders: what needs approval will wait", DUTIES[i]))
                .warn();
        }
    }
    Ok(())
}

/// Makes the duty roles if this cluster has none; refuses squatters: roles of these names that can log in,
/// have members already, or that a role other than a superuser can administer.
fn make_duties(holders: &[Vec<String>; 3]) -> Result<()> {
    let existing = DUTIES.iter().filter(|d| session::role(d).is_some()).count();
    if existing == 0 {
        for duty in DUTIES {
            Spi::run(&format!("CREATE ROLE {duty} NOLOGIN NOINHERIT"))?;
        }
    } else {
        let squatted = Spi::get_one::<bool>(
            "SELECT count(*) < 3 OR bool_or(rolcanlogin OR rolsuper) FROM pg_catalog.pg_roles \
             WHERE rolname IN ('pci_officer', 'pci_custodian', 'pci_auditor')",
        )?;
        let initialised_elsewhere = Spi::get_one::<bool>(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid \
             WHERE r.rolname IN ('pci_officer', 'pci_custodian', 'pci_auditor'))",
        )?;
        if squatted != Some(false) || initialised_elsewhere == Some(true) && !is_duty_holder() {
            return Err(Error::denied("roles named pci_officer, pci_custodian or pci_auditor exist and are not ours")
                .hint("Drop or rename them; if another database of this cluster uses pgpci, an officer who is superuser runs pci.init."));
        }
    }
    for (duty, names) in DUTIES.iter().zip(holders) {
        if let Some(role) = session::role(duty) {
            roles::mark(role);
        }
        for name in names {
            let quoted = pgrx::spi::quote_identifier(name);
            tables::writing(|| Spi::run(&format!("GRANT {duty} TO {quoted}")))?;
        }
    }
    Ok(())
}

fn is_duty_holder() -> bool {
    session::role("pci_officer").is_some_and(|role| session::is_member(session::user(), role))
}

fn is_superuser() -> bool {
    let name = session::role_name(session::user());
    Spi::get_one_with_args("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1", &[name.into()])
        .ok()
        .flatten()
        .unwrap_or(false)
}

fn run(statement: &str, arguments: &[pgrx::datum::DatumWithOid<'_>]) -> Result<()> {
    Ok(tables::writing(|| Spi::run_with_args(statement, arguments))?)
}
