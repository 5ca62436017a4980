//! Comparison of stored values: by their equality hash, without a key, a total order without meaning.

use std::cmp::Ordering;

use pgpci_core::seal::cmp_stored;

use crate::access::{conflicts, search};
use crate::error::Result;
use crate::pg::call::{Call, Value};
use crate::pg::session;

/// `=`
pub fn eq(call: &mut Call) -> Result<Value> {
    Ok((order(call)? == Ordering::Equal).into())
}

/// `<>`
pub fn ne(call: &mut Call) -> Result<Value> {
    Ok((order(call)? != Ordering::Equal).into())
}

/// `<`
pub fn lt(call: &mut Call) -> Result<Value> {
    Ok((order(call)? == Ordering::Less).into())
}

/// `<=`
pub fn le(call: &mut Call) -> Result<Value> {
    Ok((order(call)? != Ordering::Greater).into())
}

/// `>`
pub fn gt(call: &mut Call) -> Result<Value> {
    Ok((order(call)? == Ordering::Greater).into())
}

/// `>=`
pub fn ge(call: &mut Call) -> Result<Value> {
    Ok((order(call)? != Ordering::Less).into())
}

/// btree support function 1
pub fn cmp(call: &mut Call) -> Result<Value> {
    let order = order(call)?;
    if order == Ordering::Equal {
        conflicts::found_equal()?;
    }
    Ok((order as i32).into())
}

/// hash support function 1
pub fn hash(call: &mut Call) -> Result<Value> {
    search::require_in(call)?;
    if call.is_for_statistics() {
        return Ok((super::fingerprint(call.bytes(0)) as i32).into());
    }
    Ok((call.pan(0)?.hash32() as i32).into())
}

/// hash support function 2: chooses hash partitions, for a write or for whoever asks
pub fn hash_extended(call: &mut Call) -> Result<Value> {
    search::require_in(call)?;
    if !conflicts::is_writing() && session::has_client() {
        search::require()?;
    }
    Ok((call.pan(0)?.hash64(call.i64(1) as u64) as i64).into())
}

fn order(call: &Call) -> Result<Ordering> {
    search::require_in(call)?;
    // Statistics would tell which numbers are equal: to them each stored value is one of its own.
    if call.is_for_statistics() {
        return Ok(call.bytes(0).cmp(call.bytes(1)));
    }
    Ok(cmp_stored(call.bytes(0), call.bytes(1))?)
}
