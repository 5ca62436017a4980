//! Keeps input out of what PostgreSQL adds to an error: COPY and Bind add the value that they were reading, SPI the
//! statement, and with the position in a statement clients print the line that it points at. All other context stays.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::pg::compat;

unsafe extern "C-unwind" {
    // Variadic, and not in pg_sys.
    fn errcontext_msg(format: *const core::ffi::c_char, ...) -> core::ffi::c_int;
}

/// The stack of the error that is being raised: what was kept, and what stands for what was not.
#[derive(Default)]
struct Stack {
    frames: Vec<pg_sys::ErrorContextCallback>,
    texts: Vec<CString>,
}

thread_local! {
    static STACK: RefCell<Stack> = RefCell::default();
}

/// Call it right before an error is raised about a value that may hold digits. Whoever catches the error puts back
/// the stack that was there before, as PostgreSQL does after every error.
pub fn hide_input_in_context() {
    // SAFETY: the stack is a list of frames that live until the error has passed them; nothing else touches it meanwhile.
    unsafe {
        let mut stack = Stack::default();
        let mut frame = pg_sys::error_context_stack;
        while !frame.is_null() {
            let said = what_it_says(&*frame);
            match without_input(&said) {
                // What says nothing sets the position.
                _ if said.is_empty() => {}
                None => stack.frames.push(*frame),
                Some(text) => {
                    let arg = std::ptr::without_provenance_mut(stack.texts.len());
                    stack.texts.push(CString::new(text).unwrap_or_default());
                    let callback = Some(say as unsafe extern "C-unwind" fn(_));
                    stack.frames.push(pg_sys::ErrorContextCallback {
                        previous: std::ptr::null_mut(),
                        callback,
                        arg,
                    });
                }
            }
            frame = (*frame).previous;
        }
        STACK.with_borrow_mut(|place| {
            *place = stack;
            let first = place.frames.as_mut_ptr();
            let count = place.frames.len();
            for i in 0..count {
                (*first.add(i)).previous =
                    if i + 1 < count { first.add(i + 1) } else { std::ptr::null_mut() };
            }
            pg_sys::error_context_stack = if count > 0 { first } else { std::ptr::null_mut() };
        });
    }
}

/// # Safety
/// `frame` is a frame of the error context stack.
unsafe fn what_it_says(frame: &pg_sys::ErrorContextCallback) -> String {
    let mut alone = pg_sys::ErrorContextCallback { previous: std::ptr::null_mut(), ..*frame };
    // SAFETY: by contract; GetErrorContextStack returns a palloc'd string or null.
    unsafe {
        let whole = pg_sys::error_context_stack;
        pg_sys::error_context_stack = &raw mut alone;
        let text = pg_sys::GetErrorContextStack();
        pg_sys::error_context_stack = whole;
        if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}

/// Hands an error about a value to a caller of an input function that asked for it; false if it did not.
pub fn save(
    context: *mut pg_sys::Node,
    sqlstate: pgrx::PgSqlErrorCode,
    message: &str,
    hint: Option<&str>,
) -> bool {
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let (message, hint) = (text(message), hint.map(text));
    // SAFETY: the context of a call is a node or null.
    unsafe { compat::save_error(context, sqlstate as i32, &message, hint.as_deref()) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn say(arg: *mut core::ffi::c_void) {
    // The pointer leaves the borrow: an error in errcontext_msg must not keep it.
    let text = STACK.with_borrow(|stack| stack.texts.get(arg.addr()).map(|t| (t.as_ptr(), t.is_empty())));
    if let Some((text, false)) = text {
        // SAFETY: called by errfinish while it builds the error; the text is not changed meanwhile.
        #[allow(ffi_unwind_calls, reason = "plain old frame")]
        unsafe {
            errcontext_msg(c"%s".as_ptr(), text);
        }
    }
}

/// What is left of a frame's text without the input it quotes; None: it quotes none.
/// `COPY t, line 1, column card: "…"` and `portal parameter $1 = '…'` end before the value; a statement that holds a
/// literal goes altogether.
pub fn without_input(text: &str) -> Option<String> {
    let mark = if text.starts_with("COPY ") {
        ": \""
    } else if text.contains("portal ") && text.contains("parameter $") {
        " = "
    } else {
        return holds_literal(text).then(String::new);
    };
    text.split_once(mark).map(|(before, _)| before.to_owned())
}

/// Whether a text holds an SQL literal: a quoted one ('…', $tag$…$tag$), or more digits than a line number has.
fn holds_literal(text: &str) -> bool {
    let dollar_quoted = text.match_indices('$').any(|(at, _)| {
        let tag = text[at + 1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map(|len| at + 1 + len);
        tag.is_some_and(|end| text[end..].starts_with('$'))
    });
    dollar_quoted || text.contains('\'') || text.bytes().filter(u8::is_ascii_digit).count() >= 6
}
