//! Data keys: what `pci.key` says, and the ready cipher or MAC behind each row.

pub mod broker;
mod explain;
pub mod nonce;
pub mod ring;

use pgpci_core::key::{DataKey, EqualityKey, HashKey, KeyId, PolicyKey, Purpose, check_value};
use pgrx::PgSqlErrorCode;

use crate::error::{Error, Result};
use crate::guc;
use crate::pg::call::{Call, Value, varlena};
use crate::pg::region::{self, Protection};
use crate::pg::session;
use crate::pg::slice::{self, Ready};
use ring::{Key, Ring};

/// Runs `f` on the data key of this identifier.
pub fn with_data<T>(id: KeyId, mut f: impl FnMut(&mut DataKey) -> T) -> Result<T> {
    with(id, move |ready| match ready {
        Ready::Data(key) => Some(f(key)),
        _ => None,
    })
}

/// The same in order to seal anew: a compromised key opens for that, and for nothing else.
pub fn with_any_data<T>(id: KeyId, mut f: impl FnMut(&mut DataKey) -> T) -> Result<T> {
    let ring = Ring::get()?;
    let key = ring.key(id)?;
    if key.state.may_decrypt() || !key.state.may_reencrypt() {
        return with_data(id, f);
    }
    // Not among the keys that this session keeps ready: they serve whoever reveals.
    check_protection()?;
    broker::unwrap(&ring, key)?;
    let (raw, _) =
        broker::take(key).ok_or_else(|| Error::key("the key was wiped before it could be used"))?;
    region::forget_key(id.0);
    if check_value(raw.expose(), key.purpose) != key.check {
        return Err(Error::key(format!("key {} is not the key that the database was made with", id.0)));
    }
    Ok(f(&mut DataKey::new(id, raw.expose())))
}

/// Runs `f` on the equality key of this identifier.
pub fn with_equality<T>(id: KeyId, mut f: impl FnMut(&mut EqualityKey) -> T) -> Result<T> {
    with(id, move |ready| match ready {
        Ready::Equality(key) => Some(f(key)),
        _ => None,
    })
}

/// Runs `f` on the hash key of a vault.
pub fn with_hash<T>(ring: &Ring, vault: i32, mut f: impl FnMut(&mut HashKey) -> T) -> Result<T> {
    with(ring.current(vault, Purpose::Hash)?.id, move |ready| match ready {
        Ready::Hash(key) => Some(f(key)),
        _ => None,
    })
}

/// Runs `f` on the key that authenticates policy rows.
pub fn with_policy<T>(ring: &Ring, mut f: impl FnMut(&mut PolicyKey) -> T) -> Result<T> {
    with(ring.current(ring::NO_VAULT, Purpose::Policy)?.id, move |ready| match ready {
        Ready::Policy(key) => Some(f(key)),
        _ => None,
    })
}

/// Has the keys fetched, in the background, that storing or revealing in a vault will ask for: so that a
/// session that needs several waits for one round trip to their provider.
pub fn fetch_ahead(ring: &Ring, vault: i32, capability: pgpci_core::access::Capability) {
    use pgpci_core::access::Capability;
    let purposes: &[Purpose] = match capability {
        Capability::Store => &[Purpose::Data, Purpose::Equality],
        Capability::Reveal => &[Purpose::Data],
        Capability::Search | Capability::Export => &[],
    };
    for purpose in purposes {
        // What is wrong with a key is told when it is needed.
        let _ = ring.current(vault, *purpose).and_then(|key| broker::unwrap_ahead(ring, key));
    }
}

/// Whether the policy key is at hand without asking anybody.
pub fn policy_is_cached(ring: &Ring) -> bool {
    let Ok(key) = ring.current(ring::NO_VAULT, Purpose::Policy) else {
        return false;
    };
    slice::with(key.id.0, |_| ()).is_some() || matches!(load(key), Ok(true))
}

/// `pci.key_status_text()`: for the view, a line a provider, its fields apart by tabs. Without any, one line
/// that says how memory and helper are.
pub fn status(_: &mut Call) -> Result<Value> {
    let now = session::now();
    let text = region::locked(|r| {
        let cached = r.slots.iter().filter(|s| s.full).count();
        let helper = r.helper.load(std::sync::atomic::Ordering::Relaxed) == 1;
        let helper = if helper { "running" } else { "stopped" };
        let ttl = r.slots.iter().filter(|s| s.full).map(|s| (s.expires - now) / 1_000_000).min();
        let ttl = ttl.map_or_else(String::new, |seconds| seconds.to_string());
        let common = format!("{:?}\t{helper}\t{cached}", region::protection());
        let lines: Vec<String> = r
            .providers
            .iter()
            .filter(|p| !p.name.get().is_empty())
            .map(|p| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(['\t', '\n'], " ");
                let (success, failure) =
                    (session::iso_time(p.last_success), session::iso_time(p.last_failure));
                let latency = p.latency as f64 / 1000.0;
                format!(
                    "{}\t{common}\t{}\t{}\t{success}\t{failure}\t{}\t{latency}\t{ttl}",
                    text(p.name.get()),
                    p.calls,
                    p.failures,
                    text(p.last_error.get())
                )
            })
            .collect();
        if lines.is_empty() { format!("\t{common}\t0\t0\t\t\t\t\t{ttl}") } else { lines.join("\n") }
    });
    Ok(varlena(text.unwrap_or_else(|| "\tNone\tstopped\t0\t0\t0\t\t\t\t\t".into()).as_bytes()))
}

fn with<T>(id: KeyId, mut f: impl FnMut(&mut Ready) -> Option<T>) -> Result<T> {
    match slice::with(id.0, &mut f) {
        Some(Some(found)) => Ok(found),
        Some(None) => Err(wrong_kind()),
        None => with_loaded(id, f),
    }
}

/// The same for a key that this session has not used yet, or not for long.
#[cold]
fn with_loaded<T>(id: KeyId, mut f: impl FnMut(&mut Ready) -> Option<T>) -> Result<T> {
    check_protection()?;
    let ring = Ring::get()?;
    let key = ring.key(id)?;
    if !key.state.may_decrypt() {
        return Err(Error::state(format!("the key of this card number is {}", key.state.as_str()))
            .hint(format!("See key {} in pci.keys.", id.0)));
    }
    if !load(key)? {
        broker::unwrap(&ring, key)?;
        if !load(key)? {
            return Err(
                Error::key("the key was wiped before it could be used").hint("Raise pgpci.key_cache_ttl.")
            );
        }
    }
    slice::with(id.0, &mut f)
        .ok_or_else(|| Error::key("no secret memory is left for this session"))?
        .ok_or_else(wrong_kind)
}

fn wrong_kind() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "the key is not of the kind that the value names")
}

fn check_protection() -> Result<()> {
    match region::protection() {
        Protection::Secret | Protection::Locked => Ok(()),
        Protection::Unlocked if guc::ALLOW_UNLOCKED_KEYS.get() => Ok(()),
        Protection::Unlocked => Err(Error::state(
            "the operating system does not lock the memory that would hold keys",
        )
        .hint(
            "Raise the memory lock limit (RLIMIT_MEMLOCK) of the server, or set pgpci.allow_unlocked_keys.",
        )),
        Protection::None => Err(Error::state("there is no memory for keys")
            .hint("Add pgpci to shared_preload_libraries and restart the server.")),
    }
}

/// Makes the key ready from its slot; false if no slot holds it.
fn load(key: &Key) -> Result<bool> {
    let Some((raw, expires)) = broker::take(key) else {
        return Ok(false);
    };
    if check_value(raw.expose(), key.purpose) != key.check {
        return Err(Error::key(format!(
            "key {} is not the key that the database was made with",
            key.id.0 as i64
        )));
    }
    let ready = match key.purpose {
        Purpose::Data => Ready::Data(DataKey::new(key.id, raw.expose())),
        Purpose::Equality => Ready::Equality(EqualityKey::new(raw.expose())),
        Purpose::Hash => Ready::Hash(HashKey::new(raw.expose())),
        Purpose::Policy => Ready::Policy(PolicyKey::new(raw.expose())),
    };
    Ok(slice::keep(key.id.0, expires, ready))
}
