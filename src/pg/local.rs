//! Variables of one backend. A thread-local one costs a library a call each time it is asked for, and some of these are
//! asked for several times a statement.

use std::cell::RefCell;
use std::ops::Deref;

/// A static variable of this process, which has one thread: nothing threaded runs in a PostgreSQL process.
pub struct Local<T>(T);

// SAFETY: there is no other thread to share it with.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// With this value at first.
    pub const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

// As a thread-local variable has them.
impl<T> Local<RefCell<T>> {
    /// Calls `f` with the value.
    pub fn with_borrow<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.0.borrow())
    }

    /// Calls `f` with the value, to be changed.
    pub fn with_borrow_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    /// Another value.
    pub fn set(&self, value: T) {
        self.0.replace(value);
    }
}
