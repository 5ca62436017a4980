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
