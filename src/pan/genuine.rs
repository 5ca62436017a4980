//! Sealed forms that are given: whether they are what pgpci made.
//!
//! Whoever could give any bytes as a card number would read stored ones: PostgreSQL compares rows by their bytes
//! (`record *< record`), and between bytes of one's own choice the equality hash is found in some hundred steps. So a
//! sealed form must open, unless who gives it may have the sealed form of that vault's values anyway.

use pgpci_core::access::Capability;
use pgpci_core::seal::{self, Pan};
use pgrx::PgSqlErrorCode;

use crate::access;
use crate::error::{Error, Result};
use crate::key::{self, fresh, ring::Ring};
use crate::pg::session;

/// 22P02 for a sealed form that was made up.
pub fn check(pan: Pan<'_>) -> Result<()> {
    let ring = Ring::knowing(pan.key_id())?;
    // A restore comes before its policy is in force, and replication before its keys: nobody chooses what they bring.
    if ring.is_unaccepted() || !session::has_client() || may_export(&ring, pan)? {
        return Ok(());
    }
    ring.key(pan.key_id())?;
    fresh::refuse_decrypt("it checks no sealed card number")?;
    match key::with_any_data(pan.key_id(), |key| seal::open(key, pan))? {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            "sealed card number is not as pgpci wrote it",
        )
        .hint("Copy it whole; it was changed, or its key is another.")),
    }
}

/// By the vault that it names: bytes that name another one stand apart from those of the vault.
fn may_export(ring: &Ring, pan: Pan<'_>) -> Result<bool> {
    if let Ok(key) = ring.key(pan.key_id()) {
        return access::may(Capability::Export, key.vault);
    }
    for vault in ring.vaults() {
        if !access::may(Capability::Export, vault.number)? {
            return Ok(false);
        }
    }
    Ok(true)
}
