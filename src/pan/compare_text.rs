//! Comparison with digits that the caller has as text: the key is needed, once a scan for each comparand.

use std::cmp::Ordering;

use pgpci_core::access::Capability;
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{self, PanBuf, cmp_equality, hash_equality};

use crate::access;
use crate::error::Result;
use crate::key::ring::DEFAULT_VAULT;
use crate::pg::call::{Call, Value};
use crate::pg::operand;

/// `pan = text`
pub fn eq(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? == Ordering::Equal).into())
}

/// `pan <> text`
pub fn ne(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? != Ordering::Equal).into())
}

/// `pan < text`
pub fn lt(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? == Ordering::Less).into())
}

/// `pan <= text`
pub fn le(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? != Ordering::Greater).into())
}

/// `pan > text`
pub fn gt(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? == Ordering::Greater).into())
}

/// `pan >= text`
pub fn ge(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? != Ordering::Less).into())
}

/// btree support function 1 for (pan, text)
pub fn cmp(call: &mut Call) -> Result<Value> {
    Ok((order(call, 0, 1)? as i32).into())
}

/// `text = pan`
pub fn text_eq(call: &mut Call) -> Result<Value> {
    Ok((order(call, 1, 0)? == Ordering::Equal).into())
}

/// `text <> pan`
pub fn text_ne(call: &mut Call) -> Result<Value> {
    Ok((order(call, 1, 0)? != Ordering::Equal).into())
}

/// `text < pan`
pub fn text_lt(call: &mut Call) -> Result<Value> {
    Ok((order(call, 1, 0)? == Ordering::Greater).into())
}

/// `text <= pan`
pub fn text_le(call: &mut Call) -> Result<Value> {
    Ok((order(call, 1, 0)? != Ordering::Less).into())
}

/// `text > pan`
pub fn text_gt(call: &mut Call) -> Result<Value> {
    Ok((order(call, 1, 0)? == Ordering::Less).into())
}

/// `text >= pan`
pub fn text_ge(call: &mut Call) -> Result<Value> {
    Ok((order(call, 1, 0)? != Ordering::Greater).into())
}

/// btree support function 1 for (text, text): the order of the hashes, in which `= ANY` walks the index
pub fn text_cmp(call: &mut Call) -> Result<Value> {
    let left = comparand(call, 0, None)?;
    Ok((left.cmp(&comparand(call, 1, None)?) as i32).into())
}

/// hash support function 1 for text: the hash that an equal card number has
pub fn hash(call: &mut Call) -> Result<Value> {
    let equality = comparand(call, 0, None)?;
    Ok((hash_equality(&equality, 0) as u32 as i32).into())
}

/// hash support function 2 for text
pub fn hash_extended(call: &mut Call) -> Result<Value> {
    let equality = comparand(call, 0, None)?;
    Ok((hash_equality(&equality, call.i64(1) as u64) as i64).into())
}

/// The comparand of the scan so far: a keyed fingerprint of its text, never the digits, and its hash.
#[derive(Clone, Copy)]
struct Cached {
    fingerprint: u64,
    vault: i32,
    hash: [u8; 16],
}

const UNCACHED: Cached = Cached { fingerprint: 0, vault: 0, hash: [0; 16] };

fn order(call: &mut Call, pan: usize, text: usize) -> Result<Ordering> {
    let hash = comparand(call, text, Some(pan))?;
    Ok(cmp_equality(call.pan(pan)?, &hash))
}

/// The equality hash of the comparand. Always a privilege: it builds a card number and compares it. Where no plan
/// bound it to the vault of the column (a constraint), the expression says which that is.
fn comparand(call: &mut Call, i: usize, column: Option<usize>) -> Result<[u8; 16]> {
    let fingerprint = super::fingerprint(call.bytes(i));
    let known = call.cache(UNCACHED).map_or(UNCACHED, |cached| *cached);
    let vault = match known.vault {
        0 => column.and_then(|column| operand::vault_of_argument(call, column)).unwrap_or(DEFAULT_VAULT),
        vault => vault,
    };
    access::require(Capability::Search, vault)?;
    if known.fingerprint == fingerprint {
        return Ok(known.hash);
    }
    let hash = hash_of(call.bytes(i), vault)?;
    if let Some(cached) = call.cache(UNCACHED) {
        *cached = Cached { fingerprint, vault, hash };
    }
    Ok(hash)
}

fn hash_of(text: &[u8], vault: i32) -> Result<[u8; 16]> {
    if seal::is_sealed_text(text) {
        let pan = PanBuf::parse_sealed(text)?;
        // A value without a hash equals nothing that has one.
        return Ok(pan.as_pan().equality().copied().unwrap_or([0xff; 16]));
    }
    super::equality_of(&ClearPan::parse(text)?, vault)
}
