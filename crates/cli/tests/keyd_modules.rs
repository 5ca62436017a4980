//! `pgpci keyd` with PKCS#11 modules that go wrong.

mod support;
#[path = "support/token.rs"]
mod token;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pgpci_core::wire::{FailureKind, Op};
use pgpci_kms::keyfile;
use support::{Keyd, context};
use token::Token;

fn generate() -> Op {
    Op::Generate { provider: "pkcs11".to_string(), kek: "cards-2026".to_string(), context: context() }
}

/// Builds `modules/broken.c`.
fn broken(token: &Token, how: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/modules/broken.c");
    let module = token.at(&format!("{how}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", &format!("-D{how}"), "-o"]).arg(&module).arg(source);
    assert!(cc.status().expect("cc").success());
    module
}

#[test]
fn a_module_that_crashes_takes_only_this_keyd_along() {
    let token = Token::new();
    keyfile::create(&token.at("local.key")).expect("a key file");
    let crash = broken(&token, "CRASH");
    let mut keyd = Keyd::spawn(token.keyd(&crash));
    keyd.get(support::generate()); // well so far
    keyd.send(1, generate());
    let Keyd { mut child, socket, .. } = keyd;
    let status = support::wait(&mut child);
    assert_eq!(status.signal(), Some(11), "{status}");
    drop(socket);
    // The next one serves everybody else.
    let mut keyd = Keyd::spawn(token.keyd(&crash));
    keyd.get(support::generate());
    assert_eq!(keyd.close(), (Some(0), String::new()));
}

#[test]
fn a_module_that_hangs_holds_up_no_other_nor_the_end() {
    let token = Token::new();
    keyfile::create(&token.at("local.key")).expect("a key file");
    let mut keyd = Keyd::spawn(token.keyd(&broken(&token, "HANG")));
    let start = Instant::now();
    for id in 0..100 {
        keyd.send(id, generate());
    }
    keyd.send(1000, support::generate());
    let first = keyd.receive();
    assert!(first.id == 1000 && first.result.is_ok(), "{first:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for _ in 0..100 {
        let failure = keyd.receive().result.expect_err("no answer of a module that hangs");
        assert_eq!(failure.kind, FailureKind::Unavailable);
    }
    assert!(start.elapsed() < Duration::from_secs(22), "{:?}", start.elapsed());
    assert_eq!(keyd.close(), (Some(0), String::new()));
}
