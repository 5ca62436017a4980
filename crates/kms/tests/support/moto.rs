//! An emulator of AWS KMS on loopback: moto's server, one for each test program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::Credentials;
use aws_sdk_kms::types::KeyUsageType;
use pgpci_kms::{Aws, AwsConfig};

pub const REGION: &str = "eu-west-1";
pub const OTHER_REGION: &str = "us-east-2";

/// Where moto listens: `http://127.0.0.1:PORT`. Started by the first who asks; it ends with this
/// process, however that ends.
pub fn url() -> &'static str {
    static MOTO: OnceLock<(String, Child)> = OnceLock::new();
    &MOTO.get_or_init(start).0
}

/// What AWS's chain gives, but from credentials of a test.
pub fn loader() -> ConfigLoader {
    let credentials = Credentials::for_tests();
    aws_config::defaults(BehaviorVersion::latest()).credentials_provider(credentials)
}

/// A provider in [`REGION`] that talks to `url`.
pub fn aws(url: &str) -> Aws {
    let config = AwsConfig { region: Some(REGION.to_string()), endpoint_url: Some(url.to_string()) };
    Aws::with_loader(config, loader)
}

/// The ARN of a new key in `region`.
pub async fn new_key(region: &'static str) -> String {
    // moto, unlike KMS, has no default.
    let usage = KeyUsageType::EncryptDecrypt;
    let made = client(region).await.create_key().key_usage(usage).send().await.expect("a key in moto");
    made.key_metadata.and_then(|key| key.arn).expect("an ARN")
}

/// A client for what pgpci itself never does.
pub async fn client(region: &'static str) -> Client {
    Client::new(&loader().region(Region::new(region)).endpoint_url(url()).load().await)
}

fn start() -> (String, Child) {
    // moto ends when its stdin, a pipe from here, does.
    let script = r#""$0" -H 127.0.0.1 -p 0 & read -r _; kill $!"#;
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let url = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_string()))
        .expect("moto said where it listens");
    // It logs every request, and must not wait for somebody to read it.
    std::thread::spawn(move || lines.for_each(drop));
    (url, child)
}

fn program() -> PathBuf {
    let path = match std::env::var_os("PGPCI_MOTO") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/moto_server"),
    };
    assert!(
        path.exists(),
        "{} is missing: `make test` installs it (tests/kms/requirements.txt), or set PGPCI_MOTO",
        path.display()
    );
    path
}
