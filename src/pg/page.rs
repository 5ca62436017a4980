//! Where a value lies.

use pgrx::pg_sys;

/// Whether the bytes lie in a page of the shared buffers: a value of a table or index as it is there. A btree copies
/// what it is to insert before it compares.
pub fn is_on_page(bytes: &[u8]) -> bool {
    // SAFETY: reads variables that are final since the server started; only addresses are compared.
    let (start, pages) = unsafe { (pg_sys::BufferBlocks as usize, pg_sys::NBuffers as usize) };
    (bytes.as_ptr() as usize).wrapping_sub(start) < pages * pg_sys::BLCKSZ as usize
}
