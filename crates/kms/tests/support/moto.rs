//! An emulator of AWS KMS on loopback: moto's server, one for each test program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub const REGION: &str = "eu-west-1";
pub const OTHER_REGION: &str = "us-east-2";

/// Where moto listens: `http://127.0.0.1:PORT`. Started by the first who asks; it ends with this
/// process, however that ends.
pub fn url() -> &'static str {
    static MOTO: OnceLock<(String, Child)> = OnceLock::new();
    &MOTO.get_or_init(|| start(&[])).0
}

/// The ARN of a new key in `region`.
pub fn new_key(region: &str) -> String {
    // moto, unlike KMS, has no default.
    let made = call(region, "CreateKey", r#"{"KeyUsage":"ENCRYPT_DECRYPT"}"#);
    let (_, arn) = made.split_once(r#""Arn": ""#).expect("an ARN");
    arn.split('"').next().expect("an ARN").to_string()
}

/// What an administrator does in KMS, and pgpci never; without the SDK, as moto checks no
/// signature. Gives the answer, JSON.
pub fn call(region: &str, operation: &str, body: &str) -> String {
    let address = url().trim_start_matches("http://");
    let mut moto = TcpStream::connect(address).expect("moto");
    let length = body.len();
    write!(
        moto,
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: TrentService.{operation}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKID/20260101/{region}/kms/aws4_request\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    moto.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{operation}: {answer}");
    answer
}

/// Another moto, with more options: where it listens, and the process that it lives as long as.
pub fn start(options: &[&str]) -> (String, Child) {
    // moto ends when its stdin, a pipe from here, does.
    let script = r#""$0" -H 127.0.0.1 -p 0 "$@" & read -r _; kill $!"#;
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(program())
        .args(options)
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
