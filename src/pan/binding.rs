//! Values and vaults: digits that meet no column yet, and values that go to the vault of their column.
//!
//! Literals and parameters reach the input function before PostgreSQL says which column they are for; its cast to
//! the column's vault, or the operator that compares them, comes after. What input makes then is a value of vault
//! `default`, if the user may store there, else an unbound one: a comparand that carries its sealed digits, which
//! is never stored itself. Either is *of no vault* as long as the transaction lasts in which this session made it,
//! and may be bound to a vault without being revealed. That needs no right on `default`, keeps what goes to a plain
//! column as it is, and leaves every value that was there before to the door of `reveal`.

use pgpci_core::access::Capability;
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{self, Pan, PanBuf};
use pgrx::PgSqlErrorCode;

use super::{Sealing, comparand, doors, output, store, store_again};
use crate::access;
use crate::access::search;
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::key::{self, nonce};
use crate::pg::session;

/// The value of digits for which no column is known.
pub fn without_vault(clear: &ClearPan) -> Result<PanBuf> {
    let mut refusal = None;
    if access::may(Capability::Store, DEFAULT_VAULT)? {
        // Where the vault takes nothing (it was shredded, or this node only encrypts), a column of another one may.
        match super::require_default() {
            Ok(()) => return store(clear, DEFAULT_VAULT),
            Err(error) if !search::is_plural()? => return Err(error),
            Err(error) => refusal = Some(error),
        }
    }
    // What keeps values (COPY FROM, DDL, the row of a trigger) would keep this one.
    let is_kept = output::is_storing() || session::trigger_depth() > 0;
    if !is_kept && let Some(value) = unbound(clear)? {
        return Ok(value);
    }
    Err(refusal.unwrap_or_else(|| access::refuse(Capability::Store, DEFAULT_VAULT)))
}

/// A value that is never stored; None for a user who may neither compare nor store anywhere.
fn unbound(clear: &ClearPan) -> Result<Option<PanBuf>> {
    let may_search = access::may(Capability::Search, DEFAULT_VAULT)?;
    if !search::is_plural()? {
        return if may_search { comparand(clear, DEFAULT_VAULT).map(Some) } else { Ok(None) };
    }
    let ring = Ring::get()?;
    let mut failure = None;
    for vault in ring.vaults().iter().map(|vault| vault.number) {
        let is_theirs = access::may(Capability::Store, vault)? || access::may(Capability::Search, vault)?;
        if !is_theirs {
            continue;
        }
        // Another vault's key serves as well: where this one has none, the next is tried.
        let carrier = match Sealing::of(vault) {
            Ok(sealing) => sealing.data,
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        let hash = match may_search {
            true => Sealing::equality_of(DEFAULT_VAULT).ok(),
            false => None,
        };
        let hash_by = |id| key::with_equality_before(id, carrier, |key| key.hash(clear));
        let hash = hash.map(hash_by).transpose()?;
        let nonce = nonce::next()?;
        return key::with_data(carrier, |key| seal::unbound(key, hash, clear, &nonce)).map(Some);
    }
    failure.map_or(Ok(None), Err)
}

/// The value in a vault; None where it is there already. A stored value moves by the door of `reveal`.
pub fn to_vault(pan: Pan<'_>, vault: i32) -> Result<Option<PanBuf>> {
    if pan.is_comparand() {
        access::require(Capability::Store, vault)?;
        return match digits_of_no_vault(pan)? {
            Some(clear) => store(&clear, vault).map(Some),
            None => Err(access::refuse(Capability::Store, vault)),
        };
    }
    let ring = Ring::knowing(pan.key_id())?;
    // Values of keys that are unknown here stay as they are: a restore may bring them before keys and vaults.
    let Ok(key) = ring.key(pan.key_id()) else { return Ok(None) };
    if key.vault == vault {
        return Ok(None);
    }
    access::require(Capability::Store, vault)?;
    if is_mine(pan) {
        let clear = key::with_data(pan.key_id(), |key| seal::open(key, pan))??;
        return store(&clear, vault).map(Some);
    }
    let clear = doors::open_to_move(&ring, pan, key.vault, vault)?;
    store_again(&clear, vault).map(Some)
}

/// The value that stands for a comparand of no vault where it is compared in one; None where it stays as it is.
pub fn to_compare(pan: Pan<'_>, vault: i32) -> Result<Option<PanBuf>> {
    match digits_of_no_vault(pan)? {
        Some(clear) => comparand(&clear, vault).map(Some),
        None => Ok(None),
    }
}

/// The same for a literal that was made long ago and kept: 0A000 for one of no vault, which would equal nothing.
pub fn kept_to_compare(pan: Pan<'_>, vault: i32) -> Result<Option<PanBuf>> {
    if is_mine(pan) {
        return to_compare(pan, vault);
    }
    let ring = Ring::get()?;
    let has_vault = ring.key(pan.key_id()).is_ok_and(|key| key.vault != DEFAULT_VAULT);
    if !pan.is_unbound() && (pan.is_comparand() || has_vault) {
        return Ok(None);
    }
    let name = &ring.vault(vault)?.name;
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!(
            "a card number in a definition is compared with a column of vault \"{name}\", and is of none"
        ),
    )
    .hint("Keep card numbers out of definitions: pass them as parameters, or compare with those of a table."))
}

/// The same for a literal, in the form in which a definition may keep it.
pub fn literal_to_compare(pan: Pan<'_>, vault: i32) -> Result<Option<PanBuf>> {
    let Some(clear) = digits_of_no_vault(pan)? else { return Ok(None) };
    Ring::get()?.vault(vault)?.require_searchable()?;
    if access::may(Capability::Store, vault)? {
        return store(&clear, vault).map(Some);
    }
    if output::is_storing() { Ok(None) } else { comparand(&clear, vault).map(Some) }
}

/// The same for one that is cast to a vault.
pub fn literal_to_vault(pan: Pan<'_>, vault: i32) -> Result<Option<PanBuf>> {
    if is_mine(pan) { to_vault(pan, vault) } else { Ok(None) }
}

/// The digits of a value that this transaction made without a vault.
fn digits_of_no_vault(pan: Pan<'_>) -> Result<Option<ClearPan>> {
    if !is_mine(pan) {
        return Ok(None);
    }
    if pan.is_unbound() {
        return Ok(Some(key::with_data(pan.key_id(), |key| seal::open_unbound(key, pan))??));
    }
    let ring = Ring::get()?;
    match ring.key(pan.key_id()) {
        Ok(key) if key.vault == DEFAULT_VAULT => {
            Ok(Some(key::with_data(key.id, |key| seal::open(key, pan))??))
        }
        _ => Ok(None),
    }
}

fn is_mine(pan: Pan<'_>) -> bool {
    pan.nonce().is_some_and(nonce::is_mine)
}
