//! Notes, checkpoints and keys from anywhere are refused or read, and none verifies that was not
//! signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::chain::{Checkpoint, Note, VerifyingKey};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(checkpoint) = Checkpoint::parse(&text) {
        assert!(text.starts_with(&checkpoint.text()));
    }
    if let Ok(key) = VerifyingKey::parse(&text) {
        assert_eq!(key.to_string(), text.trim_ascii());
    }
    let key = VerifyingKey::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k");
    if let Ok(note) = Note::parse(bytes) {
        let verified = note.verify(&[key.expect("the key of the specification's example")]);
        assert!(verified.is_err() || note.unverified_text() == "This is an example message.\n");
    }
});
