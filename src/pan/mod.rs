//! The type `pci.pan`.

pub mod compare;
pub mod compare_text;
pub mod doors;
pub mod functions;
pub mod io;
pub mod output;
pub mod reencrypt;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use pgpci_core::access::Capability;
use pgpci_core::brand::truncate;
use pgpci_core::key::{KeyId, Purpose};
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{self, PanBuf};

use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, NO_VAULT, Ring};
use crate::pg::{catalog, session};
use crate::{access, key};

/// The vault of a column's type modifier; the default vault without one.
fn vault_of(typmod: i32) -> i32 {
    if typmod > NO_VAULT { typmod } else { DEFAULT_VAULT }
}

/// A stored value from the digits or the sealed form. Whoever may search but not store gets a value that
/// can be compared and nothing else, where no column is known that would keep it and no trigger runs, whose row would.
fn make(text: &[u8], typmod: i32) -> Result<PanBuf> {
    if seal::is_sealed_text(text) {
        return Ok(PanBuf::parse_sealed(text)?);
    }
    let clear = ClearPan::parse(text)?;
    let vault = vault_of(typmod);
    if !access::may(Capability::Store, vault)? {
        let can_compare = typmod <= NO_VAULT
            && !output::is_storing()
            && !session::in_trigger()
            && access::may(Capability::Search, vault)?;
        if !can_compare {
            return Err(access::refuse(Capability::Store, vault));
        }
        return comparand(&clear, vault);
    }
    store(&clear, vault)
}

/// A value that can be compared with those of the vault and nothing else.
fn comparand(clear: &ClearPan, vault: i32) -> Result<PanBuf> {
    let equality = Sealing::of(vault)?.equality.ok_or_else(|| Error::state("the vault is not searchable"))?;
    key::with_equality(equality, |key| seal::comparand(key, clear))
}

/// Seals digits into a vault; the caller has checked that they may.
fn store(clear: &ClearPan, vault: i32) -> Result<PanBuf> {
    let sealing = Sealing::of(vault)?;
    let shown = truncate(clear, sealing.display.0, sealing.display.1);
    let hash = sealing.equality.map(|id| key::with_equality(id, |key| key.hash(clear))).transpose()?;
    let nonce = key::nonce::next()?;
    Ok(key::with_data(sealing.data, |key| seal::seal_hashed(key, hash, clear, shown, &nonce))??)
}

/// A keyed hash of a text that a scan remembers instead of the text itself; never 0, which stands for none.
fn fingerprint(text: &[u8]) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(text) | 1
}

/// The equality hash of digits, for a comparison with values of the vault.
fn equality_of(clear: &ClearPan, vault: i32) -> Result<[u8; 16]> {
    let equality = Sealing::of(vault)?.equality.ok_or_else(|| Error::state("the vault is not searchable"))?;
    key::with_equality(equality, |key| key.hash(clear))
}

/// What sealing into a vault needs to know, looked up once.
#[derive(Clone, Copy)]
struct Sealing {
    data: KeyId,
    equality: Option<KeyId>,
    display: (u8, u8),
}

impl Sealing {
    fn of(vault: i32) -> Result<Self> {
        thread_local! {
            static LAST: Cell<Option<(u64, i32, Sealing)>> = const { Cell::new(None) };
        }
        let generation = catalog::generation();
        match LAST.get() {
            Some((at, number, sealing)) if (at, number) == (generation, vault) => return Ok(sealing),
            _ => {}
        }
        let ring = Ring::get()?;
        let settings = ring.vault(vault)?;
        let equality = match settings.searchable {
            true => Some(ring.current(vault, Purpose::Equality)?.id),
            false => None,
        };
        let data = ring.current(vault, Purpose::Data)?.id;
        let sealing = Self { data, equality, display: settings.display };
        LAST.set(Some((generation, vault, sealing)));
        Ok(sealing)
    }
}
