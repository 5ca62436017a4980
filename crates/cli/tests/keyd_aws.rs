//! `pgpci keyd` and `pgpci key check` with provider `aws`: AWS's chain of credentials, time
//! limits, and what keyd itself costs.

#[path = "../../kms/tests/support/mod.rs"]
mod services;
mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use pgpci_core::wire::{FailureKind, Op, Outcome, Request};
use pgpci_kms::{Config, Providers, keyfile};
use services::moto::{self, OTHER_REGION, REGION, new_key};
use services::proxy::{Fault, Proxy};
use support::{Keyd, context, pgpci};

/// A command in a clean environment: no credentials, no metadata service.
fn clean() -> Command {
    let mut command = pgpci();
    command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn with_credentials() -> Command {
    let mut command = clean();
    command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

fn keyd(mut command: Command, url: &str) -> Keyd {
    command.args(["keyd", "--aws-region", REGION, "--aws-endpoint-url", url]);
    Keyd::spawn(command)
}

fn generate(kek: &str) -> Op {
    Op::Generate { provider: "aws".to_string(), kek: kek.to_string(), context: context() }
}

fn unwrap(kek: &str, wrapped: &[u8]) -> Op {
    let (provider, kek) = ("aws".to_string(), kek.to_string());
    Op::Unwrap { provider, kek, context: context(), wrapped: wrapped.to_vec() }
}

fn generated(outcome: Outcome) -> ([u8; 32], Vec<u8>) {
    match outcome {
        Outcome::Generated { key, wrapped } => (*key.expose(), wrapped),
        other => panic!("{other:?}"),
    }
}

fn unwrapped(outcome: Outcome) -> [u8; 32] {
    match outcome {
        Outcome::Unwrapped { key } => *key.expose(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn generates_unwraps_and_describes() {
    let kek = new_key(REGION);
    let mut keyd = keyd(with_credentials(), moto::url());
    let (key, wrapped) = generated(keyd.get(generate(&kek)));
    assert_eq!(unwrapped(keyd.get(unwrap(&kek, &wrapped))), key);
    let op = Op::Describe { provider: "aws".to_string(), kek: kek.clone() };
    assert!(matches!(keyd.get(op), Outcome::Described(described) if described.kek == kek));
    assert_eq!(keyd.close(), (Some(0), String::new()));
}

/// From the key file to KMS and to another region: the way from the first minute to a real key.
#[test]
fn moves_keys_between_providers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("local.key");
    keyfile::create(&path).expect("a key file");
    let mut command = with_credentials();
    command.args(["keyd", "--local-key-file"]).arg(&path);
    command.args(["--aws-region", REGION, "--aws-endpoint-url", moto::url()]);
    let mut keyd = Keyd::spawn(command);
    let (key, mut wrapped) = generated(keyd.get(support::generate()));
    let (here, there) = (new_key(REGION), new_key(OTHER_REGION));
    let mut from = ("local", "local");
    for to in [("aws", here.as_str()), ("aws", there.as_str()), ("local", "local")] {
        let op = Op::Rewrap {
            provider: from.0.to_string(),
            kek: from.1.to_string(),
            context: context(),
            wrapped,
            to_provider: to.0.to_string(),
            to_kek: to.1.to_string(),
        };
        let Outcome::Rewrapped { wrapped: moved } = keyd.get(op) else { panic!("not moved") };
        wrapped = moved;
        from = to;
    }
    assert_eq!(unwrapped(keyd.get(support::unwrap(&wrapped))), key);
}

#[test]
fn credentials_that_come_later_are_found() {
    let kek = new_key(REGION);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("credentials");
    let mut command = clean();
    command.env("AWS_SHARED_CREDENTIALS_FILE", &path).env("AWS_CONFIG_FILE", "/nowhere");
    let mut keyd = keyd(command, moto::url());
    let failure = keyd.refusal(generate(&kek));
    assert_eq!(failure.kind, FailureKind::NotConfigured, "{}", failure.message);
    assert!(failure.message.starts_with("give the server AWS credentials"), "{}", failure.message);
    fs::write(&path, "[default]\naws_access_key_id = AKID\naws_secret_access_key = x\n").expect("written");
    generated(keyd.get(generate(&kek)));
}

#[test]
fn a_region_that_comes_later_is_found() {
    let kek = new_key(REGION);
    let id = kek.rsplit('/').next().expect("an id");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("config");
    let mut command = with_credentials();
    command.env("AWS_CONFIG_FILE", &path).args(["keyd", "--aws-endpoint-url", moto::url()]);
    let mut keyd = Keyd::spawn(command);
    let failure = keyd.refusal(generate(id));
    assert_eq!(failure.kind, FailureKind::NotConfigured, "{}", failure.message);
    assert!(failure.message.starts_with("set the AWS region"), "{}", failure.message);
    fs::write(&path, format!("[default]\nregion = {REGION}\n")).expect("written");
    generated(keyd.get(generate(id)));
}

/// A connection by TLS is trusted for the certificates of the system, and for no others.
#[test]
fn tls_needs_a_trusted_certificate() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (key, certificate) = (directory.path().join("key.pem"), directory.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=moto"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    assert!(made.expect("openssl").status.success());
    let (key, file) = (key.to_str().expect("a path"), certificate.to_str().expect("a path"));
    let (url, _moto) = moto::start(&["-c", file, "-k", key]);
    assert!(url.starts_with("https://"), "{url}");

    // moto makes this key when it is asked for.
    let kek = "alias/aws/s3";
    let failure = keyd(with_credentials(), &url).refusal(generate(kek));
    assert_eq!(failure.kind, FailureKind::Unavailable, "{}", failure.message);
    assert!(failure.message.contains("TLS"), "{}", failure.message);
    let mut trusting = with_credentials();
    trusting.env("SSL_CERT_FILE", &certificate);
    generated(keyd(trusting, &url).get(generate(kek)));
}

#[test]
fn a_slow_kms_does_not_hold_up_the_key_file() {
    let proxy = Proxy::start(moto::url());
    let kek = new_key(REGION);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("local.key");
    keyfile::create(&path).expect("a key file");
    let mut command = with_credentials();
    command.args(["keyd", "--local-key-file"]).arg(&path);
    command.args(["--aws-region", REGION, "--aws-endpoint-url", &proxy.url]);
    let mut keyd = Keyd::spawn(command);
    proxy.inject(Fault::Slow(Duration::from_secs(60)), 1000);
    for id in 0..100 {
        keyd.send(id, generate(&kek));
    }
    let start = Instant::now();
    keyd.send(1000, support::generate());
    let first = keyd.receive();
    assert_eq!(first.id, 1000);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for _ in 0..100 {
        let failure = keyd.receive().result.expect_err("no answer of a slow KMS");
        assert_eq!(failure.kind, FailureKind::Unavailable);
    }
    assert!(start.elapsed() < Duration::from_secs(22), "{:?}", start.elapsed());
}

/// keyd asks once for each request, however many there are: putting them together is the
/// broker's work. Prints what a request costs beside the provider's own time.
#[test]
fn calls_and_time_of_200_requests() {
    let proxy = Proxy::start(moto::url());
    let kek = new_key(REGION);
    let mut keyd = keyd(with_credentials(), &proxy.url);
    let (key, wrapped) = generated(keyd.get(generate(&kek)));
    proxy.take_seen();
    let start = Instant::now();
    for id in 0..200 {
        keyd.send(id, unwrap(&kek, &wrapped));
    }
    for _ in 0..200 {
        assert_eq!(unwrapped(keyd.receive().result.expect("the key")), key);
    }
    let took = start.elapsed();
    let calls = proxy.take_operations();
    println!("200 requests at once: {} calls, {took:?}", calls.len());
    assert_eq!(calls, ["Decrypt"; 200]);

    // One after the other: by keyd, and in this process.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("local.key");
    keyfile::create(&path).expect("a key file");
    let mut by_keyd = Keyd::start(Some(&path));
    let here = Providers::from_config(Config { local_key_file: Some(path), ..Config::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for id in 0..1000 {
        let start = Instant::now();
        by_keyd.get(support::generate());
        with.push(start.elapsed());
        let start = Instant::now();
        let answer = runtime.block_on(here.handle(Request { id, op: support::generate() }));
        without.push(start.elapsed());
        assert!(answer.result.is_ok());
    }
    with.sort_unstable();
    without.sort_unstable();
    println!("median with the key file: {:?} by keyd, {:?} of it the provider's", with[500], without[500]);
}

#[test]
fn key_check_says_what_worked() {
    let kek = new_key(REGION);
    let check = |command: Command, url: &str| {
        let mut command = command;
        command.args(["key", "check", "--provider", "aws", "--kek", &kek]);
        command.args(["--aws-region", REGION, "--aws-endpoint-url", url]);
        command.output().expect("pgpci key check")
    };
    let checked = check(with_credentials(), moto::url());
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{checked:?}");
    for line in [&format!("wrapping key: {kek}"), "compliant:    yes", "generate:     ok", "unwrap:       ok"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.contains("compare:      the same key\ncontext:      another one is refused\n"), "{said}");

    let checked = check(clean(), moto::url());
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.starts_with("pgpci: generate: give the server AWS credentials"), "{said}");

    // A role that may only store.
    let proxy = Proxy::start(moto::url());
    proxy.allow_only(&["GenerateDataKey"]);
    let checked = check(with_credentials(), &proxy.url);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.starts_with("describe:     not possible: allow kms:DescribeKey"), "{said}");
    assert!(said.contains("generate:     ok"), "{said}");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.starts_with("pgpci: unwrap: allow kms:Decrypt"), "{said}");
}
