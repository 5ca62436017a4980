//! The key of the cluster, which seals what is kept of accounts: roles belong to no database. It lies wrapped in a label
//! of the custodians' role, a shared catalog, so that standbys and dumps of all databases have it.

use pgpci_core::account::ClusterKey;
use pgpci_core::key::{Context, KeyId, KeyState, Purpose, check_value};
use pgpci_core::secret::Secret;

use super::ring::{Key, NO_VAULT};
use super::{broker, nonce};
use crate::error::{Error, Result};
use crate::pg::{label, session};

const KEEPER: &str = "pci_custodian";

/// Whether there is one.
pub fn exists() -> bool {
    find().is_some()
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
    let cluster = find().ok_or_else(|| {
        Error::state("the cluster has no key for accounts").hint("SELECT pci.init(…) makes one.")
    })?;
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
    let raw: Secret<[u8; 32]> = match broker::take(&key) {
        Some((raw, _)) => raw,
        None => {
            broker::unwrap_in(&context, &key)?;
            broker::take(&key).map(|(raw, _)| raw).ok_or_else(|| {
                Error::key("the key was wiped before it could be used").hint("Raise pgpci.key_cache_ttl.")
            })?
        }
    };
    if check_value(raw.expose(), Purpose::Account) != key.check {
        return Err(Error::key("the key of the accounts is not the one that the cluster was made with"));
    }
    f(raw.expose())
}

fn find() -> Option<ClusterKey> {
    ClusterKey::parse(&label::account(session::role(KEEPER)?)?)
}

fn context(installation: [u8; 16], id: u64) -> Context {
    Context { installation, vault: NO_VAULT, key_id: KeyId(id), purpose: Purpose::Account }
}
