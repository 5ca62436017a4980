//! A request of the broker names a provider, a wrapping key and a wrapped key that come from rows of
//! a table: none of it makes the helper panic, and nobody guesses a wrapped key.
#![no_main]

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use pgpci_core::wire::{Decoder, Op, Outcome, Request};
use pgpci_kms::{Config, Providers, keyfile};

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::default();
    decoder.push(&(bytes.len() as u32).to_le_bytes());
    decoder.push(bytes);
    let Ok(Some(request)) = decoder.next::<Request>() else {
        return;
    };
    let (id, generates) = (request.id, matches!(request.op, Op::Generate { .. }));
    let response = now(providers().handle(request));
    assert_eq!(response.id, id);
    match response.result {
        Ok(Outcome::Generated { wrapped, .. }) => assert!(generates && !wrapped.is_empty()),
        Ok(Outcome::Unwrapped { .. }) => panic!("a wrapped key was guessed"),
        Ok(Outcome::Pong) | Err(_) => {}
    }
});

/// Provider `local` with a key file among what is built.
fn providers() -> &'static Providers {
    static PROVIDERS: OnceLock<Providers> = OnceLock::new();
    PROVIDERS.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/local.key");
        match keyfile::create(&path) {
            Ok(_) | Err(keyfile::Error::Exists) => {}
            Err(error) => panic!("{error}"),
        }
        Providers::from_config(Config { local_key_file: Some(path) })
    })
}

/// Provider `local` never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("provider local waits"),
    }
}
