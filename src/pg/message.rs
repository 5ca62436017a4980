//! What is done when the session has done with a message of its client in which something ran, or which failed, just
//! before it waits for the next one. PostgreSQL has no hook there, but it empties memory contexts, and tells whoever
//! asked.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::pg_sys::MemoryContextCallback as Callback;
use pgrx::{pg_guard, pg_sys};

use crate::pg::local::Local;

unsafe extern "C" {
    // Links into a list; raises nothing, and is called for every statement.
    fn MemoryContextRegisterResetCallback(context: pg_sys::MemoryContext, callback: *mut Callback);
}

type Action = Cell<Option<fn()>>;

static DO: Local<Action> = Local::new(Cell::new(None));
// Whether the message that is being done with is waited for.
static IS_GOING: Local<Cell<bool>> = Local::new(Cell::new(false));
// Whether the next error is.
static IS_WATCHING: Local<Cell<bool>> = Local::new(Cell::new(false));
// Each is in one list at most, which it leaves when it is called. Put there again at once, it would be called again.
static mut AT_MESSAGE: Callback = callback(message_is_over);
static mut AT_ERROR: Callback = callback(error_is_over);

const fn callback(f: unsafe extern "C-unwind" fn(*mut c_void)) -> Callback {
    Callback { func: Some(f), arg: std::ptr::null_mut(), next: std::ptr::null_mut() }
}

/// Does this once the message is over in which it is asked for, and from now on after each error: it must neither raise
/// nor read catalogs.
#[inline]
pub fn when_over(f: fn()) {
    if IS_GOING.get() {
        return;
    }
    DO.set(Some(f));
    // SAFETY: contexts of this process; the callback is in no list.
    unsafe {
        // At login there is none yet.
        if !pg_sys::MessageContext.is_null() {
            IS_GOING.set(true);
            MemoryContextRegisterResetCallback(pg_sys::MessageContext, &raw mut AT_MESSAGE);
        }
    }
    watch();
}

/// An error of the protocol is in no statement.
fn watch() {
    if !IS_WATCHING.replace(true) {
        // SAFETY: as above.
        unsafe { MemoryContextRegisterResetCallback(pg_sys::ErrorContext, &raw mut AT_ERROR) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn message_is_over(_arg: *mut c_void) {
    if let Some(f) = DO.get() {
        f();
    }
    IS_GOING.set(false);
    watch();
}

#[pg_guard]
unsafe extern "C-unwind" fn error_is_over(_arg: *mut c_void) {
    // This has its message done with, which watches again.
    if let Some(f) = DO.get() {
        f();
    }
    IS_WATCHING.set(false);
}
