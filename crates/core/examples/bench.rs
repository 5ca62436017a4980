//! Nanoseconds per operation, one core, best of several rounds:
//! `cargo run --release -p pgpci-core --example bench`

use pgpci_core::brand::truncate;
use pgpci_core::key::{DataKey, EqualityKey, HashKey, KeyId};
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{Pan, PanBuf, open, seal};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 20;
const REPEATS: u32 = 20_000;

fn main() -> Result<(), pgpci_core::error::Error> {
    println!("AES in hardware: {}", aes::hardware_accelerated());
    let text: &[u8] = b"4111111111111111";
    let pan = ClearPan::parse(text)?;
    let shown = truncate(&pan, 6, 4);
    let mut key = DataKey::new(KeyId(1), &[1; 32]);
    let equality = EqualityKey::new(&[2; 32]);
    let hash = HashKey::new(&[3; 32]);
    let sealed = seal(&mut key, Some(&equality), &pan, shown, &nonce(0, 0))?;
    let other = seal(&mut key, Some(&equality), &pan, shown, &nonce(1, 0))?;
    let mut text_form = Vec::new();
    sealed.as_pan().write_text(&mut text_form);

    measure("parse", |_| ClearPan::parse(black_box(text)));
    measure("parse, grouped", |_| ClearPan::parse(black_box(b"4111 1111 1111 1111")));
    measure("brand and truncation", |_| truncate(black_box(&pan), 6, 4));
    measure("equality hash", |_| equality.hash(black_box(&pan)));
    measure("HMAC-SHA-256 hash", |_| hash.hash(black_box(&pan)));
    measure("seal, subkey cached", |i| seal(&mut key, Some(&equality), black_box(&pan), shown, &nonce(0, i)));
    measure("seal, subkey cached, not searchable", |i| {
        seal(&mut key, None, black_box(&pan), shown, &nonce(0, i))
    });
    measure("seal, new subkey", |i| seal(&mut key, Some(&equality), black_box(&pan), shown, &nonce(i, i)));
    measure("open, subkey cached", |_| open(&mut key, black_box(sealed.as_pan())));
    measure("open, new subkey", |i| {
        let sealed = if i % 2 == 0 { &sealed } else { &other };
        open(&mut key, black_box(sealed.as_pan()))
    });
    measure("check stored bytes", |_| Pan::from_stored(black_box(sealed.as_bytes())));
    measure("mask", |_| {
        let mut out = [0; 19];
        black_box(sealed.as_pan()).mask(&mut out);
        out
    });
    measure("compare", |_| black_box(sealed.as_pan()).cmp(&black_box(other.as_pan())));
    measure("hash32", |_| black_box(sealed.as_pan()).hash32());
    measure("write sealed form", |_| {
        text_form.clear();
        sealed.as_pan().write_text(&mut text_form);
    });
    measure("parse sealed form", |_| PanBuf::parse_sealed(black_box(&text_form)));
    measure("expand a data key", |_| DataKey::new(KeyId(1), black_box(&[1; 32])));
    Ok(())
}

fn measure<T>(name: &str, mut operation: impl FnMut(u32) -> T) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for i in 0..REPEATS {
            black_box(operation(i));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(REPEATS));
    }
    println!("{best:8.1} ns  {name}");
}

/// A nonce of which the halves can be varied: the first one decides the subkey. (Real nonces are
/// random.)
fn nonce(prefix: u32, rest: u32) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..4].copy_from_slice(&prefix.to_le_bytes());
    nonce[12..16].copy_from_slice(&rest.to_le_bytes());
    nonce
}
