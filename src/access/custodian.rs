//! What custodians do: the life of keys (NIST SP 800-57, PCI DSS 3.6 and 3.7).

use std::rc::Rc;

use pgpci_core::key::{Context, KeyId, KeyState, Purpose};
use pgrx::prelude::*;

use super::request::{Kind, Request};
use super::{requests, require_direct, require_duty, rewrap, tables, vaults};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::ring::{Key, Ring, Vault};
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
    let id = next_data_key(&ring, vault, "replaced by the next version")?;
    renew(&ring, vault)?;
    catalog::changed("key");
    audit::record(Class::Key, &format!("data key of vault \"{}\" rotated", vault.name));
    warn_of_due()?;
    Ok((id as i64).into())
}

/// The next version of a vault's data key; those that were active only open from now on.
pub fn next_data_key(ring: &Ring, vault: &Vault, reason: &str) -> Result<u64> {
    let old: Vec<&Key> = ring.keys(vault.number, Purpose::Data).collect();
    let version = old.iter().map(|key| key.version).max().unwrap_or(0) + 1;
    let id = make_key(ring, vault.number, Purpose::Data, version, &vault.provider, &vault.kek)?;
    for key in old.into_iter().filter(|key| key.state == KeyState::Active) {
        write_state(key, KeyState::Deactivated, reason)?;
    }
    catalog::changed("key");
    Ok(id)
}

/// After the end of all its keys, a vault takes new values under new ones; old values stay what they are.
fn renew(ring: &Ring, vault: &Vault) -> Result<()> {
    for purpose in vaults::purposes(vault.searchable).iter().filter(|purpose| **purpose != Purpose::Data) {
        let old: Vec<&Key> = ring.keys(vault.number, *purpose).collect();
        if old.iter().all(|key| key.state == KeyState::Destroyed) {
            let version = old.iter().map(|key| key.version).max().unwrap_or(0) + 1;
            make_key(ring, vault.number, *purpose, version, &vault.provider, &vault.kek)?;
        }
    }
    Ok(())
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
    on_duty()?;
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
        "{} stored values use the key and will never be revealed again; arrays, rows, constants in views and defaults, replicas and backups are not counted",
        uses.unwrap_or(0)
    );
    Ok(id.into())
}

/// `pci.shred_vault(vault, reason)`: the number of a request
pub fn shred_vault(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    on_duty()?;
    let ring = Ring::get()?;
    ring.require_active()?;
    let mut request = Request::new(Kind::ShredVault, call.text(1).into_owned());
    request.vault = Some(ring.vault_named(&call.text(0))?.name.clone());
    Ok(requests::open(&request)?.into())
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
            rewrap::rewrap(&ring, vault()?, provider.unwrap_or_default(), kek.unwrap_or_default())?;
        }
        Kind::WidenDisplay
        | Kind::Grant
        | Kind::LengthenCryptoperiod
        | Kind::Exempt
        | Kind::Restore
        | Kind::Account => {}
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
    let id = nonce::key_id()?;
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

/// 42501 unless the authenticated user is a custodian, who is told which keys are due.
pub fn on_duty() -> Result<()> {
    require_duty(DUTY)?;
    warn_of_due()
}

/// A WARNING, to the custodian and into the server log, for each key whose cryptoperiod is over or ends before long.
fn warn_of_due() -> Result<()> {
    let due = Spi::connect(|client| {
        let rows = client.select(
            "SELECT id, vault, due_at::date::text FROM pci.keys WHERE is_due ORDER BY due_at",
            None,
            &[],
        )?;
        rows.map(|row| {
            let (id, vault): (Option<i64>, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok((id.unwrap_or_default(), vault.unwrap_or_default(), row.get::<String>(3)?.unwrap_or_default()))
        })
        .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
    })?;
    for (id, vault, until) in due {
        Error::state(format!(
            "key {id} of vault \"{vault}\" is to be replaced by {until}: its cryptoperiod ends"
        ))
        .hint(format!("SELECT pci.rotate_key('{}'), then CALL pci.reencrypt.", vault.replace('\'', "''")))
        .warn();
    }
    Ok(())
}

fn change_state(call: &mut Call, next: KeyState) -> Result<Value> {
    require_direct(call)?;
    on_duty()?;
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
pub fn ring_to_change() -> Result<Rc<Ring>> {
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

/// A key goes to another state.
pub fn write_state(key: &Key, next: KeyState, reason: &str) -> Result<()> {
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

/// 22023 unless a vault may show so many digits.
pub fn check_display(first: i32, last: i32) -> Result<()> {
    match (0..=8).contains(&first) && (0..=4).contains(&last) {
        true => Ok(()),
        false => Err(Error::argument("a vault shows at most the first eight and the last four digits")
            .hint("The brand of a card number may allow less; then less is shown.")),
    }
}

/// The name of who authenticated.
pub fn me() -> String {
    session::role_name(session::user())
}

/// Runs a statement that may write to our tables.
pub fn run(statement: &str, arguments: &[pgrx::datum::DatumWithOid<'_>]) -> Result<()> {
    Ok(tables::writing(|| Spi::run_with_args(statement, arguments))?)
}
