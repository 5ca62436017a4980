//! The wrapping key of a vault's keys, changed without touching a row of card data.

use pgpci_core::key::KeyState;

use super::custodian::{on_duty, run};
use super::request::{Kind, Request};
use super::{requests, require_direct};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::broker;
use crate::key::ring::{DEFAULT_VAULT, Key, NO_VAULT, Ring, Vault};
use crate::pg::call::{Call, Value};
use crate::pg::catalog;

/// `pci.rewrap_keys(vault, provider, kek)`: NULL, or the number of a request where the new provider is weaker
pub fn rewrap_keys(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    on_duty()?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let vault = ring.vault_named(&call.text(0))?;
    let (provider, kek) = (call.text(1).into_owned(), call.text(2).into_owned());
    if provider == "local" && vault.provider != "local" {
        let mut request = Request::new(Kind::RewrapKeys, format!("rewrap to provider {provider}"));
        (request.vault, request.provider, request.kek) =
            (Some(vault.name.clone()), Some(provider), Some(kek));
        return Ok(requests::open(&request)?.into());
    }
    rewrap(&ring, vault, &provider, &kek)?;
    Ok(call.null())
}

/// `pci.confirm_rewrap(vault)`: from now on the new form counts, once each key was had from it.
pub fn confirm_rewrap(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    on_duty()?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let vault = ring.vault_named(&call.text(0))?;
    let mut moved = None;
    for key in ring.keys_of(&wrapped_with(vault)) {
        let Some(next) = &key.next else { continue };
        let proof = Key {
            provider: next.provider.clone(),
            kek: next.kek.clone(),
            wrapped: next.wrapped.clone(),
            ..key.clone()
        };
        broker::prove(&ring, &proof)?;
        moved = Some((next.provider.clone(), next.kek.clone()));
    }
    let Some((provider, kek)) = moved else {
        return Err(Error::state("no rewrap of this vault waits to be confirmed"));
    };
    let vaults = wrapped_with(vault);
    run(
        "UPDATE ONLY pci.key SET provider = next_provider, kek = next_kek, wrapped = next_wrapped, \
         next_provider = NULL, next_kek = NULL, next_wrapped = NULL \
         WHERE vault = ANY ($1) AND next_wrapped IS NOT NULL",
        &[vaults.to_vec().into()],
    )?;
    run(
        "UPDATE ONLY pci.vault SET provider = $2, kek = $3 WHERE number = $1",
        &[vault.number.into(), provider.as_str().into(), kek.as_str().into()],
    )?;
    catalog::changed("key");
    audit::record(Class::Key, &format!("keys of vault \"{}\" are now wrapped by {provider}", vault.name));
    Ok(call.null())
}

/// Has the keys of a vault wrapped by another wrapping key, too.
pub fn rewrap(ring: &Ring, vault: &Vault, provider: &str, kek: &str) -> Result<()> {
    for key in ring.keys_of(&wrapped_with(vault)).filter(|key| key.state != KeyState::Destroyed) {
        let wrapped = broker::rewrap(ring, key, provider, kek)?;
        run(
            "UPDATE ONLY pci.key SET next_provider = $2, next_kek = $3, next_wrapped = $4 WHERE id = $1",
            &[(key.id.0 as i64).into(), provider.into(), kek.into(), wrapped.into()],
        )?;
    }
    catalog::changed("key");
    audit::record(Class::Key, &format!("keys of vault \"{}\" wrapped by {provider} too", vault.name));
    pgrx::notice!("both wrapped forms are kept until SELECT pci.confirm_rewrap('{}')", vault.name);
    Ok(())
}

/// The policy key goes with vault default.
fn wrapped_with(vault: &Vault) -> [i32; 2] {
    [vault.number, if vault.number == DEFAULT_VAULT { NO_VAULT } else { vault.number }]
}
