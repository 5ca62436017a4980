//! Provider `local` against the conformance tests, and its key file's checks.

mod conformance;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use conformance::{Subject, conforms, context};
use pgpci_core::wire::{Failure, FailureKind, Op, Outcome, Request};
use pgpci_kms::{Config, Local, Provider, Providers, keyfile};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn key_file(directory: &TempDir, name: &str) -> PathBuf {
    let path = directory.path().join(name);
    keyfile::create(&path).expect("a key file");
    path
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

async fn failure_at(path: &Path) -> Failure {
    match Local::new(path).generate("", &context()).await {
        Ok(_) => panic!("generated with a key file that must not be used"),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn conforms_to_the_trait() {
    let directory = directory();
    let local = Local::new(key_file(&directory, "a.key"));
    let other_file = Local::new(key_file(&directory, "b.key"));
    let strangers: &[(&dyn Provider, &str)] = &[(&other_file, "local"), (&local, "another")];
    for kek in ["local", ""] {
        let provider = &local;
        conforms(&Subject { provider, kek, other_kek: "local", strangers }).await;
    }
}

#[tokio::test]
async fn wrapped_keys_have_the_published_length() {
    let directory = directory();
    let local = Local::new(key_file(&directory, "a.key"));
    let (_, wrapped) = local.generate("", &context()).await.expect("a data key");
    assert_eq!(wrapped.len(), 73);
    assert_eq!(wrapped.len(), Local::WRAPPED_LEN);
    assert_eq!(wrapped[0], 1);
}

#[tokio::test]
async fn a_missing_file_heals_when_it_comes_back() {
    let directory = directory();
    let path = key_file(&directory, "a.key");
    let away = directory.path().join("away");
    let local = Local::new(&path);
    let (key, wrapped) = local.generate("", &context()).await.expect("a data key");
    fs::rename(&path, &away).expect("rename");
    let failure = local.unwrap("", &context(), &wrapped).await.err();
    assert_eq!(failure.map(|failure| failure.kind), Some(FailureKind::NotConfigured));
    fs::rename(&away, &path).expect("rename");
    let opened = local.unwrap("", &context(), &wrapped).await.expect("healed");
    assert_eq!(opened.expose(), key.expose());
}

#[tokio::test]
async fn permissions_for_group_or_others_are_refused() {
    let directory = directory();
    let path = key_file(&directory, "a.key");
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777] {
        chmod(&path, mode);
        let failure = failure_at(&path).await;
        assert_eq!(failure.kind, FailureKind::Refused, "{mode:o}");
        assert!(failure.message.contains("chmod 0600"), "{}", failure.message);
    }
    for mode in [0o600, 0o400] {
        chmod(&path, mode);
        assert!(Local::new(&path).generate("", &context()).await.is_ok());
    }
}

#[tokio::test]
async fn a_file_of_another_owner_is_refused() {
    let directory = directory();
    let path = key_file(&directory, "a.key");
    let own = fs::metadata(&path).expect("metadata").uid();
    // Only root can give a file away; for others a file of root's serves.
    let path = match std::os::unix::fs::chown(&path, Some(own + 1), None) {
        Ok(()) => path,
        Err(_) => PathBuf::from("/etc/passwd"),
    };
    let failure = failure_at(&path).await;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("chmod 0600"), "{}", failure.message);
}

#[tokio::test]
async fn only_regular_files_are_read_and_symlinks_to_them() {
    let directory = directory();
    let path = key_file(&directory, "a.key");
    let at = |name: &str| directory.path().join(name);
    let _listener = UnixListener::bind(at("socket")).expect("a socket");
    let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status();
    assert!(fifo.expect("mkfifo").success());
    symlink("loop", at("loop")).expect("a symlink");
    for irregular in [directory.path(), &at("socket"), &at("fifo"), Path::new("/dev/null")] {
        let failure = failure_at(irregular).await;
        assert_eq!(failure.kind, FailureKind::Refused, "{}", irregular.display());
    }
    assert_eq!(failure_at(&at("loop")).await.kind, FailureKind::Unavailable);
    symlink(&path, at("link")).expect("a symlink");
    assert!(Local::new(at("link")).generate("", &context()).await.is_ok());
}

#[tokio::test]
async fn malformed_files_are_invalid() {
    let directory = directory();
    let path = key_file(&directory, "a.key");
    let good = fs::read(&path).expect("the key file");
    let mut long = good.clone();
    long.extend_from_slice(&[b'\n'; 100_000]);
    for content in [&b""[..], b"x", &good[..20], &good[1..], &long] {
        fs::write(&path, content).expect("write");
        assert_eq!(failure_at(&path).await.kind, FailureKind::Invalid);
    }
    fs::write(&path, &good[..good.len() - 1]).expect("write"); // no line feed
    assert!(Local::new(&path).generate("", &context()).await.is_ok());
}

#[tokio::test]
async fn messages_stay_short_with_long_paths() {
    let failure = failure_at(Path::new(&"/é".repeat(1000))).await;
    assert_eq!(failure.kind, FailureKind::NotConfigured);
    assert!(failure.message.len() <= Failure::MAX_MESSAGE);
}

#[test]
fn create_never_overwrites() {
    let directory = directory();
    let path = key_file(&directory, "a.key");
    let before = fs::read(&path).expect("the key file");
    assert!(matches!(keyfile::create(&path), Err(keyfile::Error::Exists)));
    assert_eq!(fs::read(&path).expect("the key file"), before);
    let mode = fs::metadata(&path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[tokio::test]
async fn the_registry_answers_by_name() {
    let directory = directory();
    let local_key_file = Some(key_file(&directory, "a.key"));
    let providers = Providers::from_config(Config { local_key_file, ..Config::default() });
    let generate = |provider: &str| Op::Generate {
        provider: provider.to_string(),
        kek: String::new(),
        context: context(),
    };
    let pong = providers.handle(Request { id: 1, op: Op::Ping }).await;
    assert_eq!(pong.id, 1);
    assert!(matches!(pong.result, Ok(Outcome::Pong)));

    let made = providers.handle(Request { id: 2, op: generate("local") }).await;
    let Ok(Outcome::Generated { key, wrapped }) = made.result else { panic!("no data key") };
    let op = Op::Unwrap { provider: "local".to_string(), kek: String::new(), context: context(), wrapped };
    let opened = providers.handle(Request { id: 3, op }).await;
    assert!(matches!(opened.result, Ok(Outcome::Unwrapped { key: k }) if k.expose() == key.expose()));

    let unknown = generate(&"no such\n".repeat(100));
    let unknown = providers.handle(Request { id: 4, op: unknown }).await.result.err();
    assert_eq!(unknown.map(|failure| failure.kind), Some(FailureKind::NotConfigured));
    let bare = Providers::from_config(Config::default());
    let bare = bare.handle(Request { id: 5, op: generate("local") }).await.result.err();
    assert_eq!(bare.map(|failure| failure.kind), Some(FailureKind::NotConfigured));
}
