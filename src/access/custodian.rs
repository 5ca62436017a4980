//! What custodians do: the life of keys (NIST SP 800-57, PCI DSS 3.6 and 3.7).

use std::rc::Rc;

use pgpci_core::key::{Context, KeyId, KeyState, Purpose};
use pgrx::prelude::*;

use super::requests::{self, Kind, Request};
use super::{require_direct, require_duty, tables};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, Key, NO_VAULT, Ring, Vault};
use crate::key::{self, broker, nonce};
use crate::pg::call::{Call, Value};
use crate::pg::{catalog, session};

/// The duty.
pub const DUTY: &str = "pci_custodian";

/// `pci.rotate_key(vault)`: the next version of the vault's data key, for new values; the last one only opens.
pub fn rotate_key(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(DUTY)?;
    let ring = ring_to_change()?;
    let vault = ring.vault_named(&call.text(0))?;
    let old: Vec<&Key> = ring.keys(vault.number, Purpose::Data).collect();
    let version = old.iter().map(|key| key.version).max().unwrap_or(0) + 1;
    let id = make_key(&ring, vault.number, Purpose::Data, version, &vault.provider, &vault.kek)?;
    for key in old.into_iter().filter(|key| key.state == KeyState::Active) {
        write_state(key, KeyState::Deactivated, "replaced by the next version")?;
    }
    catalog::changed("key");
    audit::record(Class::Key, &format!("data key of vault \"{}\" rotated to version {version}", vault.name));
    Ok((id as i64).into())
}

/// `pci.suspend_key(key, reason)`
pub fn suspend_key(call: &mut Call) -> Result<Value> {
    change_state(call, KeyState::Suspended)
}

/// `pci.resume_key(key, reason)`
pub fn resume_key(call: &mut Call) -> Result<Value> {
    change_state(call, KeyState::Active)
}

/// `pci.compromise_key(key, reason)`
pub fn compromise_key(call: &mut Call) -> Result<Value> {
    change_state(call, KeyState::Compromised)
}

/// `pci.destroy_key(key, reason)`: the number of a request
pub fn destroy_key(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(DUTY)?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let key = ring.key(KeyId(call.i64(0) as u64))?;
    check_transition(key, KeyState::Destroyed)?;
    let uses = Spi::get_one_with_args::<i64>(
        "SELECT coalesce(sum(uses), 0)::bigint FROM pci.key_usage($1)",
        &[(key.id.0 as i64).into()],
    )?;
    let mut request = Request::new(Kind::DestroyKey, call.text(1).into_owned());
    request.key = Some(key.id.0 as i64);
    request.vault = ring.vault(key.vault).ok().map(|vault| vault.name.clone());
    let id = requests::open(&request)?;
    pgrx::notice!(
        "{} stored values use the key and will never be revealed again; constants in views and defaults, replicas and backups are not counted",
        uses.unwrap_or(0)
    );
    Ok(id.into())
}

/// `pci.shred_vault(vault, reason)`: the number of a request
pub fn shred_vault(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(DUTY)?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let mut request = Request::new(Kind::ShredVault, call.text(1).into_owned());
    request.vault = Some(ring.vault_named(&call.text(0))?.name.clone());
    Ok(requests::open(&request)?.into())
}

/// `pci.rewrap_keys(vault, provider, kek)`: NULL, or the number of a request where the new provider is weaker
pub fn rewrap_keys(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    require_duty(DUTY)?;
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
    require_duty(DUTY)?;
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

/// Carries out an approved request.
pub fn approved(request: &Request) -> Result<()> {
    let ring = ring_to_change()?;
    let vault = || ring.vault_named(request.vault.as_deref().unwrap_or_default());
    match request.kind {
        Kind::DestroyKey => {
            let key = ring.key(KeyId(request.key.unwrap_or_default() as u64))?;
            check_transition(key, KeyState::Destroyed)?;
            destroy(key, &request.reason)?;
        }
        Kind::ShredVault => {
            let vault = vault()?;
            for key in ring.keys_of(&[vault.number]).filter(|key| key.state != KeyState::Destroyed) {
                destroy(key, &request.reason)?;
            }
            audit::record(Class::Key, &format!("vault \"{}\" shredded", vault.name));
        }
        Kind::RewrapKeys => {
            let (provider, kek) = (request.provider.as_deref(), request.kek.as_deref());
            rewrap(&ring, vault()?, provider.unwrap_or_default(), kek.unwrap_or_default())?;
        }
        Kind::WidenDisplay | Kind::Grant => {}
    }
    catalog::changed("key");
    Ok(())
}

/// Makes a version of a key and writes it, wrapped.
pub fn make_key(
    ring: &Ring,
    vault: i32,
    purpose: Purpose,
    version: i32,
    provider: &str,
    kek: &str,
) -> Result<u64> {
    let mut id = [0; 8];
    nonce::fill(&mut id)?;
    // Positive, so that it reads the same as SQL's bigint.
    let id = u64::from_be_bytes(id) >> 1 | 1;
    let installation =
        ring.installation.ok_or_else(|| Error::state("pgpci is not set up in this database"))?;
    let context = Context { installation, vault, key_id: KeyId(id), purpose };
    let (wrapped, check) = broker::generate(&context, provider, kek)?;
    audit::record(Class::Key, &format!("{} key {id} made", purpose.as_str()));
    run(
        "INSERT INTO pci.key (id, vault, purpose, version, state, provider, kek, wrapped, check_value, created_by) \
         VALUES ($1, $2, $3, $4, 'active', $5, $6, $7, $8, $9)",
        &[
            (id as i64).into(),
            vault.into(),
            purpose.as_str().into(),
            version.into(),
            provider.into(),
            kek.into(),
            wrapped.into(),
            check.to_vec().into(),
            me().into(),
        ],
    )?;
    write_event(id as i64, KeyState::Active, "made")?;
    Ok(id)
}

fn change_state(call: &mut Call, next: KeyState) -> Result<Value> {
    require_direct(call)?;
    require_duty(DUTY)?;
    if call.text(1).trim().is_empty() {
        return Err(Error::argument("the state of a key changes for a reason"));
    }
    let ring = ring_to_change()?;
    let key = ring.key(KeyId(call.i64(0) as u64))?;
    check_transition(key, next)?;
    write_state(key, next, &call.text(1))?;
    catalog::changed("key");
    if !next.may_decrypt() {
        key::forget_at_commit(key.id);
    }
    audit::record(Class::Key, &format!("key {} is now {}", key.id.0, next.as_str()));
    Ok(call.null())
}

/// The keys as they are now; nobody else changes any until this transaction ends.
fn ring_to_change() -> Result<Rc<Ring>> {
    run("LOCK TABLE ONLY pci.key IN SHARE ROW EXCLUSIVE MODE", &[])?;
    let ring = Ring::reread()?;
    ring.require_active()?;
    Ok(ring)
}

fn check_transition(key: &Key, next: KeyState) -> Result<()> {
    if key.purpose == Purpose::Policy {
        return Err(Error::state("the key that authenticates the policy stays active")
            .hint("Without it no grant counts, and none can be made."));
    }
    if key.state.may_become(next) {
        return Ok(());
    }
    Err(Error::state(format!("a key that is {} does not become {}", key.state.as_str(), next.as_str()))
        .hint("The states and their order are those of NIST SP 800-57."))
}

fn write_state(key: &Key, next: KeyState, reason: &str) -> Result<()> {
    run(
        "UPDATE ONLY pci.key SET state = $2 WHERE id = $1",
        &[(key.id.0 as i64).into(), next.as_str().into()],
    )?;
    write_event(key.id.0 as i64, next, reason)
}

fn write_event(key: i64, state: KeyState, reason: &str) -> Result<()> {
    run(
        "INSERT INTO pci.key_event (key, state, changed_by, reason) VALUES ($1, $2, $3, $4)",
        &[key.into(), state.as_str().into(), me().into(), reason.into()],
    )
}

/// The wrapped forms go, here and in every memory; the row stays.
fn destroy(key: &Key, reason: &str) -> Result<()> {
    write_state(key, KeyState::Destroyed, reason)?;
    run(
        "UPDATE ONLY pci.key SET wrapped = '', next_provider = NULL, next_kek = NULL, next_wrapped = NULL WHERE id = $1",
        &[(key.id.0 as i64).into()],
    )?;
    key::forget_at_commit(key.id);
    audit::record(Class::Key, &format!("{} key {} destroyed", key.purpose.as_str(), key.id.0));
    Ok(())
}

fn rewrap(ring: &Ring, vault: &Vault, provider: &str, kek: &str) -> Result<()> {
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

/// 22023 unless a vault may show so many digits.
pub fn check_display(first: i32, last: i32) -> Result<()> {
    match (0..=8).contains(&first) && (0..=4).contains(&last) {
        true => Ok(()),
        false => Err(Error::argument("a vault shows at most the first eight and the last four digits")
            .hint("The brand of a card number may allow less; then less is shown.")),
    }
}

fn me() -> String {
    session::role_name(session::user())
}

fn run(statement: &str, arguments: &[pgrx::datum::DatumWithOid<'_>]) -> Result<()> {
    Ok(tables::writing(|| Spi::run_with_args(statement, arguments))?)
}
