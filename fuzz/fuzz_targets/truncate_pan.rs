//! What may be shown of a number: brand, truncation and mask hold for every number and every wish.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::brand::{brand_of, display_limit, truncate};
use pgpci_core::pan::{ClearPan, MAX_LEN, luhn_valid};

fuzz_target!(|input: (u64, u8, u8, u8, &[u8])| {
    let (number, len, first, last, text) = input;
    luhn_valid(text);
    brand_of(text);
    let len = 12 + usize::from(len) % (MAX_LEN - 11);
    let Some(pan) = ClearPan::from_packed(number % 10u64.pow(len as u32), len) else {
        return;
    };
    let (shown, limit) = (truncate(&pan, first, last), display_limit(pan.brand(), len));
    assert!(shown.first <= limit.first && shown.last <= limit.last);
    assert!(usize::from(shown.first + shown.last) + 4 <= len);
});
