//! The type `pci.pan`.

pub mod compare;
pub mod compare_text;
pub mod doors;
pub mod functions;
pub mod io;
pub mod output;

use pgpci_core::access::Capability;
use pgpci_core::brand::truncate;
use pgpci_core::key::Purpose;
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{self, PanBuf};

use crate::error::Result;
use crate::key::ring::{DEFAULT_VAULT, NO_VAULT, Ring};
use crate::{access, key};

/// The vault of a column's type modifier; the default vault without one.
fn vault_of(typmod: i32) -> i32 {
    if typmod > NO_VAULT {
        typmod
    } else {
        DEFAULT_VAULT
    }
}

/// A stored value from the digits or the sealed form. Whoever may search but not store gets a value that
/// can be compared and nothing else, where no column is known that would keep it.
fn make(text: &[u8], typmod: i32) -> Result<PanBuf> {
    if seal::is_sealed_text(text) {
        return Ok(PanBuf::parse_sealed(text)?);
    }
    let clear = ClearPan::parse(text)?;
    let vault = vault_of(typmod);
    if !access::may(Capability::Store, vault)? {
        let can_compare =
            typmod <= NO_VAULT && !output::is_storing() && access::may(Capability::Search, vault)?;
        if !can_compare {
            return Err(access::refuse(Capability::Store, vault));
        }
        let ring = Ring::get()?;
        return key::with_equality(&ring, vault, |key| seal::comparand(key, &clear));
    }
    store(&clear, vault)
}

/// Seals digits into a vault; the caller has checked that they may.
fn store(clear: &ClearPan, vault: i32) -> Result<PanBuf> {
    let ring = Ring::get()?;
    let settings = ring.vault(vault)?;
    let shown = truncate(clear, settings.display.0, settings.display.1);
    let equality = match settings.searchable {
        true => Some(key::with_equality(&ring, vault, |key| key.hash(clear))?),
        false => None,
    };
    let nonce = key::nonce::next()?;
    let id = ring.current(vault, Purpose::Data)?.id;
    Ok(key::with_data(&ring, id, |key| {
        seal::seal_hashed(key, equality, clear, shown, &nonce)
    })??)
}

/// The equality hash of digits, for a comparison with values of the vault.
fn equality_of(clear: &ClearPan, vault: i32) -> Result<[u8; 16]> {
    let ring = Ring::get()?;
    key::with_equality(&ring, vault, |key| key.hash(clear))
}
