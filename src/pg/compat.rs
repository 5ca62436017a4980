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
