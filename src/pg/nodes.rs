//! Lists as PostgreSQL's trees have them.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

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

/// The elements of a node that may be a list of nodes: none where it is another.
///
/// # Safety
/// `node` is null or a valid node that outlives the iterator.
pub unsafe fn list_of(node: *mut pg_sys::Node) -> impl Iterator<Item = *mut pg_sys::Node> {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let is_list = !node.is_null() && (*node).type_ == NodeTag::T_List;
        list(if is_list { node.cast() } else { std::ptr::null_mut() })
    }
}

/// The text of a node that may be a string: None where it is another, such as a star.
///
/// # Safety
/// `node` is null or a valid node that outlives the text.
pub unsafe fn string<'a>(node: *mut pg_sys::Node) -> Option<&'a CStr> {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let is_string = !node.is_null() && (*node).type_ == NodeTag::T_String;
        is_string.then(|| CStr::from_ptr((*node.cast::<pg_sys::String>()).sval))
    }
}
