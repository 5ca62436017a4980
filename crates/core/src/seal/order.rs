//! Equality and order of stored values, without a key.
//!
//! Searchable values compare by their equality hash and nothing else: the same number sealed twice
//! is equal. Values without a hash come after them and compare by their bytes, so that each is
//! equal only to itself. The order has no meaning beyond being total.

use super::stored::{EQUALITY_LEN, Pan, comparison_key};
use crate::error::Error;
use std::cmp::Ordering;

impl Ord for Pan<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.equality(), other.equality()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.0.cmp(other.0),
        }
    }
}

impl PartialOrd for Pan<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pan<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pan<'_> {}

/// How two stored values compare, as `Pan` does, looking at no more of them than that takes: what an index asks most.
/// Bytes that no version of pgpci could have written are [`Error::Corrupt`] as far as it looks.
#[inline]
pub fn cmp_stored(a: &[u8], b: &[u8]) -> Result<Ordering, Error> {
    match cmp_searchable(a, b) {
        Some(order) => Ok(order),
        None => Ok(Pan::from_stored(a)?.cmp(&Pan::from_stored(b)?)),
    }
}

/// The same of two values that both carry a hash; None for any others.
#[inline]
pub fn cmp_searchable(a: &[u8], b: &[u8]) -> Option<Ordering> {
    Some(comparison_key(a)?.cmp(&comparison_key(b)?))
}

/// How a stored value compares with a number of which only the hash is at hand, as if that were
/// stored too.
pub fn cmp_equality(pan: Pan<'_>, hash: &[u8; EQUALITY_LEN]) -> Ordering {
    match pan.equality() {
        Some(own) => own.cmp(hash),
        None => Ordering::Greater,
    }
}

impl Pan<'_> {
    /// A hash of 32 bits that is the same for equal values.
    pub fn hash32(self) -> u32 {
        self.hash64(0) as u32
    }

    /// A hash of 64 bits; with seed 0 its low half is [`hash32`](Self::hash32), as PostgreSQL's
    /// hash operator classes want it.
    pub fn hash64(self, seed: u64) -> u64 {
        let bytes = match self.equality() {
            Some(hash) => &hash[..],
            None => self.0,
        };
        hash_bytes(bytes, seed)
    }
}

/// The [`Pan::hash64`] of a stored number of which only the equality hash is at hand.
pub fn hash_equality(hash: &[u8; EQUALITY_LEN], seed: u64) -> u64 {
    hash_bytes(hash, seed)
}

fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    bytes.chunks(8).fold(seed, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(state ^ u64::from_le_bytes(word))
    })
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
