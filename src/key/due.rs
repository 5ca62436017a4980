//! Keys that are used beyond their cryptoperiod: the server log says so, once a session.

use std::cell::RefCell;

use pgpci_core::key::KeyId;

use super::ring::{Key, Vault};
use crate::pg::session;

/// A key is about to seal.
pub fn note(key: &Key, vault: &Vault) {
    thread_local! { static NOTED: RefCell<Vec<KeyId>> = const { RefCell::new(Vec::new()) } }
    let is_over = session::now() > key.created_at.saturating_add(vault.cryptoperiod);
    if is_over && !NOTED.with_borrow(|noted| noted.contains(&key.id)) {
        NOTED.with_borrow_mut(|noted| noted.push(key.id));
        pgrx::log!(
            "pgpci: key {} of vault \"{}\" is used beyond its cryptoperiod; a custodian runs pci.rotate_key",
            key.id.0,
            vault.name
        );
    }
}
