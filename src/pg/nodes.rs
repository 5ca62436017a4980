//! Lists as PostgreSQL's trees have them.

use pgrx::pg_sys;

/// The elements of a list of nodes.
///
/// # Safety
/// `list` is null or a valid list of pointers that outlives the iterator.
pub unsafe fn list(list: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::Node> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    // SAFETY: by contract, i < length.
    (0..length).map(move |i| unsafe { (*(*list).elements.add(i as usize)).ptr_value.cast() })
}

/// The elements of a list of OIDs.
///
/// # Safety
/// `list` is null or a valid list of OIDs that outlives the iterator.
pub unsafe fn oids(list: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    // SAFETY: by contract.
    (0..length).map(move |i| unsafe { (*(*list).elements.add(i as usize)).oid_value })
}

/// The elements of a list of integers.
///
/// # Safety
/// `list` is null or a valid list of integers that outlives the iterator.
pub unsafe fn integers(list: *mut pg_sys::List) -> impl Iterator<Item = i32> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    // SAFETY: by contract.
    (0..length).map(move |i| unsafe { (*(*list).elements.add(i as usize)).int_value })
}
