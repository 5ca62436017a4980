//! What differs between PostgreSQL 15, 16, 17 and 18.

use pgrx::pg_sys;

/// Column `i` of a row descriptor.
///
/// # Safety
/// `descriptor` is valid and has more than `i` columns.
pub unsafe fn attribute(descriptor: pg_sys::TupleDesc, i: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: by contract; 18 moved the attributes behind an array of compact ones.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return (*descriptor).attrs.as_ptr().add(i);
        #[cfg(feature = "pg18")]
        return (*descriptor)
            .compact_attrs
            .as_ptr()
            .add((*descriptor).natts as usize)
            .cast::<pg_sys::FormData_pg_attribute>()
            .add(i);
    }
}

/// Whether a partition specification is by hash: a string until 15, an enumeration since.
///
/// # Safety
/// `specification` is a valid parse node.
pub unsafe fn is_hash_partitioned(specification: *mut pg_sys::PartitionSpec) -> bool {
    // SAFETY: by contract.
    unsafe {
        #[cfg(feature = "pg15")]
        return std::ffi::CStr::from_ptr((*specification).strategy).to_bytes().eq_ignore_ascii_case(b"hash");
        #[cfg(not(feature = "pg15"))]
        return (*specification).strategy == pg_sys::PartitionStrategy::PARTITION_STRATEGY_HASH;
    }
}

/// What PostgreSQL's tree walkers call for each node.
pub type Walker = Option<unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut core::ffi::c_void) -> bool>;

unsafe extern "C-unwind" {
    /// PostgreSQL's own, without pgrx's guard: for walkers that are plain old frames.
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut core::ffi::c_void,
        flags: core::ffi::c_int,
    ) -> bool;

    /// See `query_tree_walker`.
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(
        node: *mut pg_sys::Node,
        walker: Walker,
        context: *mut core::ffi::c_void,
    ) -> bool;
}
