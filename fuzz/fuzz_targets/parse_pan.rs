//! Any bytes are refused or are a card number that reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::pan::{ClearPan, luhn_valid};

fuzz_target!(|text: &[u8]| {
    if let Ok(pan) = ClearPan::parse(text) {
        let digits = pan.to_digits();
        assert!(luhn_valid(digits.as_str().as_bytes()));
        assert_eq!(digits.as_str().len(), pan.len());
        assert_eq!(ClearPan::parse(digits.as_str().as_bytes()), Ok(pan));
    }
});
