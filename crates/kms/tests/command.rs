//! Provider `local` with a key command instead of a key file.

mod conformance;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use conformance::{Subject, conforms, context};
use pgpci_core::wire::{Failure, FailureKind};
use pgpci_kms::{Config, Local, Provider, Providers, keyfile};

fn cat(path: &Path) -> Local {
    Local::from_command(format!("cat '{}'", path.display()))
}

async fn failure(command: &str) -> Failure {
    match Local::from_command(command).generate("", &context()).await {
        Ok(_) => panic!("generated with a command that gives no key: {command}"),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn conforms_to_the_trait_and_equals_the_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    keyfile::create(&at("a.key")).expect("a key file");
    keyfile::create(&at("b.key")).expect("a key file");
    let (local, other) = (cat(&at("a.key")), cat(&at("b.key")));
    let strangers: &[(&dyn Provider, &str)] = &[(&other, "local"), (&local, "another")];
    conforms(&Subject { provider: &local, kek: "", other_kek: "local", strangers }).await;

    let (key, wrapped) = local.generate("", &context()).await.expect("a data key");
    let opened = Local::new(at("a.key")).unwrap("", &context(), &wrapped).await.expect("unwrapped");
    assert_eq!(opened.expose(), key.expose());
}

#[tokio::test]
async fn what_a_command_does_wrong() {
    use FailureKind::{Invalid, Refused};
    let key = format!("{}{}A=", keyfile::PREFIX, "A".repeat(42));
    for (command, kind, message) in [
        ("exit 3", Refused, "see to the key command: it ended with exit status: 3"),
        ("kill -9 $$", Refused, "see to the key command: it ended with signal: 9"),
        ("no-such-command 2>&-", Refused, "exit status: 127"),
        ("true", Invalid, "make the key command write one line"),
        ("echo nonsense", Invalid, "make the key command write one line"),
        (&format!("echo {key}; exit 1"), Refused, "exit status: 1"),
        (&format!("echo {key}; echo {key}"), Invalid, "make the key command write one line"),
    ] {
        let failure = failure(command).await;
        assert_eq!(failure.kind, kind, "{command}");
        assert!(failure.message.contains(message), "{command}: {}", failure.message);
        assert!(!failure.message.contains("AAAA") && !failure.message.contains("nonsense"));
    }
    let local = Local::from_command(format!("printf %s {key}"));
    local.generate("", &context()).await.expect("a data key");
}

/// It would never end by itself, since nobody reads.
#[tokio::test]
async fn one_that_writes_for_ever_is_stopped() {
    let start = Instant::now();
    failure("yes").await;
    assert!(start.elapsed() < Duration::from_secs(9), "waited for the time limit");
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_what_it_started() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pids = directory.path().join("pids");
    let command = format!("sleep 600 & echo $! $$ > '{}'; wait", pids.display());
    let start = Instant::now();
    let failure = failure(&command).await;
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert!(failure.message.starts_with("make the key command quicker"), "{}", failure.message);
    assert!(start.elapsed() >= Duration::from_secs(10));
    let pids = fs::read_to_string(pids).expect("the pids");
    for pid in pids.split_whitespace() {
        wait_until(|| is_gone(pid));
    }
}

#[tokio::test]
async fn the_command_goes_before_the_file() {
    let config = Config {
        local_key_file: Some("/nowhere/local.key".into()),
        local_key_command: Some("exit 7".to_string()),
        ..Config::default()
    };
    let op = pgpci_core::wire::Op::Describe { provider: "local".to_string(), kek: String::new() };
    let answer = Providers::from_config(config).handle(pgpci_core::wire::Request { id: 1, op }).await;
    assert_eq!(answer.result.err().map(|failure| failure.kind), Some(FailureKind::Refused));
}

/// Gone, or dead and only not yet waited for by whoever inherited it.
fn is_gone(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
