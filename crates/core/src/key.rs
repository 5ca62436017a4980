//! Keys in use: one type for each purpose, so that no key can be used for two.

mod context;
mod mac;
mod state;

pub use context::{Context, KeyId, Purpose};
pub use mac::{EqualityKey, HashKey, PolicyKey, check_value};
pub use state::KeyState;

use crate::brand::Truncation;
use crate::pan::ClearPan;
use crate::seal;
use crate::xaes::{NONCE_LEN, Xaes};
use std::fmt;
use zeroize::ZeroizeOnDrop;

/// Has each primitive find out what the processor can do. In a virtual machine asking takes long, and processes that are
/// forked later know it then.
pub fn ask_processor() {
    let zeros = [0; 32];
    let mut data = DataKey::new(KeyId(1), &zeros);
    if let Ok(pan) = ClearPan::parse(b"4111111111111111") {
        let shown = Truncation { first: 6, last: 4 };
        let _ = seal::seal(&mut data, Some(&EqualityKey::new(&zeros)), &pan, shown, &[0; NONCE_LEN]);
        let _ = HashKey::new(&zeros).hash(&pan);
    }
    let _ = memchr::memchr(0, &zeros);
}

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
