//! How fast the audit trail's parts are, on one core, best of several rounds:
//! `cargo run --release -p pgpci-core --example bench_trail`

use pgpci_core::redact::{End, in_place};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 9;
const MIB: usize = 1 << 20;

fn main() {
    redacting();
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
