//! What PostgreSQL is about to write to its log and to tell the client. Nothing here takes a lock, waits, raises, or
//! allocates: the code that failed may hold anything.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

use crate::pg::{port, session};

/// An error or message on its way.
pub struct Message<'a> {
    data: &'a mut pg_sys::ErrorData,
}

impl<'a> Message<'a> {
    /// What emit_log_hook gets.
    ///
    /// # Safety
    /// `data` is valid, and nobody else's meanwhile.
    pub unsafe fn new(data: *mut pg_sys::ErrorData) -> Option<Message<'a>> {
        // SAFETY: by contract. The postmaster's own messages are left alone.
        unsafe { data.as_mut().filter(|_| pg_sys::IsUnderPostmaster).map(|data| Message { data }) }
    }

    /// Whether a statement or session fails by it.
    pub fn is_failure(&self) -> bool {
        self.data.elevel >= pgrx::PgLogLevel::ERROR as i32
    }

    /// Whether the session ends by it.
    pub fn is_fatal(&self) -> bool {
        self.data.elevel >= pg_sys::FATAL as i32
    }

    /// Its SQLSTATE.
    pub fn sqlstate(&self) -> [u8; 5] {
        let code = self.data.sqlerrcode as u32;
        [0, 6, 12, 18, 24].map(|shift| ((code >> shift) & 0x3f) as u8 + b'0')
    }

    /// Whether it tells of a replication command, which is about to run. By its text before translation.
    pub fn is_replication_command(&self) -> bool {
        const TEXT: &CStr = c"received replication command: %s";
        let id = self.data.message_id;
        // SAFETY: a static C string.
        !id.is_null() && unsafe { CStr::from_ptr(id) } == TEXT
    }

    /// Whether it prints a tree of a query, for `debug_print_parse` and its like. Its title is not translated.
    pub fn is_tree(&self) -> bool {
        matches!(self.text(), b"parse tree:" | b"rewritten parse tree:" | b"plan:" | b"raw parse tree:")
    }

    /// Calls `f` with its detail, in place.
    pub fn with_detail(&mut self, f: impl FnMut(&mut [u8])) {
        // SAFETY: a palloc'd C string or null.
        unsafe { with_text(self.data.detail, f) }
    }

    /// Neither log nor client is told where in the code it was raised.
    pub fn forget_place(&mut self) {
        self.data.filename = std::ptr::null();
        self.data.funcname = std::ptr::null();
        self.data.lineno = 0;
    }

    /// Nobody else is told of it: the one change that PostgreSQL allows.
    pub fn keep_out_of_log(&mut self) {
        self.data.output_to_server = false;
    }

    /// Its text.
    pub fn text(&self) -> &[u8] {
        // SAFETY: a C string or null.
        if self.data.message.is_null() {
            &[]
        } else {
            // SAFETY: PostgreSQL's own C string.
            unsafe { CStr::from_ptr(self.data.message) }.to_bytes()
        }
    }

    /// Calls `f` with `schema.table` of the table that it is about, if it says so.
    pub fn with_table(&self, f: impl FnOnce(&[u8])) {
        let (schema, table) = (self.data.schema_name, self.data.table_name);
        if schema.is_null() || table.is_null() {
            return;
        }
        // SAFETY: C strings.
        let parts = unsafe { [CStr::from_ptr(schema).to_bytes(), b".", CStr::from_ptr(table).to_bytes()] };
        let mut name = [0; 2 * pg_sys::NAMEDATALEN as usize];
        let mut len = 0;
        for part in parts {
            let Some(place) = name.get_mut(len..len + part.len()) else { return };
            place.copy_from_slice(part);
            len += part.len();
        }
        f(&name[..len]);
    }

    /// Calls `f` with each of its texts, in place. PostgreSQL has copied every one of them.
    pub fn for_each_text(&mut self, mut f: impl FnMut(&mut [u8])) {
        let data = &*self.data;
        for text in [data.message, data.detail, data.detail_log, data.hint, data.context, data.internalquery]
        {
            // SAFETY: a palloc'd C string or null.
            unsafe { with_text(text, &mut f) };
        }
    }
}

/// Calls `f` with the text that the client sent, in place, wherever PostgreSQL has it: what it prints as STATEMENT, and
/// what later hooks are given. True if `f` changed it. Only in a client's session: elsewhere it may be a constant.
pub fn with_client_text(mut f: impl FnMut(&mut [u8]) -> bool) -> bool {
    if !port::has_client() {
        return false;
    }
    // SAFETY: in a client's session these are the message, or copies of it that PostgreSQL made for the statement
    // and the portal; what was parsed does not look at them again. Lengths stay.
    unsafe {
        let statement = pg_sys::debug_query_string;
        let portal = pg_sys::ActivePortal.as_ref().map_or(std::ptr::null(), |portal| portal.sourceText);
        let mut changed = false;
        with_text(statement.cast_mut(), |text| changed |= f(text));
        // Mostly a copy of the same.
        if portal != statement && !is_same(portal, statement) {
            with_text(portal.cast_mut(), |text| changed |= f(text));
        }
        changed
    }
}

/// # Safety
/// C strings or null.
unsafe fn is_same(one: *const c_char, other: *const c_char) -> bool {
    // SAFETY: by contract.
    unsafe { !one.is_null() && !other.is_null() && CStr::from_ptr(one) == CStr::from_ptr(other) }
}

/// Whether errors are not logged, so that nobody is told of them; and one of them is undoing the transaction: its
/// statement is over, and nothing was said to that end.
pub fn fails_silently() -> bool {
    // SAFETY: reads backend-local variables.
    unsafe {
        pg_sys::log_min_messages > pgrx::PgLogLevel::ERROR as i32 && pg_sys::debug_query_string.is_null()
    }
}

/// Whether a statement of the client's is running.
pub fn has_client_text() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { !pg_sys::debug_query_string.is_null() }
}

/// The text that the client sent.
pub fn client_text<'a>() -> &'a [u8] {
    // SAFETY: a C string or null.
    unsafe {
        let text = pg_sys::debug_query_string;
        if text.is_null() { &[] } else { CStr::from_ptr(text).to_bytes() }
    }
}

/// Whether a text is what `with_client_text` goes over.
pub fn is_client_text(text: *const c_char) -> bool {
    // SAFETY: only addresses are compared.
    let portal =
        unsafe { pg_sys::ActivePortal.as_ref().map_or(std::ptr::null(), |portal| portal.sourceText) };
    // SAFETY: reads a backend-local variable.
    let statement = unsafe { pg_sys::debug_query_string };
    port::has_client() && !text.is_null() && (text == portal || text == statement)
}

/// Where that text is, and when the statement began: the same as before means that it was seen before.
pub fn client_text_mark() -> (usize, usize, i64) {
    // SAFETY: reads backend-local variables.
    unsafe {
        let portal = pg_sys::ActivePortal.as_ref().map_or(0, |portal| portal.sourceText as usize);
        (pg_sys::debug_query_string as usize, portal, session::statement_start())
    }
}

/// Shows the text as it is now in pg_stat_activity.
pub fn show_client_text() {
    // SAFETY: takes no lock; the text is copied.
    unsafe {
        if !pg_sys::debug_query_string.is_null() {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, pg_sys::debug_query_string);
        }
    }
}

/// # Safety
/// `text` is a C string that may be changed, or null.
unsafe fn with_text(text: *mut c_char, mut f: impl FnMut(&mut [u8])) {
    if !text.is_null() {
        // SAFETY: by contract.
        unsafe {
            let len = CStr::from_ptr(text).to_bytes().len();
            f(std::slice::from_raw_parts_mut(text.cast(), len));
        }
    }
}
