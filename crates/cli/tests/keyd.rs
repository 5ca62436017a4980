//! `pgpci keyd` as a real process over a socket pair.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Stdio;

use pgpci_core::key::Context;
use pgpci_core::wire::{FailureKind, Op, Outcome, Response};
use pgpci_kms::keyfile;
use support::{Keyd, context, ended, generate, pgpci, unwrap};

fn with_key() -> (tempfile::TempDir, Keyd) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("local.key");
    keyfile::create(&path).expect("a key file");
    let keyd = Keyd::start(Some(&path));
    (directory, keyd)
}

fn generated(response: Response) -> ([u8; 32], Vec<u8>) {
    match response.result {
        Ok(Outcome::Generated { key, wrapped }) => (*key.expose(), wrapped),
        other => panic!("{other:?}"),
    }
}

fn unwrapped(response: Response) -> [u8; 32] {
    match response.result {
        Ok(Outcome::Unwrapped { key }) => *key.expose(),
        other => panic!("{other:?}"),
    }
}

fn failed(response: Response) -> FailureKind {
    match response.result {
        Err(failure) => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn generates_and_unwraps() {
    let (_directory, mut keyd) = with_key();
    assert!(matches!(keyd.ask(Op::Ping).result, Ok(Outcome::Pong)));
    let (key, wrapped) = generated(keyd.ask(generate()));
    assert_eq!(unwrapped(keyd.ask(unwrap(&wrapped))), key);

    let op = Op::Unwrap {
        provider: "local".to_string(),
        kek: "local".to_string(),
        context: Context { vault: 2, ..context() },
        wrapped: wrapped.clone(),
    };
    assert_eq!(failed(keyd.ask(op)), FailureKind::WrongKey);
    assert_eq!(failed(keyd.ask(unwrap(b""))), FailureKind::WrongKey);
    assert_eq!(failed(keyd.ask(unwrap(&[1; 65_000]))), FailureKind::WrongKey);
    assert_eq!(unwrapped(keyd.ask(unwrap(&wrapped))), key);
    assert_eq!(keyd.close(), (Some(0), String::new()));
}

#[test]
fn a_missing_key_file_heals() {
    let (directory, mut keyd) = with_key();
    let path = directory.path().join("local.key");
    let away = directory.path().join("away");
    let (key, wrapped) = generated(keyd.ask(generate()));
    fs::rename(&path, &away).expect("rename");
    assert_eq!(failed(keyd.ask(unwrap(&wrapped))), FailureKind::NotConfigured);
    keyfile::create(&path).expect("another key file");
    assert_eq!(failed(keyd.ask(unwrap(&wrapped))), FailureKind::WrongKey);
    fs::rename(&away, &path).expect("rename");
    assert_eq!(unwrapped(keyd.ask(unwrap(&wrapped))), key);
}

#[test]
fn without_providers_it_answers_all_the_same() {
    let mut keyd = Keyd::start(None);
    assert!(matches!(keyd.ask(Op::Ping).result, Ok(Outcome::Pong)));
    assert_eq!(failed(keyd.ask(generate())), FailureKind::NotConfigured);
    assert_eq!(keyd.close(), (Some(0), String::new()));
}

#[test]
fn a_hundred_requests_at_once() {
    let (_directory, mut keyd) = with_key();
    let (key, wrapped) = generated(keyd.ask(generate()));
    for id in 0..100 {
        keyd.send(id, if id % 2 == 0 { generate() } else { unwrap(&wrapped) });
    }
    let mut answers = BTreeMap::new();
    for _ in 0..100 {
        let response = keyd.receive();
        let id = response.id;
        assert!(answers.insert(id, response).is_none(), "{id} answered twice");
    }
    assert!(answers.keys().copied().eq(0..100));
    let mut keys = Vec::new();
    for (id, response) in answers {
        if id % 2 == 0 {
            keys.push(generated(response).0);
        } else {
            assert_eq!(unwrapped(response), key);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 50, "data keys are random");
}

#[test]
fn malformed_frames_end_it_with_3() {
    let garbage: [&[u8]; 6] = [
        &[0xff; 4],                    // longer than any frame
        &[0xff; 5000],                 // more than is read at once
        &[0, 0, 0, 0],                 // no payload
        &[3, 0, 0, 0, 1, 99, 0],       // no such operation
        &[3, 0, 0, 0, 1, 0, 0],        // a ping and a byte too many
        &[4, 0, 0, 0, 1, 1, 250, 255], // a string longer than the payload
    ];
    for bytes in garbage {
        let (_directory, mut keyd) = with_key();
        assert!(matches!(keyd.ask(Op::Ping).result, Ok(Outcome::Pong)));
        keyd.socket.write_all(bytes).expect("sent");
        let (code, said) = keyd.end();
        assert_eq!(code, Some(3), "{bytes:?}");
        assert_eq!(said, "pgpci keyd: malformed frame received\n");
    }
}

#[test]
fn frames_may_come_in_pieces() {
    let (_directory, mut keyd) = with_key();
    let mut frame = Vec::new();
    let request = pgpci_core::wire::Request { id: 5, op: generate() };
    pgpci_core::wire::encode(&request, &mut frame).expect("a frame");
    for byte in frame {
        keyd.socket.write_all(&[byte]).expect("sent");
    }
    assert_eq!(keyd.receive().id, 5);
}

#[test]
fn it_ends_with_0_when_the_broker_is_gone() {
    let keyd = Keyd::start(None);
    assert_eq!(keyd.close(), (Some(0), String::new()));

    let keyd = Keyd::start(None);
    keyd.socket.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(keyd.end(), (Some(0), String::new()));

    // Gone with answers unread.
    let (_directory, mut keyd) = with_key();
    for id in 0..100 {
        keyd.send(id, generate());
    }
    assert_eq!(keyd.close(), (Some(0), String::new()));
}

#[test]
fn only_sigterm_ends_it() {
    let mut keyd = Keyd::start(None);
    assert!(matches!(keyd.ask(Op::Ping).result, Ok(Outcome::Pong)));
    for signal in ["-INT", "-HUP", "-PIPE"] {
        keyd.signal(signal);
        assert!(matches!(keyd.ask(Op::Ping).result, Ok(Outcome::Pong)));
    }
    keyd.signal("-TERM");
    assert_eq!(keyd.end(), (Some(0), String::new()));
}

#[test]
fn its_memory_is_not_dumped() {
    let mut keyd = Keyd::start(None);
    assert!(matches!(keyd.ask(Op::Ping).result, Ok(Outcome::Pong)));
    let proc = |name: &str| format!("/proc/{}/{name}", keyd.child.id());
    let limits = fs::read_to_string(proc("limits")).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap_or_default().split_whitespace().collect();
    assert_eq!(core, ["Max", "core", "file", "size", "0", "0", "bytes"]);
    // What is not dumpable belongs to root in /proc, so this tells nothing to root.
    let owner = |path: &str| fs::metadata(path).expect("metadata").uid();
    let own = owner("/proc/self");
    assert!(own == 0 || owner(&proc("mem")) != own, "dumpable");
}

#[test]
fn stdin_must_be_a_connected_stream_socket() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let listener = UnixListener::bind(directory.path().join("socket")).expect("a socket");
    let (datagram, _other) = UnixDatagram::pair().expect("a socket pair");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let refused = [
        Stdio::null(),
        Stdio::piped(),
        OwnedFd::from(listener).into(),
        OwnedFd::from(datagram).into(),
        OwnedFd::from(tcp).into(),
    ];
    for stdin in refused {
        let mut command = pgpci();
        command.arg("keyd").stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (code, said) = ended(command.spawn().expect("pgpci keyd"));
        assert_eq!(code, Some(2));
        assert!(said.starts_with("pgpci keyd: stdin is not a connected Unix stream socket"));
        assert_eq!(said.lines().count(), 1);
    }
}
