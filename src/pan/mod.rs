//! The type `pci.pan`.

pub mod binding;
pub mod comparand;
pub mod compare;
pub mod compare_text;
pub mod doors;
pub mod functions;
pub mod genuine;
pub mod hashed;
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

use crate::error::Result;
use crate::key::ring::{DEFAULT_VAULT, NO_VAULT, Ring};
use crate::key::{due, fresh};
use crate::pg::local::Local;
use crate::pg::{catalog, session};
use crate::{access, key};

/// A stored value from the digits or the sealed form, for a column with this type modifier.
fn make(text: &[u8], typmod: i32) -> Result<PanBuf> {
    let has_vault = typmod > NO_VAULT;
    if seal::is_sealed_text(text) {
        let pan = PanBuf::parse_sealed(text)?;
        genuine::check(pan.as_pan())?;
        let moved = if has_vault { binding::to_vault(pan.as_pan(), typmod)? } else { None };
        return Ok(moved.unwrap_or(pan));
    }
    let clear = ClearPan::parse(text)?;
    if !has_vault {
        return binding::without_vault(&clear);
    }
    access::require(Capability::Store, typmod)?;
    store(&clear, typmod)
}

/// 55000 where vault `default` takes no values: what is made then is bound to another vault, or not stored.
pub fn require_default() -> Result<()> {
    Sealing::of(DEFAULT_VAULT).map(|_| ())
}

/// A value that can be compared with those of the vault and nothing else.
fn comparand(clear: &ClearPan, vault: i32) -> Result<PanBuf> {
    let equality = Sealing::equality_of(vault)?;
    key::with_equality(equality, |key| seal::comparand(key, clear))
}

/// Seals digits into a vault; the caller has checked that they may.
fn store(clear: &ClearPan, vault: i32) -> Result<PanBuf> {
    seal_with(clear, vault, key::nonce::next)
}

/// Seals the digits of a stored value anew: it stays one that was there before.
fn store_again(clear: &ClearPan, vault: i32) -> Result<PanBuf> {
    seal_with(clear, vault, key::nonce::of_stored)
}

fn seal_with(clear: &ClearPan, vault: i32, nonce: fn() -> Result<[u8; 24]>) -> Result<PanBuf> {
    let sealing = Sealing::of(vault)?;
    let shown = truncate(clear, sealing.display.0, sealing.display.1);
    let hash = |id| key::with_equality_before(id, sealing.data, |key| key.hash(clear));
    let hash = sealing.equality.map(hash).transpose()?;
    if let Some(equality) = sealing.equality {
        hashed::made(vault, equality);
    }
    let nonce = nonce()?;
    Ok(key::with_data(sealing.data, |key| seal::seal_hashed(key, hash, clear, shown, &nonce))??)
}

/// A keyed hash of a text that a scan remembers instead of the text itself; never 0, which stands for none.
fn fingerprint(text: &[u8]) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(text) | 1
}

/// The equality hash of digits, for a comparison with values of the vault.
fn equality_of(clear: &ClearPan, vault: i32) -> Result<[u8; 16]> {
    key::with_equality(Sealing::equality_of(vault)?, |key| key.hash(clear))
}

/// What sealing into a vault needs to know, looked up once.
#[derive(Clone, Copy)]
struct Sealing {
    data: KeyId,
    equality: Option<KeyId>,
    display: (u8, u8),
    /// When the data key is not to be used any more.
    until: i64,
}

impl Sealing {
    fn of(vault: i32) -> Result<Self> {
        static LAST: Local<Cell<Option<(u64, i32, Sealing)>>> = Local::new(Cell::new(None));
        let generation = catalog::generation();
        match LAST.get() {
            Some((at, number, sealing))
                if (at, number) == (generation, vault)
                    && (sealing.until == i64::MAX || session::now() < sealing.until) =>
            {
                return Ok(sealing);
            }
            _ => {}
        }
        let ring = Ring::get()?;
        let settings = ring.vault(vault)?;
        let sealing = if fresh::is_encrypt_only() {
            let (data, until) = fresh::data_key(settings)?;
            Self { data, equality: None, display: settings.display, until }
        } else {
            let equality = match settings.searchable {
                true => Some(ring.current(vault, Purpose::Equality)?.id),
                false => None,
            };
            let data = ring.current(vault, Purpose::Data)?;
            due::note(data, settings);
            Self { data: data.id, equality, display: settings.display, until: i64::MAX }
        };
        LAST.set(Some((catalog::generation(), vault, sealing)));
        Ok(sealing)
    }

    /// The key that comparisons in a vault take; 0A000 where it has none by its nature.
    fn equality_of(vault: i32) -> Result<KeyId> {
        let ring = Ring::get()?;
        ring.vault(vault)?.require_searchable()?;
        fresh::refuse_decrypt("it looks up no card number")?;
        Ok(ring.current(vault, Purpose::Equality)?.id)
    }
}
