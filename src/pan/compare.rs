//! Comparison of stored values: by their equality hash, without a key, a total order without meaning.

use std::cmp::Ordering;

use pgpci_core::seal::cmp_stored;

use crate::access::{indexing, search};
use crate::error::Result;
use crate::pg::call::{Call, Value};

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
    Ok((order(call)? as i32).into())
}

/// hash support function 1
pub fn hash(call: &mut Call) -> Result<Value> {
    match asks(call)? {
        // Statistics would tell which numbers are equal: to them each stored value is one of its own.
        Asks::Statistics => return Ok((super::fingerprint(call.bytes(0)) as i32).into()),
        Asks::Index => indexing::check_hash(call.is_by_index())?,
        Asks::Expression => {}
    }
    Ok((call.pan(0)?.hash32() as i32).into())
}

/// hash support function 2: chooses hash partitions, for a write or for whoever asks
pub fn hash_extended(call: &mut Call) -> Result<Value> {
    if asks(call)? != Asks::Expression {
        indexing::check(call.is_by_index())?;
    }
    Ok((call.pan(0)?.hash64(call.i64(1) as u64) as i64).into())
}

fn order(call: &Call) -> Result<Ordering> {
    match asks(call)? {
        Asks::Expression => Ok(cmp_stored(call.bytes(0), call.bytes(1))?),
        Asks::Statistics => Ok(call.bytes(0).cmp(call.bytes(1))),
        Asks::Index => {
            indexing::check(call.is_by_index())?;
            let (a, b) = (call.pan(0)?, call.pan(1)?);
            let order = a.cmp(&b);
            if order == Ordering::Equal {
                indexing::found_equal(a, b)?;
            }
            Ok(order)
        }
    }
}

/// Who asks.
#[derive(PartialEq, Eq)]
enum Asks {
    /// An expression, or a comparison of arrays or rows, by a user who may compare.
    Expression,
    /// ANALYZE.
    Statistics,
    /// An index, a partition, a sort.
    Index,
}

fn asks(call: &Call) -> Result<Asks> {
    if call.is_for_statistics() {
        return Ok(Asks::Statistics);
    }
    match search::require_in(call)? {
        true => Ok(Asks::Expression),
        false => Ok(Asks::Index),
    }
}
