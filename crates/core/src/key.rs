//! Keys in use: one type for each purpose, so that no key can be used for two.

mod context;
mod mac;
mod state;

pub use context::{Context, KeyId, Purpose};
pub use mac::{EqualityKey, HashKey, PolicyKey, check_value};
pub use state::KeyState;

use crate::xaes::Xaes;
use std::fmt;
use zeroize::ZeroizeOnDrop;

/// A key that seals card numbers, with its id. Plain inline memory, no pointers: it can live in a
/// mapped region. Wiped on drop.

#[derive(ZeroizeOnDrop)]
pub struct DataKey {
    #[zeroize(skip)]
    id: KeyId,
    pub(crate) xaes: Xaes,
}

impl DataKey {
    /// Expands a key of 32 bytes.
    pub fn new(id: KeyId, key: &[u8; 32]) -> Self {
        DataKey { id, xaes: Xaes::new(key) }
    }

    /// The id stored in every value it seals.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({:?}, ***)", self.id)
    }
}
