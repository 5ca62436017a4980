//! Keys that only authenticate.

use super::Purpose;
use crate::cmac::BlockCmac;
use crate::pan::{ClearPan, MAX_LEN};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Makes the equality hash: AES-256-CMAC over one block, so that equal numbers of a vault have
/// equal hashes. Wiped on drop.

#[derive(ZeroizeOnDrop)]
pub struct EqualityKey(BlockCmac);

impl EqualityKey {
    /// Expands a key of 32 bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        EqualityKey(BlockCmac::new(key))
    }

    /// The hash: 16 bytes over length and digits.
    pub fn hash(&self, pan: &ClearPan) -> [u8; 16] {
        let [hash] = self.0.macs([(pan.len() as u128) << 120 | u128::from(pan.packed())]);
        hash
    }
}

/// Makes the hash that `pci.hash_pan` gives out: HMAC-SHA-256 (FIPS 198-1) over the ASCII digits.
pub struct HashKey(HmacSha256);

impl HashKey {
    /// Expands a key of 32 bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        HashKey(hmac(key))
    }

    /// The hash, 32 bytes.
    pub fn hash(&self, pan: &ClearPan) -> [u8; 32] {
        let mut digits = [0; MAX_LEN];
        let len = pan.digits(&mut digits);
        let hash = self.0.clone().chain_update(&digits[..len]).finalize();
        digits.zeroize();
        hash.into_bytes().into()
    }
}

/// Authenticates policy rows with HMAC-SHA-256, so that rows written around pgpci do not count.
pub struct PolicyKey(HmacSha256);

impl PolicyKey {
    /// Expands a key of 32 bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        PolicyKey(hmac(key))
    }

    /// The MAC of a row, 32 bytes. Each field says its length first, so moving bytes from one field
    /// to the next changes it; `None` is SQL's NULL and differs from an empty field.
    pub fn mac(&self, fields: &[Option<&[u8]>]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"pgpci policy 1\0");
        for field in fields {
            match field {
                None => mac.update(&[0]),
                Some(bytes) => {
                    mac.update(&[1]);
                    mac.update(&(bytes.len() as u64).to_be_bytes());
                    mac.update(bytes);
                }
            }
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether a MAC belongs to a row, in constant time.
    pub fn verify(&self, fields: &[Option<&[u8]>], mac: &[u8]) -> bool {
        self.mac(fields).ct_eq(mac).into()
    }
}

/// The key check value kept beside a wrapped key: 8 bytes that tell whether unwrapping gave the key
/// it should. XAES-GCM does not commit to its key, so a failed tag alone would not say so.
pub fn check_value(key: &[u8; 32], purpose: Purpose) -> [u8; 8] {
    let mac: [u8; 32] = hmac(key)
        .chain_update(b"pgpci key check value 1")
        .chain_update(purpose.as_str())
        .finalize()
        .into_bytes()
        .into();
    let mut value = [0; 8];
    value.copy_from_slice(&mac[..8]);
    value
}

type HmacSha256 = Hmac<Sha256>;

fn hmac(key: &[u8; 32]) -> HmacSha256 {
    // HMAC pads a short key with zeros; done here, there is no length left to be wrong.
    let mut padded = [0; 64];
    padded[..32].copy_from_slice(key);
    let hmac = HmacSha256::new(&padded.into());
    padded.zeroize();
    hmac
}

macro_rules! never_printed {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }
    )*};
}
never_printed!(EqualityKey HashKey PolicyKey);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Stored hashes, MACs and check values depend on these; computed with python-cryptography.
    #[test]
    fn pinned() {
        let pan = ClearPan::parse(b"4111111111111111").unwrap();
        let key = [3; 32];
        assert_eq!(hex(&EqualityKey::new(&[2; 32]).hash(&pan)), "d70b2c8a6b6c97b902551f2f55ffa788");
        assert_eq!(
            hex(&HashKey::new(&key).hash(&pan)),
            "ff87b31ac77994ec93f0c0728ce38c4d297e2fbfa7200aa79dd92a52a3a7cfd1"
        );
        assert_eq!(
            hex(&PolicyKey::new(&key).mac(&[Some(b"role"), None, Some(b"")])),
            "b3ccf34f6640acb171264448c3ce2e281327d96b987a35e7b18d71f8079e114b"
        );
        assert_eq!(hex(&check_value(&key, Purpose::Equality)), "24b90bb7c7f4ebd3");
    }

    #[test]
    fn equality_tells_lengths_apart() {
        let key = EqualityKey::new(&[2; 32]);
        let hash = |len| key.hash(&ClearPan::from_packed(7, len).unwrap());
        assert_ne!(hash(15), hash(16));
    }

    #[test]
    fn a_check_value_is_of_one_key_and_purpose() {
        let value = check_value(&[1; 32], Purpose::Data);
        assert_ne!(value, check_value(&[2; 32], Purpose::Data));
        assert_ne!(value, check_value(&[1; 32], Purpose::Hash));
    }

    #[test]
    fn policy_fields_cannot_be_moved() {
        let key = PolicyKey::new(&[1; 32]);
        let row: &[Option<&[u8]>] = &[Some(b"ab"), Some(b"c"), None];
        let mac = key.mac(row);
        assert!(key.verify(row, &mac));
        assert!(!key.verify(row, &mac[..31]));
        assert!(!PolicyKey::new(&[2; 32]).verify(row, &mac));
        let others: [&[Option<&[u8]>]; 5] = [
            &[Some(b"a"), Some(b"bc"), None],
            &[Some(b"ab"), Some(b"c"), Some(b"")],
            &[Some(b"ab"), Some(b"c")],
            &[Some(b"ab"), None, Some(b"c")],
            &[],
        ];
        for other in others {
            assert!(!key.verify(other, &mac), "{other:?}");
        }
    }

    #[test]
    fn never_printed() {
        assert_eq!(format!("{:?}", HashKey::new(&[1; 32])), "HashKey(***)");
    }
}
