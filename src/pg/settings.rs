//! Settings by their names.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::audited::text;

/// A setting's value as SHOW prints it; empty if there is none, or no such setting in this version.
pub fn value(name: &CStr) -> String {
    // SAFETY: a C string; missing_ok, and no privileges are asked for. The result is null or a C string.
    text(unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) })
}
