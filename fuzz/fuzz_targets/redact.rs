//! Redacting any bytes in place agrees with the copying way, keeps the length, changes nothing but
//! to stars, and leaves no card number behind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::redact::{End, in_place, redact};

fuzz_target!(|text: &[u8]| {
    let redacted = redact(text);
    let mut whole = text.to_vec();
    let found = in_place(&mut whole, End::Whole);
    assert_eq!(redacted, whole);
    assert_eq!(found.is_empty(), whole == text);
    for (is, was) in whole.iter().zip(text) {
        // 0x8a is the last byte of a full-width asterisk.
        assert!(is == was || *is == b'*' || *is == 0x8a && (0x90..=0x99).contains(was));
    }
    let again = in_place(&mut whole.clone(), End::Whole);
    assert_eq!(again.cards, 0);
    in_place(&mut whole, End::Cut);
});
