//! `pgpci key` as a user runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use pgpci_core::key::{Purpose, check_value};
use pgpci_kms::keyfile;

fn key(arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpci"));
    command.arg("key").args(arguments).arg(path);
    command.output().expect("pgpci key")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn init_makes_a_private_key_file_and_tells_its_fingerprint() {
    let directory = directory();
    let path = directory.path().join("my.key");
    let made = key(&["init", "--file"], &path);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(mode(&path), 0o600);

    let content = fs::read_to_string(&path).expect("the key file");
    assert!(content.starts_with("pgpci-local-key:1:"));
    assert_eq!(content.lines().count(), 1);
    let wrapping = keyfile::read(&path).expect("a key");
    let fingerprint: String =
        check_value(wrapping.expose(), Purpose::Data).iter().map(|byte| format!("{byte:02x}")).collect();
    let said = text(&made.stdout);
    assert_eq!(said, format!("key file:    {}\nfingerprint: {fingerprint}\n", path.display()));
    assert!(made.stderr.is_empty());

    let checked = key(&["check", "--file"], &path);
    assert!(checked.status.success());
    assert_eq!(checked.stdout, made.stdout);
}

#[test]
fn init_never_overwrites() {
    let directory = directory();
    let pgdata = directory.path().join("data");
    let path = directory.path().join("data.pgpci/local.key");
    assert!(key(&["init", "--pgdata"], &pgdata).status.success());
    let before = fs::read(&path).expect("the key file");
    for again in [key(&["init", "--pgdata"], &pgdata), key(&["init", "--file"], &path)] {
        assert_eq!(again.status.code(), Some(1));
        assert!(again.stdout.is_empty());
        assert!(text(&again.stderr).contains("already exists, and is never overwritten"));
    }
    assert_eq!(fs::read(&path).expect("the key file"), before);
}

#[test]
fn init_for_a_data_directory_makes_a_private_directory_beside_it() {
    let directory = directory();
    let pgdata = directory.path().join("data");
    fs::create_dir(&pgdata).expect("a directory");
    let made = key(&["init", "--pgdata"], &pgdata.join("")); // with a trailing slash
    assert!(made.status.success(), "{made:?}");
    assert_eq!(mode(&directory.path().join("data.pgpci")), 0o700);
    assert_eq!(mode(&directory.path().join("data.pgpci/local.key")), 0o600);
    assert_eq!(fs::read_dir(&pgdata).expect("a directory").count(), 0);
}

#[test]
fn init_needs_one_place() {
    let file_and_pgdata = ["init", "--file", "a", "--pgdata"];
    let both = key(&file_and_pgdata, Path::new("b"));
    assert_eq!(both.status.code(), Some(2));
    let neither = Command::new(env!("CARGO_BIN_EXE_pgpci")).args(["key", "init"]).output();
    assert_eq!(neither.expect("pgpci key").status.code(), Some(2));
}

#[test]
fn init_leaves_nothing_behind_when_it_fails() {
    let directory = directory();
    let nowhere = directory.path().join("no/such/my.key");
    let failed = key(&["init", "--file"], &nowhere);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(text(&failed.stderr).lines().count(), 1);
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
}

#[test]
fn check_says_what_is_wrong_and_never_the_key() {
    let directory = directory();
    let path = directory.path().join("my.key");
    let said = |expected: &str| {
        let checked = key(&["check", "--file"], &path);
        assert_eq!(checked.status.code(), Some(1));
        assert!(checked.stdout.is_empty());
        let said = text(&checked.stderr).to_string();
        assert!(said.contains(expected), "{said}");
        said
    };
    said("does not exist");
    assert!(key(&["init", "--file"], &path).status.success());
    let content = fs::read_to_string(&path).expect("the key file");
    let secret = content.trim_end().rsplit(':').next().expect("a key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(!said("chmod 0600").contains(secret));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(&path, content.replace(":1:", ":2:")).expect("write");
    assert!(!said("malformed").contains(secret));
}

#[test]
fn check_makes_a_round_trip_with_a_provider() {
    let directory = directory();
    let path = directory.path().join("my.key");
    let check = ["check", "--provider", "local", "--local-key-file"];
    let missing = key(&check, &path);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("does not exist"), "{missing:?}");
    assert!(key(&["init", "--file"], &path).status.success());
    let checked = key(&check, &path);
    assert!(checked.status.success(), "{checked:?}");
    let said = text(&checked.stdout);
    assert!(said.contains("compliant:    no"), "{said}");
    assert!(said.contains("compare:      the same key"), "{said}");
    let content = fs::read_to_string(&path).expect("the key file");
    let secret = content.trim_end().rsplit(':').next().expect("a key");
    assert!(!said.contains(secret));

    let both = key(&["check", "--provider", "local", "--file"], &path);
    assert_eq!(both.status.code(), Some(2));
}
