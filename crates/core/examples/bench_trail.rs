//! How fast the audit trail's parts are, on one core, best of several rounds:
//! `cargo run --release -p pgpci-core --example bench_trail`
//!
//! With a directory as argument, writes a trail of 512 MiB there, to measure `pgpci verify` with.

use pgpci_core::chain::Signer;
use pgpci_core::record::{Body, Class, Event, Limits, Objects, Text, Time};
use pgpci_core::redact::{End, in_place};
use pgpci_core::secret::Secret;
use pgpci_core::trail::{Due, Node, Policy, Start, State, Verdict, Verifier, Writer};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const ROUNDS: u32 = 100;
const MIB: usize = 1 << 20;

fn main() {
    if let Some(directory) = std::env::args_os().nth(1) {
        return large(Path::new(&directory)).expect("written");
    }
    redacting();
    let trail = writing();
    verifying(&trail);
}

fn redacting() {
    let prose = "the query was cancelled because the statement timeout of this role had been reached; ";
    let sql = "INSERT INTO shop.payments (id, customer, amount, paid_at, note) VALUES \
        (184467, 'c-20417', 129.90, '2026-11-24 14:17:44.123456+00', 'second reminder'); \
        SELECT p.id, p.amount FROM shop.payments p JOIN shop.customers c ON c.id = p.customer \
        WHERE c.country = 'FI' AND p.paid_at > now() - interval '30 days' ORDER BY p.paid_at DESC LIMIT 50; ";
    let copy = "184467\t4111111111111111\tAnn Example\t129.90\t2026-11-24 14:17:44.123456+00\n";
    let login = "ALTER ROLE ann PASSWORD 'correct horse'; ";
    for (name, text) in
        [("no digits", prose), ("ordinary SQL", sql), ("COPY of numbers", copy), ("passwords", login)]
    {
        let mut text = text.repeat(MIB / text.len()).into_bytes();
        let seconds = best(|| in_place(black_box(&mut text), End::Whole));
        println!("{:8.0} MB/s  redact, {name}", text.len() as f64 / seconds / 1e6);
    }
}

const NODE: Node = Node([7; 16]);
const RECORDS: i64 = 10_000;

fn signer() -> Signer {
    Signer::new(&NODE.origin(), &Secret::new([1; 32])).expect("the node's name")
}

fn start(out: &mut Vec<u8>) -> Writer {
    let start = Start { server_version: "18.6", pgpci_version: "0.1.0", predecessor: None };
    let settings = (Limits::default(), Policy::default());
    let now = Time::from_micros(1_795_529_864_000_000);
    Writer::start(NODE, signer(), settings, State::default(), &start, now, out).expect("the node's key")
}

/// Encode, chain, tree, and a checkpoint every 1,000 records.
fn writing() -> Vec<u8> {
    let objects = ["shop.payments".into(), "shop.customers".into()];
    let mut out = Vec::with_capacity(16 * MIB);
    let seconds = best(|| {
        out.clear();
        let mut writer = start(&mut out);
        for i in 0..RECORDS {
            let now = Time::from_micros(1_795_529_864_123_456 + i * 10);
            writer.append(now, Body::Event(Box::new(event(&objects))), &mut out);
            if i % 1000 == 0 {
                writer.checkpoint(now, &mut out);
            }
        }
        writer.seq()
    });
    println!("{:8.0} records/s  of {} bytes, written", RECORDS as f64 / seconds, out.len() as i64 / RECORDS);
    out
}

fn large(directory: &Path) -> std::io::Result<()> {
    let objects = ["shop.payments".into()];
    let mut out = Vec::new();
    let mut writer = start(&mut out);
    for i in 0.. {
        let now = Time::from_micros(1_795_529_864_123_456 + i * 1000);
        writer.append(now, Body::Event(Box::new(event(&objects))), &mut out);
        match writer.due(now) {
            Due::Nothing => {}
            Due::Checkpoint => drop(writer.checkpoint(now, &mut out)),
            Due::Rotate => {
                let (name, mut next) = (writer.file_name(), Vec::new());
                writer.rotate(now, &mut out, &mut next);
                std::fs::write(directory.join(&name), &out)?;
                if name.ends_with("08.jsonl") {
                    break;
                }
                out = next;
            }
        }
    }
    println!("{}", signer().verifying_key());
    Ok(())
}

fn event<'a>(objects: &'a [Text<'a>]) -> Event<'a> {
    Event {
        session_user: Some("shop_app".into()),
        app_user: Some("k.e@example.org".into()),
        statement: Some(
            "SELECT p.id, p.amount, p.card FROM shop.payments p JOIN shop.customers c ON c.id = p.customer \
             WHERE c.country = $1 AND p.paid_at > now() - interval '30 days' ORDER BY p.paid_at DESC LIMIT 50"
                .into(),
        ),
        rows: Some(50),
        success: Some(true),
        client_addr: Some("10.20.30.40".into()),
        client_port: Some(50_123),
        application_name: Some("payments-service".into()),
        pid: Some(4711),
        session_id: Some("6925c1d8.1267".into()),
        database: Some("shop".into()),
        objects: Objects::Borrowed(objects),
        ..Event::new(Class::Read, "SELECT")
    }
}

fn verifying(trail: &[u8]) {
    let keys = [signer().verifying_key()];
    let seconds = best(|| {
        let mut verifier = Verifier::new(NODE, &keys, vec![], 0);
        verifier.segment(1);
        for line in trail.split_inclusive(|it| *it == b'\n') {
            verifier.line(&line[..line.len() - 1]).expect("a good line");
        }
        verifier.end(None);
        assert_eq!(verifier.finish().verdict(), Verdict::Unanchored);
    });
    println!("{:8.0} MB/s  verified", trail.len() as f64 / seconds / 1e6);
}

/// Seconds of the fastest round.
fn best<T>(mut operation: impl FnMut() -> T) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(operation());
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
