//! Keeps input out of the context of an error: COPY and Bind add the value that they were reading, SPI the statement.
//! All other context, and the position in the statement, stays as PostgreSQL has it.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

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
                None => stack.frames.push(*frame),
                Some(text) => {
                    let is_statement = text.is_empty();
                    // The number of the text, and whether the position belongs to a statement that is hidden.
                    let arg = stack.texts.len() << 1 | usize::from(is_statement);
                    stack.texts.push(CString::new(text).unwrap_or_default());
                    let arg = std::ptr::without_provenance_mut(arg);
                    stack.frames.push(pg_sys::ErrorContextCallback {
                        previous: std::ptr::null_mut(),
                        callback: Some(say),
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

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn say(arg: *mut core::ffi::c_void) {
    let arg = arg.addr();
    // The pointer leaves the borrow: an error in errcontext_msg must not keep it.
    let text =
        STACK.with_borrow(|stack| stack.texts.get(arg >> 1).map(|text| (text.as_ptr(), text.is_empty())));
    // SAFETY: called by errfinish while it builds the error; the text is not changed meanwhile.
    #[allow(ffi_unwind_calls, reason = "plain old frame")]
    unsafe {
        if arg & 1 == 1 {
            pg_sys::errposition(0);
        }
        if let Some((text, false)) = text {
            errcontext_msg(c"%s".as_ptr(), text);
        }
    }
}

/// What is left of a frame's text without the input it quotes; None: it quotes none.
/// `COPY t, line 1, column card: "…"` and `portal parameter $1 = '…'` end before the value; a statement with more
/// than a few digits goes altogether.
fn without_input(text: &str) -> Option<String> {
    let mark = if text.starts_with("COPY ") {
        ": \""
    } else if text.contains("portal ") && text.contains("parameter $") {
        " = "
    } else {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        return (digits >= FEW).then(String::new);
    };
    text.split_once(mark).map(|(before, _)| before.to_owned())
}

/// Fewer digits than that are none of a card number's but its mask's.
const FEW: usize = 6;
