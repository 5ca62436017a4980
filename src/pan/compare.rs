//! Comparison of stored values: by their equality hash, without a key, a total order without meaning.

use std::cmp::Ordering;

use pgpci_core::seal::{Pan, cmp_stored};

use crate::access::{conflicts, search};
use crate::error::Result;
use crate::pg::call::{Call, Value};
use crate::pg::page;

/// `=`; an exclusion constraint calls it with what is there and what is being written.
pub fn eq(call: &mut Call) -> Result<Value> {
    let order = order(call)?;
    if !call.is_from_expression() {
        conflicts::written(call.bytes(1))?;
    }
    Ok((order == Ordering::Equal).into())
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
    search::require_in(call)?;
    let written = call.bytes(1);
    let order = cmp_stored(call.bytes(0), written)?;
    // An index compares what it has with what is being written. Where a page is split it compares two of its own.
    if !page::is_on_page(written) {
        conflicts::written(written)?;
    }
    if order == Ordering::Equal {
        conflicts::found_equal()?;
    }
    Ok((order as i32).into())
}

/// hash support function 1
pub fn hash(call: &mut Call) -> Result<Value> {
    Ok((hashed(call)?.hash32() as i32).into())
}

/// hash support function 2
pub fn hash_extended(call: &mut Call) -> Result<Value> {
    Ok((hashed(call)?.hash64(call.i64(1) as u64) as i64).into())
}

/// An index, or a partitioned table, hashes what is being written.
fn hashed(call: &Call) -> Result<Pan<'_>> {
    search::require_in(call)?;
    let pan = call.pan(0)?;
    conflicts::written(pan.bytes())?;
    Ok(pan)
}

fn order(call: &Call) -> Result<Ordering> {
    search::require_in(call)?;
    Ok(cmp_stored(call.bytes(0), call.bytes(1))?)
}
