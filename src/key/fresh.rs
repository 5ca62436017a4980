//! A write-only node (`pgpci.key_mode = encrypt_only`) has keys made and never unwrapped: its identity at the provider
//! needs no right to decrypt. Its vaults get a fresh data key when the server starts and after each
//! `pgpci.fresh_key_interval`; it seals as long as it is in memory, and others unwrap its row.
//!
//! The row must outlive whatever becomes of the transaction that needs the key first, since others seal with it, too:
//! a worker of its own writes and commits it.

use std::time::{Duration, Instant};

use pgpci_core::key::{KeyId, Purpose};
use pgrx::PgSqlErrorCode as S;
use pgrx::prelude::*;

use super::broker;
use super::ring::{Key, Ring, Vault};
use crate::access::custodian;
use crate::error::{Error, Result};
use crate::guc::{self, KeyMode};
use crate::pg::{session, task};

/// Whether this node only encrypts.
pub fn is_encrypt_only() -> bool {
    guc::KEY_MODE.get() == KeyMode::EncryptOnly
}

/// 55000 on a node that only encrypts.
pub fn refuse_decrypt(what: &str) -> Result<()> {
    if !is_encrypt_only() {
        return Ok(());
    }
    Err(Error::state(format!("this node only encrypts: {what}"))
        .hint("pgpci.key_mode is encrypt_only here. Do it on a node that may decrypt, where rows and keys are replicated to."))
}

/// The data key that seals in a vault now, and until when; 55000 for a searchable vault.
pub fn data_key(vault: &Vault) -> Result<(KeyId, i64)> {
    if vault.searchable {
        return Err(Error::state(format!(
            "this node only encrypts, and stores nothing in vault \"{}\", which is searchable",
            vault.name
        ))
        .hint("Store into a vault made with searchable => false: SELECT pci.create_vault('…', searchable => false)."));
    }
    if let Some(known) = in_memory(Ring::get()?.as_ref(), vault.number) {
        return Ok(known);
    }
    let deadline = Instant::now() + Duration::from_millis(guc::KEY_WAIT_TIMEOUT.get() as u64);
    loop {
        // Another session may have had one made.
        if let Some(known) = in_memory(Ring::reread()?.as_ref(), vault.number) {
            return Ok(known);
        }
        match task::run("pgpci fresh key", "pgpci_fresh_key_main", vault.number) {
            Ok(()) => break,
            Err(error) if Instant::now() > deadline => return Err(error),
            // All workers are taken, perhaps by sessions that need the same key.
            Err(_) => session::wait(50),
        }
    }
    in_memory(Ring::reread()?.as_ref(), vault.number).ok_or_else(|| {
        Error::new(S::ERRCODE_CANNOT_CONNECT_NOW, "a fresh data key could not be made")
            .hint("See the server log and pci.key_status.")
    })
}

/// What the worker does: a new version, unless another worker was faster.
pub fn make(vault: i32) -> Result<()> {
    Spi::run(&format!("SET lock_timeout = {}", guc::KEY_WAIT_TIMEOUT.get()))?;
    let ring = custodian::ring_to_change()?;
    if in_memory(&ring, vault).is_some() {
        return Ok(());
    }
    custodian::next_data_key(&ring, ring.vault(vault)?, "a fresh key followed").map(|_| ())
}

/// The newest key, if it is in memory and will be for a while.
fn in_memory(ring: &Ring, vault: i32) -> Option<(KeyId, i64)> {
    let key: &Key = ring.current(vault, Purpose::Data).ok()?;
    let (_, expires) = broker::take(key)?;
    let until = expires - margin().as_micros() as i64;
    (until > session::now()).then_some((key.id, until))
}

/// What is sealed at the last moment must be sealed before the key is wiped.
fn margin() -> Duration {
    Duration::from_secs(guc::FRESH_KEY_INTERVAL.get() as u64).div_f64(10.0).min(Duration::from_secs(5))
}
