//! The content of a key file is refused, or is the one line that a key is written as. The helper reads
//! the file at each request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_kms::keyfile::{KEY_LEN, PREFIX, parse};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The prefix is hard to guess.
    check(&[PREFIX.as_bytes(), bytes].concat());
});

fn check(content: &[u8]) {
    if parse(content).is_ok() {
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        let encoded = line.strip_prefix(PREFIX.as_bytes()).expect("the prefix");
        assert_eq!(encoded.len(), KEY_LEN.div_ceil(3) * 4);
        assert!(encoded.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b)));
    }
}
