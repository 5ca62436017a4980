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
    CONTEXT.with_borrow(|context| {
        if !context.is_empty() {
            // SAFETY: called by errfinish while it builds the error.
            #[allow(ffi_unwind_calls, reason = "errcontext_msg raises only when memory is out")]
            unsafe {
                errcontext_msg(c"%s".as_ptr(), context.as_ptr());
            }
        }
    });
}

/// `COPY t, line 1, column card: "…"` and `portal parameter $1 = '…'` end before the value; what quotes SQL
/// text goes altogether.
fn without_values(context: &str) -> String {
    let line = |line: &str| -> Option<String> {
        let copy = line.starts_with("COPY ").then(|| line.split_once(": \"").map(|(kept, _)| kept)).flatten();
        let bind = line.contains("portal").then(|| line.split_once(" = ").map(|(kept, _)| kept)).flatten();
        let quotes_sql = line.starts_with("SQL statement") || line.starts_with("SQL expression");
        let holds_digits =
            line.bytes().filter(u8::is_ascii_digit).count() >= 12 && !line.starts_with("COPY ");
        match copy.or(bind) {
            Some(kept) => Some(kept.to_owned()),
            None if quotes_sql || holds_digits => None,
            None => Some(line.to_owned()),
        }
    };
    // A value may run over several lines: what follows a cut line up to the next known beginning goes too.
    context.lines().filter_map(line).collect::<Vec<_>>().join("\n")
}
