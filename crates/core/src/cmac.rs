//! AES-256-CMAC (NIST SP 800-38B) of exactly one block.
//!
//! Both users, the equality hash and the XAES subkey, authenticate one full block only. For that
//! case CMAC is a single encryption after a xor with a subkey that can be computed once, which is a
//! third of the work of the general algorithm. Blocks are big-endian numbers here: callers put them
//! together in registers, where byte arrays would cost more than the encryption.

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::ZeroizeOnDrop;

/// An expanded key. Plain inline memory; wiped on drop.
#[derive(ZeroizeOnDrop)]
pub(crate) struct BlockCmac {
    cipher: Aes256Enc,
    /// K1 of SP 800-38B section 6.1.
    k1: u128,
}

impl BlockCmac {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut l = aes::Block::default();
        cipher.encrypt_block(&mut l);
        let k1 = double(u128::from_be_bytes(l.into()));
        BlockCmac { cipher, k1 }
    }

    /// The MACs of `N` independent messages of one block, side by side to fill the AES pipeline.
    pub(crate) fn macs<const N: usize>(&self, messages: [u128; N]) -> [[u8; 16]; N] {
        let mut blocks = messages.map(|m| (m ^ self.k1).to_be_bytes().into());
        self.cipher.encrypt_blocks(&mut blocks);
        blocks.map(Into::into)
    }
}

/// Multiplication by x in GF(2^128), in constant time.
fn double(value: u128) -> u128 {
    (value << 1) ^ ((value >> 127) * 0x87)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::cmac::{Cmac, Mac};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_general_algorithm(key: [u8; 32], a: u128, b: u128) {
            let reference = |message: u128| -> [u8; 16] {
                let mut mac = Cmac::<aes::Aes256>::new(&key.into());
                mac.update(&message.to_be_bytes());
                mac.finalize().into_bytes().into()
            };
            prop_assert_eq!(BlockCmac::new(&key).macs([a, b]), [reference(a), reference(b)]);
        }
    }
}
