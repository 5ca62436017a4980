//! `pgpci.app_user`, read without a copy: the log hook needs it where nothing may be allocated.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

static mut VALUE: *mut c_char = std::ptr::null_mut();

/// Defines the setting; called once, while the library is preloaded.
pub fn define() {
    // SAFETY: in the postmaster; the texts are static, and the place is PostgreSQL's from now on.
    unsafe {
        pg_sys::DefineCustomStringVariable(
            c"pgpci.app_user".as_ptr(),
            c"The end user on whose behalf the application works, for the audit trail.".as_ptr(),
            std::ptr::null(),
            &raw mut VALUE,
            c"".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            0,
            None,
            None,
            None,
        );
    }
}

/// Calls `f` with the value, if there is one.
pub fn with<T>(f: impl FnOnce(&[u8]) -> T) -> Option<T> {
    // SAFETY: a C string that lives until the setting changes, or null.
    unsafe {
        let value = VALUE;
        (!value.is_null() && *value != 0).then(|| f(CStr::from_ptr(value).to_bytes()))
    }
}
