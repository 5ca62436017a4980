//! Bytes that pass the structural check can be read, compared and refused, never panic, and never
//! open: nobody guesses a tag.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::key::{DataKey, KeyId};
use pgpci_core::seal::{Pan, open};

fuzz_target!(|bytes: &[u8]| {
    let Ok(pan) = Pan::from_stored(bytes) else {
        return;
    };
    let mut mask = [0; 19];
    let len = pan.mask(&mut mask);
    assert_eq!(len, pan.pan_len());
    assert!(mask[..len].iter().all(|b| matches!(b, b'0'..=b'9' | b'*')));
    assert!(mask[..len].iter().filter(|&&b| b == b'*').count() >= 4);
    pan.shown(&mut [0; 12]);
    pan.bin(&mut [0; 8]);
    pan.last4(&mut [0; 4]);
    assert_eq!(pan.hash64(0) as u32, pan.hash32());
    assert_eq!(pan, pan);
    assert!(open(&mut DataKey::new(KeyId(1), &[1; 32]), pan).is_err());
});
