//! A sealed form that parses is the only one of its bytes, white space aside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::seal::{PanBuf, is_sealed_text};

fuzz_target!(|text: &[u8]| {
    if let Ok(value) = PanBuf::parse_sealed(text) {
        assert!(is_sealed_text(text));
        let mut again = Vec::new();
        value.as_pan().write_text(&mut again);
        assert_eq!(again, text.trim_ascii());
    }
});
