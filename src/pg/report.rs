//! Keeps input out of the context lines of an error: COPY and Bind add the value that they were reading.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

unsafe extern "C-unwind" {
    // Variadic, and not in pg_sys.
    fn errcontext_msg(format: *const core::ffi::c_char, ...) -> core::ffi::c_int;
}

thread_local! {
    static CONTEXT: RefCell<CString> = RefCell::new(CString::default());
}

static mut CALLBACK: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(add),
    arg: std::ptr::null_mut(),
};

/// Call it right before an error is raised about a value that may hold digits: the context lines stay, but
/// for the value they quote.
pub fn hide_input_in_context() {
    // SAFETY: GetErrorContextStack returns a palloc'd string or null. Whoever catches the error puts back the
    // stack that was there before, as PostgreSQL does after every error.
    unsafe {
        if pg_sys::error_context_stack.is_null() {
            return;
        }
        let text = pg_sys::GetErrorContextStack();
        let text =
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        CONTEXT.set(CString::new(without_values(&text)).unwrap_or_default());
        pg_sys::error_context_stack = &raw mut CALLBACK;
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn add(_arg: *mut core::ffi::c_void) {
    // The pointer leaves the borrow: an error in errcontext_msg must not keep it.
    let (text, empty) = CONTEXT.with_borrow(|context| (context.as_ptr(), context.is_empty()));
    if !empty {
        // SAFETY: called by errfinish while it builds the error; CONTEXT is not set meanwhile.
        #[allow(ffi_unwind_calls, reason = "plain old frame")]
        unsafe {
            errcontext_msg(c"%s".as_ptr(), text);
        }
    }
}

/// `COPY t, line 1, column card: "…"` and `portal parameter $1 = '…'` end before the value, which may run over
/// several lines: what follows goes too, up to a line that only PostgreSQL writes. What quotes SQL goes altogether.
pub fn without_values(context: &str) -> String {
    let mut kept = Vec::new();
    let mut in_value = false;
    for line in context.lines() {
        let copy = line.starts_with("COPY ");
        let bind = line.contains("portal ") && line.contains("parameter $");
        if copy || bind {
            let mark = if copy { ": \"" } else { " = " };
            in_value = line.contains(mark);
            kept.push(line.split_once(mark).map_or(line, |(before, _)| before));
        } else if line.starts_with("PL/pgSQL function ") || line.starts_with("SQL function ") {
            in_value = false;
            kept.push(line);
        } else if !in_value && line.starts_with("while ") {
            kept.push(line);
        }
    }
    kept.join("\n")
}
