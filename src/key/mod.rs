//! Data keys: what `pci.key` says, and the ready cipher or MAC behind each row.

mod allowed;
pub mod asked;
pub mod broker;
pub mod cluster;
pub mod due;
mod explain;
pub mod fresh;
pub mod installed;
pub mod nonce;
pub mod ring;

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use pgpci_core::key::{DataKey, EqualityKey, HashKey, KeyId, KeyState, PolicyKey, Purpose, check_value};
use pgrx::PgSqlErrorCode;

use crate::error::{Error, Result};
use crate::guc;
use crate::pg::call::{Call, Value, varlena};
use crate::pg::local::Local;
use crate::pg::region::{self, Protection};
use crate::pg::slice::{self, Ready};
use crate::pg::{catalog, session};
use ring::{Key, Ring};

/// Marks the place of a key that opens only in order to seal anew: identifiers of keys leave the top bit free.
const ONLY_REENCRYPTS: u64 = 1 << 63;

// The state of the policy at which this session last looked over the keys that it keeps ready.
static LOOKED_OVER: Local<Cell<u64>> = Local::new(Cell::new(0));
// Keys whose end comes with the commit of the running transaction.
static DOOMED: Local<RefCell<Vec<KeyId>>> = Local::new(RefCell::new(Vec::new()));

/// Runs `f` on the data key of this identifier.
pub fn with_data<T>(id: KeyId, mut f: impl FnMut(&mut DataKey) -> T) -> Result<T> {
    with(id, move |ready| match ready {
        Ready::Data(key) => Some(f(key)),
        _ => None,
    })
}

/// The same where a key of another purpose is needed right after it: who has neither waits for one round trip.
pub fn with_data_before<T>(id: KeyId, next: KeyId, mut f: impl FnMut(&mut DataKey) -> T) -> Result<T> {
    with_place(id.0, Some(next), move |ready| match ready {
        Ready::Data(key) => Some(f(key)),
        _ => None,
    })
}

/// The same in order to seal anew: a compromised key opens for that, and for nothing else.
pub fn with_any_data<T>(id: KeyId, mut f: impl FnMut(&mut DataKey) -> T) -> Result<T> {
    let state = Ring::get()?.key(id)?.state;
    // In a place of its own: the others serve whoever reveals.
    let place = if state.may_decrypt() { id.0 } else { id.0 | ONLY_REENCRYPTS };
    with_place(place, None, move |ready| match ready {
        Ready::Data(key) => Some(f(key)),
        _ => None,
    })
}

/// Runs `f` on the equality key of this identifier.
pub fn with_equality<T>(id: KeyId, mut f: impl FnMut(&mut EqualityKey) -> T) -> Result<T> {
    with(id, move |ready| match ready {
        Ready::Equality(key) => Some(f(key)),
        _ => None,
    })
}

/// The same where a data key is needed right after it, as `with_data_before`.
pub fn with_equality_before<T>(
    id: KeyId,
    next: KeyId,
    mut f: impl FnMut(&mut EqualityKey) -> T,
) -> Result<T> {
    with_place(id.0, Some(next), move |ready| match ready {
        Ready::Equality(key) => Some(f(key)),
        _ => None,
    })
}

/// Runs `f` on the hash key of this identifier.
pub fn with_hash<T>(id: KeyId, mut f: impl FnMut(&mut HashKey) -> T) -> Result<T> {
    with(id, move |ready| match ready {
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

/// Has the keys fetched, in the background, that storing in a vault will ask for: so that a session that needs several
/// waits for one round trip to their provider.
pub fn fetch_to_store(ring: &Ring, vault: i32) {
    for purpose in [Purpose::Data, Purpose::Equality] {
        if let Ok(key) = ring.current(vault, purpose) {
            fetch_ahead(ring, key);
        }
    }
}

/// Has a key fetched, in the background, that will be needed in a moment, unless it is here. What is wrong with it is
/// told then.
pub fn fetch_ahead(ring: &Ring, key: &Key) {
    if key.state.may_decrypt() && !is_ready(key) {
        let _ = broker::unwrap_ahead(ring, key);
    }
}

/// Whether this session uses the key already.
pub fn is_ready(key: &Key) -> bool {
    slice::with(key.id.0, |_| ()).is_some()
}

/// Whether the policy key is at hand without asking anybody.
pub fn policy_is_cached(ring: &Ring) -> bool {
    let Ok(key) = ring.current(ring::NO_VAULT, Purpose::Policy) else {
        return false;
    };
    is_ready(key) || matches!(load(key, key.id.0), Ok(true))
}

/// Once the running transaction commits, the key is wiped from every session's memory.
pub fn forget_at_commit(id: KeyId) {
    DOOMED.with_borrow_mut(|doomed| doomed.push(id));
}

/// The transaction ends.
pub fn transaction_ends(aborts: bool) {
    if DOOMED.with_borrow(Vec::is_empty) {
        return;
    }
    for id in DOOMED.take() {
        if !aborts {
            forget(id);
        }
    }
}

/// `pci.key_status_text()`: for the view, a line a provider, its fields apart by tabs. Without any, one line
/// that says how memory and helper are.
pub fn status(_: &mut Call) -> Result<Value> {
    let now = session::now();
    let text = region::locked(|r| {
        let cached = r.slots.iter().filter(|s| s.full).count();
        let helper = region::get().is_some_and(|r| r.helper.load(Ordering::Relaxed) == 1);
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

fn with<T>(id: KeyId, f: impl FnMut(&mut Ready) -> Option<T>) -> Result<T> {
    with_place(id.0, None, f)
}

/// `next`: the key that is needed after this one.
fn with_place<T>(place: u64, next: Option<KeyId>, mut f: impl FnMut(&mut Ready) -> Option<T>) -> Result<T> {
    if LOOKED_OVER.get() != catalog::generation() {
        look_over()?;
    }
    match slice::with(place, &mut f) {
        Some(Some(found)) => Ok(found),
        Some(None) => Err(wrong_kind()),
        None => with_loaded(place, next, f),
    }
}

/// After a change: what it forbids is wiped here before its next use. A standby learns of it in no other way.
#[cold]
fn look_over() -> Result<()> {
    let generation = catalog::generation();
    let ring = Ring::get()?;
    if slice::retain(|place| ring.key(key_at(place)).is_ok_and(|key| check_state(key, place).is_ok())) {
        LOOKED_OVER.set(generation);
    }
    Ok(())
}

fn key_at(place: u64) -> KeyId {
    KeyId(place & !ONLY_REENCRYPTS)
}

/// 55000 unless the key's state allows what its place is for.
fn check_state(key: &Key, place: u64) -> Result<()> {
    let may: fn(KeyState) -> bool = match place & ONLY_REENCRYPTS {
        0 => KeyState::may_decrypt,
        _ => KeyState::may_reencrypt,
    };
    if may(key.state) {
        return Ok(());
    }
    let what = match key.purpose {
        Purpose::Data => "the key of this card number",
        Purpose::Equality => "the vault's key for comparisons",
        Purpose::Hash => "the vault's key for hashes",
        Purpose::Policy => "the key of the policy",
        Purpose::Trail => "the key of the audit trail",
        Purpose::Account => "the key of the accounts",
    };
    Err(Error::state(format!("{what} is {}", key.state.as_str()))
        .hint(format!("See key {} in pci.keys.", key.id.0)))
}

fn forget(id: KeyId) {
    region::forget_key(id.0);
    slice::forget_key(id.0);
    slice::forget_key(id.0 | ONLY_REENCRYPTS);
}

/// The same for a key that this session has not used yet, or not for long.
#[cold]
fn with_loaded<T>(place: u64, next: Option<KeyId>, mut f: impl FnMut(&mut Ready) -> Option<T>) -> Result<T> {
    check_protection()?;
    let id = key_at(place);
    // As of now, not as of when this statement began: the key may have been destroyed meanwhile.
    let ring = Ring::reread()?;
    let key = ring.key(id)?;
    check_state(key, place)?;
    if !load(key, place)? {
        if let Some(next) = next.and_then(|id| ring.key(id).ok()) {
            fetch_ahead(&ring, next);
        }
        broker::unwrap(&ring, key)?;
        if !load(key, place)? {
            return Err(
                Error::key("the key was wiped before it could be used").hint("Raise pgpci.key_cache_ttl.")
            );
        }
    }
    // And whoever destroyed it since then may have wiped every memory before the key came into this one.
    if let Err(error) = check_state(Ring::reread()?.key(id)?, place) {
        forget(id);
        return Err(error);
    }
    slice::with(place, &mut f)
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

/// Makes the key ready from its slot; false if no slot holds it. What moved over the stack meanwhile is overwritten.
fn load(key: &Key, place: u64) -> Result<bool> {
    let loaded = make_ready(key, place);
    overwrite_stack();
    loaded
}

/// Writes over what calls that have returned left below this frame: values that moved leave copies that nobody wipes.
#[inline(never)]
fn overwrite_stack() {
    std::hint::black_box([0_u8; 32 * 1024]);
}

#[inline(never)]
fn make_ready(key: &Key, place: u64) -> Result<bool> {
    allowed::check(&key.provider, &key.kek)?;
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
        // No database has that.
        Purpose::Trail => return Ok(false),
        // The cluster's, which no database's table has.
        Purpose::Account => return Err(wrong_kind()),
    };
    Ok(slice::keep(place, expires, ready))
}
