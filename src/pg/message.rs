//! What is done each time the session has done with a message of its client, whatever came of it, just before it waits
//! for the next one. PostgreSQL has no hook there, but it empties a memory context, and tells whoever asked.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::pg_sys::MemoryContextCallback as Callback;
use pgrx::{pg_guard, pg_sys};

use crate::pg::local::Local;

type Action = Cell<Option<fn()>>;

static DO: Local<Action> = Local::new(Cell::new(None));
static IS_GOING: Local<Cell<bool>> = Local::new(Cell::new(false));
// Each is in one list at most, which it leaves when it is called.
static mut AT_MESSAGE: Callback = callback(message_is_over);
static mut AT_CHILD: Callback = callback(child_goes);
static mut AT_ERROR: Callback = callback(error_is_over);

const fn callback(f: unsafe extern "C-unwind" fn(*mut c_void)) -> Callback {
    Callback { func: Some(f), arg: std::ptr::null_mut(), next: std::ptr::null_mut() }
}

/// From now on, does this: it must neither raise nor read catalogs. Called again, it costs a look.
pub fn when_over(f: fn()) {
    if IS_GOING.get() {
        return;
    }
    let is_first = DO.replace(Some(f)).is_none();
    // SAFETY: contexts of this process; each callback is put into a list that it is not in.
    unsafe {
        if !pg_sys::MessageContext.is_null() {
            IS_GOING.set(true);
            pg_sys::MemoryContextRegisterResetCallback(pg_sys::MessageContext, &raw mut AT_MESSAGE);
        } else if is_first {
            // At login there is none yet, and the first message may be an error that nothing else tells of.
            pg_sys::MemoryContextRegisterResetCallback(pg_sys::ErrorContext, &raw mut AT_ERROR);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn error_is_over(_arg: *mut c_void) {
    if let Some(f) = DO.get() {
        when_over(f);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn message_is_over(_arg: *mut c_void) {
    // In its own list again, it would be called again at once; a child goes first when the next message is over.
    // SAFETY: the context is being emptied, and its children are gone: this one stays until next time.
    unsafe {
        let child = pg_sys::AllocSetContextCreateInternal(
            pg_sys::MessageContext,
            c"pgpci message".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
        );
        pg_sys::MemoryContextRegisterResetCallback(child, &raw mut AT_CHILD);
    }
    if let Some(f) = DO.get() {
        f();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn child_goes(_arg: *mut c_void) {
    // SAFETY: its parent is there, and is emptied next.
    unsafe { pg_sys::MemoryContextRegisterResetCallback(pg_sys::MessageContext, &raw mut AT_MESSAGE) }
}
