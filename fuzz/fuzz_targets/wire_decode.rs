//! The server reads responses and the helper reads requests; neither trusts the other's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::wire::{Decoder, Request, Response};

fuzz_target!(|bytes: &[u8]| {
    let mut requests = Decoder::default();
    let mut responses = Decoder::default();
    for piece in bytes.chunks(7) {
        requests.push(piece);
        responses.push(piece);
        while let Ok(Some(_)) = requests.next::<Request>() {}
        while let Ok(Some(_)) = responses.next::<Response>() {}
    }
});
