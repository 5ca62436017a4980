//! A line that parses is the one line of its record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::record::{Limits, MAX_LINE, encode, parse};

fuzz_target!(|line: &[u8]| {
    if let Ok(record) = parse(line) {
        assert!(line.len() <= MAX_LINE && !line.contains(&b'\n'));
        // Limits cut, and what was cut is a record, too.
        let mut out = Vec::new();
        encode(&record, &Limits::new(16), &mut out);
        assert!(parse(&out).is_ok());
    }
});
