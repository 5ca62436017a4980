//! The doors that decrypt: each checks its capability and is recorded.

use pgpci_core::access::Capability;
use pgpci_core::key::{KeyId, Purpose};
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{self, Pan};
use pgrx::PgSqlErrorCode;

use crate::access;
use crate::access::policy::{self, Grant};
use crate::audit::{self, Class, Tally};
use crate::error::{Error, Result};
use crate::key::{self, fresh, ring::Ring};
use crate::pg::call::{Call, Value, varlena};
use crate::pg::counters::{self, Kind};
use crate::pg::{catalog, session};

/// What `reveal` found out at the first value of a scan, so that the next costs little.
#[derive(Clone, Copy)]
struct Checked {
    generation: u64,
    user: u32,
    key_id: u64,
    purpose: u64,
    until: i64,
    limit: i32,
    tally: Tally,
}

const UNCHECKED: Checked =
    Checked { generation: 0, user: 0, key_id: 0, purpose: 0, until: 0, limit: 0, tally: Tally::NONE };

const MOVES_BY_REVEAL: &str = "A stored card number moves to another vault by who may reveal it in the one where it is, for any purpose, \
                               and store it in the other.";

/// `pci.reveal(pan, purpose)`
pub fn reveal(call: &mut Call) -> Result<Value> {
    if call.is_null(0) {
        return Ok(call.null());
    }
    let checked = check_reveal(call)?;
    let clear = open(call.pan(0)?)?;
    if checked.limit > 0 {
        check_limit(checked.limit)?;
    }
    audit::count_reveal(checked.tally);
    Ok(varlena(clear.to_digits().as_str().as_bytes()))
}

/// `pci.hash_pan(pan)`: HMAC-SHA-256 of the whole number under the vault's hash key, 32 bytes.
pub fn hash_pan(call: &mut Call) -> Result<Value> {
    let pan = call.pan(0)?;
    let ring = Ring::knowing(pan.key_id())?;
    ring.require_active()?;
    let vault = vault(&ring, pan)?;
    access::require(Capability::Search, vault)?;
    ring.vault(vault)?.require_searchable()?;
    fresh::refuse_decrypt("it opens no card number")?;
    let hash = ring.current(vault, Purpose::Hash)?.id;
    let clear = key::with_data_before(pan.key_id(), hash, |key| seal::open(key, pan))??;
    audit::count_reveal(audit::begin_reveal("hash_pan", &ring.vault(vault)?.name, None));
    Ok(varlena(&key::with_hash(hash, |key| key.hash(&clear))?))
}

/// The digits of a stored value that moves to another vault: as `pci.reveal` without a purpose.
pub fn open_to_move(ring: &Ring, pan: Pan<'_>, from: i32, to: i32) -> Result<ClearPan> {
    ring.require_active()?;
    let key = ring.key(pan.key_id())?;
    if !key::is_ready(key) {
        policy::expect_reveal(ring, key)?;
        key::fetch_to_store(ring, to);
    }
    let grant = access::require_reveal(from, None).map_err(|e| e.hint(MOVES_BY_REVEAL))?;
    let clear = open(pan)?;
    if let Some(limit) = grant.max_per_hour {
        check_limit(limit)?;
    }
    let door = format!("move to vault \"{}\"", ring.vault(to)?.name);
    audit::count_reveal(audit::begin_reveal(&door, &ring.vault(from)?.name, None));
    Ok(clear)
}

fn check_reveal(call: &mut Call) -> Result<Checked> {
    let generation = catalog::generation();
    let user = session::current_user().to_u32();
    let key_id = call.pan(0)?.key_id().0;
    let purpose = if call.is_null(1) { 0 } else { super::fingerprint(call.bytes(1)) };
    let known = call.cache(UNCHECKED).map_or(UNCHECKED, |c| *c);
    if (known.generation, known.user, known.key_id, known.purpose) == (generation, user, key_id, purpose)
        && known.tally.is_open()
        && (known.until == i64::MAX || session::now() < known.until)
    {
        return Ok(known);
    }
    let ring = Ring::knowing(KeyId(key_id))?;
    ring.require_active()?;
    let vault = vault(&ring, call.pan(0)?)?;
    policy::expect_reveal(&ring, ring.key(KeyId(key_id))?)?;
    let text = call.opt_text(1);
    let Grant { valid_until, max_per_hour, .. } = access::require_reveal(vault, text.as_deref())?;
    let (until, limit) = (valid_until.unwrap_or(i64::MAX), max_per_hour.unwrap_or(0));
    let tally = audit::begin_reveal("reveal", &ring.vault(vault)?.name, text.as_deref());
    let checked = Checked { generation, user, key_id, purpose, until, limit, tally };
    if let Some(place) = call.cache(UNCHECKED) {
        *place = checked;
    }
    Ok(checked)
}

fn check_limit(limit: i32) -> Result<()> {
    if counters::add(session::user(), Kind::Reveals, 1) <= limit as u64 {
        return Ok(());
    }
    audit::record(Class::Denied, "reveal: hourly limit reached");
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "the hourly limit of revealed card numbers is reached",
    )
    .hint("The limit is max_per_hour of the grant, see pci.access."))
}

fn vault(ring: &Ring, pan: Pan<'_>) -> Result<i32> {
    if pan.is_comparand() {
        return Err(pgpci_core::error::Error::Comparand.into());
    }
    Ok(ring.key(pan.key_id())?.vault)
}

fn open(pan: Pan<'_>) -> Result<ClearPan> {
    fresh::refuse_decrypt("it opens no card number")?;
    Ok(key::with_data(pan.key_id(), |key| seal::open(key, pan))??)
}
