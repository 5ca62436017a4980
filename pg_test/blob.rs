//! The hash that tells wrapped keys apart in slots.

#[pgrx::pg_schema]
mod tests {
    use std::collections::HashSet;

    use pgrx::prelude::*;

    use crate::pg::delivery::blob_hash;

    #[pg_test]
    fn blob_hash_is_the_same_for_the_same() {
        let blob: Vec<u8> = (0..73).collect();
        assert_eq!(blob_hash(&blob), blob_hash(&blob.clone()));
    }

    /// A swapped blob finds no other's key: every changed bit and every length counts.
    #[pg_test]
    fn blob_hash_differs_for_whatever_differs() {
        let blob: Vec<u8> = (0..73).collect();
        let mut seen = HashSet::from([blob_hash(&blob)]);
        for bit in 0..blob.len() * 8 {
            let mut other = blob.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(blob_hash(&other)), "bit {bit}");
        }
        for len in 0..blob.len() {
            assert!(seen.insert(blob_hash(&blob[..len])), "length {len}");
        }
        assert!(seen.insert(blob_hash(&[&blob[..], &[0]].concat())));
    }
}
