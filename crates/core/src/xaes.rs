//! XAES-256-GCM: AES-256-GCM with a 192-bit nonce, so that nonces may be random for any number of
//! messages (C2SP, <https://c2sp.org/XAES-256-GCM>).
//!
//! The first half of the nonce derives a subkey, the second half is the GCM nonce under it. Setting
//! a subkey up costs as much as the encryption, so the last one is kept: values sealed with one
//! nonce prefix share it.

use crate::cmac::BlockCmac;
use crate::error::Error;
use aes::Aes256Enc;
use aes_gcm::aead::array::sizes::U12;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use std::mem;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 24;
/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// GCM never decrypts a block, so half of the key schedule can be left out.
type Gcm = AesGcm<Aes256Enc, U12>;

/// A key of XAES-256-GCM, expanded, with one cached subkey. Plain inline memory; wiped on drop.
pub struct Xaes {
    derive: BlockCmac,
    /// The first 12 bytes of the nonces that `subkey` is for.
    prefix: u128,
    subkey: Gcm,
}

impl Xaes {
    /// Expands a key of 32 bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        let derive = BlockCmac::new(key);
        let subkey = subkey(&derive, 0);
        Xaes { derive, prefix: 0, subkey }
    }

    /// Encrypts `buf` and returns the tag over it and `aad`. A nonce must never come twice.
    pub fn seal_in_place(&mut self, nonce: &[u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        let (prefix, nonce) = split(nonce);
        self.subkey_for(prefix)
            .encrypt_inout_detached(&nonce.into(), aad, buf.into())
            .expect("messages are far shorter than the 64 GiB limit of GCM")
            .into()
    }

    /// Decrypts `buf`; on failure it is left as it was.
    pub fn open_in_place(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Error> {
        let (prefix, nonce) = split(nonce);
        self.subkey_for(prefix)
            .decrypt_inout_detached(&nonce.into(), aad, buf.into(), tag.into())
            .or(Err(Error::Corrupt))
    }

    fn subkey_for(&mut self, prefix: u128) -> &Gcm {
        if prefix != self.prefix {
            // Written over, so there is nothing left for drop to wipe, which would take as long as
            // making the new one.
            mem::forget(mem::replace(&mut self.subkey, subkey(&self.derive, prefix)));
            self.prefix = prefix;
        }
        &self.subkey
    }
}

/// `aes-gcm` could wipe itself, but would then also wipe a copy of its hash key in every call, at a
/// third of the time. (The hash key forges tags under one subkey; it reads nothing.)
impl Drop for Xaes {
    fn drop(&mut self) {
        self.subkey = Gcm::new(&[0; 32].into());
        self.prefix.zeroize();
        zeroize::optimization_barrier(&self.subkey);
    }
}

impl ZeroizeOnDrop for Xaes {}

/// The first 12 bytes of a nonce as a number, and the other 12.
fn split(nonce: &[u8; NONCE_LEN]) -> (u128, [u8; 12]) {
    let (mut first, mut rest) = ([0; 16], [0; 12]);
    first.copy_from_slice(&nonce[..16]);
    rest.copy_from_slice(&nonce[12..]);
    (u128::from_be_bytes(first) >> 32, rest)
}

/// The subkey of a nonce prefix: a counter-mode KDF (NIST SP 800-108r1) over CMAC, whose messages
/// are a 16-bit counter, the label `X`, a zero byte and the prefix.
fn subkey(derive: &BlockCmac, prefix: u128) -> Gcm {
    let message = |counter: u128| counter << 112 | u128::from(b'X') << 104 | prefix;
    let [first, second] = derive.macs([message(1), message(2)]);
    let mut key = [0; 32];
    key[..16].copy_from_slice(&first);
    key[16..].copy_from_slice(&second);
    let gcm = Gcm::new(&key.into());
    key.zeroize();
    gcm
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha3::Shake128;
    use sha3::digest::{ExtendableOutput, Update, XofReader};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn seal(key: &[u8; 32], aad: &[u8]) -> String {
        let mut buf = *b"XAES-256-GCM";
        let tag = Xaes::new(key).seal_in_place(b"ABCDEFGHIJKLMNOPQRSTUVWX", aad, &mut buf);
        hex(&buf) + &hex(&tag)
    }

    #[test]
    fn published_vectors() {
        assert_eq!(seal(&[1; 32], b""), "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
        assert_eq!(
            seal(&[3; 32], b"c2sp.org/XAES-256-GCM"),
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"
        );
    }

    /// The accumulated vectors of C2SP: random keys, nonces and lengths, both directions.
    #[test]
    #[cfg_attr(
        miri,
        ignore = "ten thousand rounds take an hour there, and the other vectors go the same way"
    )]
    fn accumulated_vectors() {
        let mut source = Shake128::default().finalize_xof();
        let mut sink = Shake128::default();
        for _ in 0..10_000 {
            let (mut key, mut nonce, mut length) = ([0; 32], [0; NONCE_LEN], [0; 1]);
            source.read(&mut key);
            source.read(&mut nonce);
            source.read(&mut length);
            let mut plaintext = vec![0; usize::from(length[0])];
            source.read(&mut plaintext);
            source.read(&mut length);
            let mut aad = vec![0; usize::from(length[0])];
            source.read(&mut aad);

            let mut xaes = Xaes::new(&key);
            let mut buf = plaintext.clone();
            let tag = xaes.seal_in_place(&nonce, &aad, &mut buf);
            sink.update(&buf);
            sink.update(&tag);
            assert_eq!(xaes.open_in_place(&nonce, &aad, &mut buf, &tag), Ok(()));
            assert_eq!(buf, plaintext);
        }
        let mut sum = [0; 32];
        sink.finalize_xof().read(&mut sum);
        assert_eq!(hex(&sum), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
    }

    #[test]
    fn the_cached_subkey_changes_nothing() {
        let mut reused = Xaes::new(&[9; 32]);
        for prefix in [0, 1, 1, 2, 0] {
            let mut nonce = [7; NONCE_LEN];
            nonce[11] = prefix;
            let (mut a, mut b) = ([5; 8], [5; 8]);
            let tag = reused.seal_in_place(&nonce, b"", &mut a);
            assert_eq!(tag, Xaes::new(&[9; 32]).seal_in_place(&nonce, b"", &mut b));
            assert_eq!(a, b);
        }
    }

    #[test]
    fn a_wrong_tag_leaves_the_buffer_alone() {
        let mut buf = [5; 8];
        let failed = Xaes::new(&[9; 32]).open_in_place(&[7; 24], b"", &mut buf, &[0; 16]);
        assert_eq!((failed, buf), (Err(Error::Corrupt), [5; 8]));
    }
}
