//! Vaults: made with keys of their own, and for how long a key of theirs is used.

use pgpci_core::key::Purpose;
use pgrx::prelude::*;

use super::custodian::{self, check_display, make_key, me, run};
use super::request::{Kind, Request};
use super::{requests, require_direct};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::ring::{NO_VAULT, Ring, Vault};
use crate::pg::call::{Call, Value};
use crate::pg::catalog;

/// The longest name, in bytes: as PostgreSQL's identifiers.
const MAX_NAME: usize = 63;

/// `pci.create_vault(name, provider, kek, display_first, display_last, searchable)`: its number
pub fn create_vault(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    custodian::on_duty()?;
    if [0, 3, 4, 5].into_iter().any(|i| call.is_null(i)) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "name, display rule and searchable must not be null",
        ));
    }
    let ring = custodian::ring_to_change()?;
    let name = call.text(0).into_owned();
    check_name(&name, &ring)?;
    let (provider, kek) = wrapping_key(call, ring.default_vault()?)?;
    let (first, last, searchable) = (call.i32(3), call.i32(4), call.i32(5) & 1 == 1);
    check_display(first, last)?;
    // Never one that was used before: vaults are not dropped.
    let number = ring.vaults().iter().map(|vault| vault.number).max().unwrap_or(NO_VAULT) + 1;
    run(
        "INSERT INTO pci.vault (number, name, provider, kek, display_first, display_last, searchable, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            number.into(),
            name.as_str().into(),
            provider.as_str().into(),
            kek.as_str().into(),
            first.into(),
            last.into(),
            searchable.into(),
            me().into(),
        ],
    )?;
    for purpose in purposes(searchable) {
        make_key(&ring, number, *purpose, 1, &provider, &kek)?;
    }
    catalog::changed("vault");
    audit::record(Class::Key, &format!("vault \"{name}\" made, its keys wrapped by {provider}"));
    Ok(number.into())
}

/// `pci.set_cryptoperiod(vault, cryptoperiod)`: NULL, or the number of a request where it is longer than before
pub fn set_cryptoperiod(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    custodian::on_duty()?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let vault = ring.vault_named(&call.text(0))?;
    let period = call.interval(1).ok_or_else(|| Error::argument("the cryptoperiod must not be null"))?;
    let compared = Spi::get_two_with_args::<bool, bool>(
        "SELECT $2 > cryptoperiod, $2 > '0'::interval FROM ONLY pci.vault WHERE number = $1",
        &[vault.number.into(), period.into()],
    )?;
    let (is_longer, is_positive) = (compared.0 != Some(false), compared.1 == Some(true));
    if !is_positive {
        return Err(Error::argument("a cryptoperiod is a positive span of time"));
    }
    let mut request = Request::new(Kind::LengthenCryptoperiod, "lengthen the cryptoperiod".into());
    (request.vault, request.cryptoperiod) = (Some(vault.name.clone()), Some(period));
    if is_longer {
        return Ok(requests::open(&request)?.into());
    }
    write_cryptoperiod(&ring, &request)?;
    Ok(call.null())
}

/// Writes a cryptoperiod: it counts from when each key was made.
pub fn write_cryptoperiod(ring: &Ring, request: &Request) -> Result<()> {
    let vault = ring.vault_named(request.vault.as_deref().unwrap_or_default())?;
    let period = request.cryptoperiod.ok_or_else(|| Error::state("the request names no cryptoperiod"))?;
    run(
        "UPDATE ONLY pci.vault SET cryptoperiod = $2 WHERE number = $1",
        &[vault.number.into(), period.into()],
    )?;
    catalog::changed("vault");
    audit::record(Class::Key, &format!("cryptoperiod of vault \"{}\" set", vault.name));
    Ok(())
}

/// What a vault has keys for. A hash of either kind would make values of an unsearchable vault comparable.
pub fn purposes(searchable: bool) -> &'static [Purpose] {
    match searchable {
        true => &[Purpose::Data, Purpose::Equality, Purpose::Hash],
        false => &[Purpose::Data],
    }
}

/// Provider and wrapping key that the caller names; those of vault `default` where it names no provider.
fn wrapping_key(call: &Call, default: &Vault) -> Result<(String, String)> {
    match (call.opt_text(1), call.opt_text(2)) {
        (None, None) => Ok((default.provider.clone(), default.kek.clone())),
        (None, Some(kek)) => Ok((default.provider.clone(), kek.into_owned())),
        (Some(provider), Some(kek)) => Ok((provider.into_owned(), kek.into_owned())),
        (Some(provider), None) if provider == default.provider => {
            Ok((provider.into_owned(), default.kek.clone()))
        }
        (Some(provider), None) if provider == "local" => Ok((provider.into_owned(), String::new())),
        (Some(_), None) => {
            Err(Error::argument("another provider than that of vault \"default\" needs a wrapping key")
                .hint("Name it: pci.create_vault(name, provider, kek)."))
        }
    }
}

fn check_name(name: &str, ring: &Ring) -> Result<()> {
    // Where a name is expected, a number is the number of a vault.
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.parse::<i64>().is_err();
    if !is_name || name.chars().any(char::is_control) || name.trim() != name {
        return Err(Error::argument(
            "a vault's name has 1 to 63 bytes, no space at its ends, and is no number",
        ));
    }
    match ring.vault_named(name).is_ok() {
        true => Err(Error::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, "there is a vault of this name")),
        false => Ok(()),
    }
}
