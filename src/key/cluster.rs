//! The key of the cluster, which seals and authenticates what is kept of accounts: roles belong to no database. It lies wrapped in a label
//! of the custodians' role, a shared catalog, so that standbys and dumps of all databases have it.

use pgpci_core::account::{ClusterKey, Label};
use pgpci_core::key::{Context, KeyId, KeyState, Purpose, check_value};
use pgpci_core::secret::Secret;

use super::ring::{Key, NO_VAULT};
use super::{broker, nonce};
use crate::error::{Error, Result};
use crate::pg::{label, session};

const KEEPER: &str = "pci_custodian";
/// What its label begins with.
pub const PREFIX: &str = ClusterKey::PREFIX;

/// Whether there is one.
pub fn exists() -> bool {
    read().is_some()
}

/// Makes one, unless there is one.
pub fn make(installation: [u8; 16], provider: &str, kek: &str) -> Result<()> {
    let Some(keeper) = session::role(KEEPER) else { return Ok(()) };
    if exists() {
        return Ok(());
    }
    let id = nonce::key_id()?;
    let (wrapped, check) = broker::generate(&context(installation, id), provider, kek)?;
    let key = ClusterKey { installation, id, provider: provider.into(), kek: kek.into(), wrapped, check };
    label::set_account(keeper, &key.to_label());
    Ok(())
}

/// Runs `f` on the key; waits for it to be unwrapped where it is not at hand.
pub fn with<T>(f: impl FnOnce(&[u8; 32]) -> Result<T>) -> Result<T> {
    let (context, key) = find().ok_or_else(|| {
        Error::state("the cluster has no key for accounts").hint("SELECT pci.init(…) makes one.")
    })?;
    let raw: Secret<[u8; 32]> = match broker::take(&key) {
        Some((raw, _)) => raw,
        None => {
            broker::unwrap_in(&context, &key)?;
            broker::take(&key).map(|(raw, _)| raw).ok_or_else(|| {
                Error::key("the key was wiped before it could be used").hint("Raise pgpci.key_cache_ttl.")
            })?
        }
    };
    if !is_right(&raw, &key) {
        return Err(Error::key("the key of the accounts is not the one that the cluster was made with"));
    }
    f(raw.expose())
}

/// The key, if it is unwrapped already. Waits for nothing.
pub fn at_hand() -> Option<Secret<[u8; 32]>> {
    let (_, key) = find()?;
    broker::take(&key).map(|(raw, _)| raw).filter(|raw| is_right(raw, &key))
}

/// Has it unwrapped, for later; the caller does not ask too often.
pub fn ask() {
    if let Some((context, key)) = find() {
        broker::unwrap_later(&context, &key);
    }
}

/// Nothing is kept any more of any role: what is there was brought by a restore, or planted.
pub fn begin_anew() -> usize {
    let all = label::accounts();
    all.iter().for_each(|(role, _)| label::forget_account(*role));
    all.len()
}

/// Drops what a restore has brought of roles and was not written with this key; returns their names.
pub fn accept() -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for (role, text) in label::accounts().into_iter().filter(|(_, text)| !text.starts_with(PREFIX)) {
        let name = session::role_name(role);
        let is_ours = with(|key| Ok(Label::parse(&text).is_some_and(|it| it.is_genuine(key, &name))))?;
        if !is_ours {
            label::forget_account(role);
            refused.push(name);
        }
    }
    Ok(refused)
}

fn is_right(raw: &Secret<[u8; 32]>, key: &Key) -> bool {
    check_value(raw.expose(), Purpose::Account) == key.check
}

fn read() -> Option<ClusterKey> {
    ClusterKey::parse(&label::account(session::role(KEEPER)?)?)
}

fn find() -> Option<(Context, Key)> {
    let cluster = read()?;
    let context = context(cluster.installation, cluster.id);
    let key = Key {
        id: KeyId(cluster.id),
        vault: NO_VAULT,
        purpose: Purpose::Account,
        version: 1,
        state: KeyState::Active,
        provider: cluster.provider,
        kek: cluster.kek,
        wrapped: cluster.wrapped,
        check: cluster.check,
        created_at: 0,
        next: None,
    };
    Some((context, key))
}

fn context(installation: [u8; 16], id: u64) -> Context {
    Context { installation, vault: NO_VAULT, key_id: KeyId(id), purpose: Purpose::Account }
}
