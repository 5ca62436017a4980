//! A call of one of our SQL functions: typed arguments in, a datum out, without an allocation of its own.

use std::cmp::Ordering;
use std::ffi::CStr;

use pgpci_core::seal::{self, Pan};
use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::activity::{self, Permit};
use crate::pg::caller;

unsafe extern "C" {
    // Unguarded: with the flag below it raises nothing for the few bytes that a value takes.
    fn palloc_extended(size: usize, flags: core::ffi::c_int) -> *mut core::ffi::c_void;
}

/// Memory in the current context, as `palloc` gives it; for each value, so without setting up a place to jump to.
///
/// # Safety
/// Called inside a backend.
unsafe fn allocate(size: usize) -> *mut core::ffi::c_void {
    // SAFETY: by contract. Where there is no memory, `palloc` says so.
    unsafe {
        let place = palloc_extended(size, pg_sys::MCXT_ALLOC_NO_OOM as core::ffi::c_int);
        if place.is_null() { pg_sys::palloc(size) } else { place }
    }
}

/// How the two card numbers of a call compare, if an index, sort or join calls that may be answered at once, and both are
/// searchable and in place; None: look closer. Never raises.
///
/// # Safety
/// `fcinfo` is a call with two card numbers, none of them NULL.
#[inline]
pub unsafe fn quick_order(fcinfo: pg_sys::FunctionCallInfo) -> Option<Ordering> {
    // SAFETY: by contract.
    unsafe {
        let permit = activity::permit();
        if permit == Permit::None || !caller::is_index_or_sort((*fcinfo).flinfo) {
            return None;
        }
        let args = (*fcinfo).args.as_ptr();
        fetch_hash((*args).value);
        let (a, b) = (plain_bytes((*args).value)?, plain_bytes((*args.add(1)).value)?);
        seal::cmp_searchable(a, b).filter(|order| *order != Ordering::Equal || permit == Permit::All)
    }
}

/// Has the processor bring the end of a stored value near, where its equality hash is: on another line of its caches
/// than the beginning mostly, which tells where the end is. An index asks for values that no cache holds.
#[inline]
fn fetch_hash(stored: pg_sys::Datum) {
    /// Behind a header of one byte; the hash is the last 16.
    const OFFSET: usize = 1 + seal::MAX_SEALED - 16;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: nothing is read; any address may be named.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(stored.cast_mut_ptr::<i8>().wrapping_add(OFFSET)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (stored, OFFSET);
}

/// The result of a function as PostgreSQL wants it.
pub type Value = pg_sys::Datum;

/// One call: the arguments, and whether an expression (rather than an index or a sort) makes it.
pub struct Call {
    fcinfo: pg_sys::FunctionCallInfo,
}

impl Call {
    /// # Safety
    /// `fcinfo` is what fmgr passed, valid for the whole call.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self { fcinfo }
    }

    /// What the caller says of the result that it takes: a node, or null.
    pub fn result_info(&self) -> *mut pg_sys::Node {
        // SAFETY: valid by `new`.
        unsafe { (*self.fcinfo).resultinfo }
    }

    /// How many arguments were passed.
    pub fn len(&self) -> usize {
        // SAFETY: valid by `new`.
        unsafe { (*self.fcinfo).nargs as usize }
    }

    /// Whether argument `i` is NULL.
    pub fn is_null(&self, i: usize) -> bool {
        self.arg(i).isnull
    }

    /// A boolean; NULL is false.
    pub fn is_true(&self, i: usize) -> bool {
        !self.is_null(i) && self.datum(i).value() as u8 != 0
    }

    /// A 32-bit integer.
    pub fn i32(&self, i: usize) -> i32 {
        self.datum(i).value() as i32
    }

    /// A 64-bit integer.
    pub fn i64(&self, i: usize) -> i64 {
        self.datum(i).value() as i64
    }

    /// An object identifier.
    pub fn oid(&self, i: usize) -> pg_sys::Oid {
        pg_sys::Oid::from(self.datum(i).value() as u32)
    }

    /// A span of time.
    pub fn interval(&self, i: usize) -> Option<pgrx::datum::Interval> {
        // SAFETY: the SQL declaration says interval.
        unsafe { pgrx::FromDatum::from_datum(self.datum(i), self.is_null(i)) }
    }

    /// A name (an identifier of PostgreSQL's).
    pub fn name(&self, i: usize) -> String {
        // SAFETY: the SQL declaration says name: NAMEDATALEN bytes, NUL-terminated.
        unsafe { CStr::from_ptr(self.datum(i).cast_mut_ptr()).to_string_lossy().into_owned() }
    }

    /// A pointer of PostgreSQL's own: what a function with argument type internal gets.
    pub fn pointer(&self, i: usize) -> *mut core::ffi::c_void {
        self.datum(i).cast_mut_ptr()
    }

    /// A C string: what an input function gets.
    pub fn cstring(&self, i: usize) -> &[u8] {
        // SAFETY: the SQL declaration says cstring, and the function is STRICT.
        unsafe { CStr::from_ptr(self.datum(i).cast_mut_ptr()).to_bytes() }
    }

    /// Overwrites a C string that was refused and that the caller has no more use for but to print it. Only for a
    /// caller that asked to get the error back: those pass buffers of their own, never constants.
    pub fn blot_out_cstring(&mut self, i: usize) {
        let length = self.cstring(i).len();
        // SAFETY: the declaration says cstring, which fmgr passes as a mutable pointer; the terminator stays.
        unsafe { self.datum(i).cast_mut_ptr::<u8>().write_bytes(b'*', length) }
    }

    /// The rest of a `StringInfo` (what a receive function gets), consumed.
    pub fn message(&self, i: usize) -> &[u8] {
        // SAFETY: the SQL declaration says internal, and only libpq's receive path passes one.
        unsafe {
            let info = &mut *self.datum(i).cast_mut_ptr::<pg_sys::StringInfoData>();
            let (from, len) = (info.cursor.max(0) as usize, info.len.max(0) as usize);
            info.cursor = info.len;
            std::slice::from_raw_parts(info.data.cast::<u8>().add(from.min(len)), len.saturating_sub(from))
        }
    }

    /// The bytes of a varlena (text, bytea), detoasted.
    #[inline]
    pub fn bytes(&self, i: usize) -> &[u8] {
        // SAFETY: the SQL declaration says text or bytea.
        unsafe { varlena_bytes(self.datum(i)) }
    }

    /// The bytes as text; text in the database's encoding is valid wherever we compare it with ASCII.
    pub fn text(&self, i: usize) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.bytes(i))
    }

    /// The text, or None for NULL.
    pub fn opt_text(&self, i: usize) -> Option<std::borrow::Cow<'_, str>> {
        (!self.is_null(i)).then(|| self.text(i))
    }

    /// An array of text without NULLs.
    pub fn text_array(&self, i: usize) -> Vec<String> {
        // SAFETY: the SQL declaration says text[].
        let array: Option<Vec<Option<String>>> =
            unsafe { pgrx::FromDatum::from_datum(self.datum(i), self.is_null(i)) };
        array.unwrap_or_default().into_iter().flatten().collect()
    }

    /// An array of C strings: what a typmod input function gets.
    pub fn cstring_array(&self, i: usize) -> Vec<String> {
        // SAFETY: the SQL declaration says cstring[].
        unsafe {
            let array = pg_sys::pg_detoast_datum(self.datum(i).cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let mut elements = std::ptr::null_mut();
            let mut count = 0;
            pg_sys::deconstruct_array(
                array,
                pg_sys::CSTRINGOID,
                -2,
                false,
                pg_sys::TYPALIGN_CHAR as _,
                &mut elements,
                std::ptr::null_mut(),
                &mut count,
            );
            (0..count as usize)
                .map(|n| CStr::from_ptr((*elements.add(n)).cast_mut_ptr()).to_string_lossy().into_owned())
                .collect()
        }
    }

    /// A stored card number, checked in its structure.
    pub fn pan(&self, i: usize) -> Result<Pan<'_>> {
        Ok(Pan::from_stored(self.bytes(i))?)
    }

    /// Whether an expression calls: then the capability `search` applies. Index maintenance, sorting and
    /// ANALYZE call through their own look-up structures, without an expression.
    pub fn is_from_expression(&self) -> bool {
        // SAFETY: null or a node.
        unsafe { caller::is_expression(self.expression()) }
    }

    /// Whether an index calls the function that it keeps: it has its options in place of an expression.
    pub fn is_by_index(&self) -> bool {
        !self.expression().is_null() && !self.is_from_expression()
    }

    /// Whether ANALYZE calls for what arrays and rows are made of.
    pub fn is_for_statistics(&self) -> bool {
        // SAFETY: valid by `new`.
        unsafe { caller::is_gathering_statistics(self.flinfo()) }
    }

    /// The expression node of the call, or null.
    pub fn expression(&self) -> *mut pg_sys::Node {
        // SAFETY: valid by `new`; flinfo is set for every call that fmgr makes.
        unsafe {
            let flinfo = (*self.fcinfo).flinfo;
            if flinfo.is_null() { std::ptr::null_mut() } else { (*flinfo).fn_expr }
        }
    }

    /// Why the function is called, where the caller says so: a node or null.
    pub fn context(&self) -> *mut pg_sys::Node {
        // SAFETY: valid by `new`.
        unsafe { (*self.fcinfo).context }
    }

    /// The address of the look-up structure that the caller keeps.
    pub fn flinfo(&self) -> *mut pg_sys::FmgrInfo {
        // SAFETY: valid by `new`.
        unsafe { (*self.fcinfo).flinfo }
    }

    /// A value that lives as long as the caller's look-up structure: a scan, a statement.
    /// None where the caller keeps none.
    pub fn cache<T: Copy>(&mut self, empty: T) -> Option<&mut T> {
        // SAFETY: fn_extra of this flinfo is used by this function alone, always with this T.
        unsafe {
            let flinfo = (*self.fcinfo).flinfo;
            if flinfo.is_null() {
                return None;
            }
            if (*flinfo).fn_extra.is_null() {
                let place = pg_sys::MemoryContextAlloc((*flinfo).fn_mcxt, size_of::<T>()).cast::<T>();
                place.write(empty);
                (*flinfo).fn_extra = place.cast();
            }
            Some(&mut *(*flinfo).fn_extra.cast::<T>())
        }
    }

    /// SQL NULL.
    pub fn null(&mut self) -> Value {
        // SAFETY: valid by `new`.
        unsafe { (*self.fcinfo).isnull = true };
        pg_sys::Datum::from(0usize)
    }

    /// The argument as PostgreSQL passes it.
    pub fn argument(&self, i: usize) -> Value {
        self.datum(i)
    }

    fn arg(&self, i: usize) -> pg_sys::NullableDatum {
        assert!(i < self.len(), "argument out of range");
        // SAFETY: args has nargs elements.
        unsafe { *(*self.fcinfo).args.as_ptr().add(i) }
    }

    fn datum(&self, i: usize) -> pg_sys::Datum {
        self.arg(i).value
    }
}

/// A new varlena in the current memory context: text, bytea, pan.
pub fn varlena(bytes: &[u8]) -> Value {
    let size = bytes.len() + pg_sys::VARHDRSZ;
    // SAFETY: palloc returns size bytes or raises; the header is written before anyone reads it.
    unsafe {
        let place = allocate(size).cast::<u8>();
        pgrx::varlena::set_varsize_4b(place.cast(), size as i32);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.add(pg_sys::VARHDRSZ), bytes.len());
        pg_sys::Datum::from(place)
    }
}

/// A new C string in the current memory context.
pub fn cstring(bytes: &[u8]) -> Value {
    // SAFETY: palloc returns len + 1 bytes or raises.
    unsafe {
        let place = allocate(bytes.len() + 1).cast::<u8>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
        place.add(bytes.len()).write(0);
        pg_sys::Datum::from(place)
    }
}

/// The bytes of a varlena datum; copied into the current memory context only where it is toasted.
///
/// # Safety
/// `datum` is a pointer to a valid varlena.
#[inline]
pub unsafe fn varlena_bytes<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: by contract. Plain 1-byte and 4-byte headers are read in place: no call into PostgreSQL.
    unsafe {
        if let Some(bytes) = plain_bytes(datum) {
            return bytes;
        }
        let mut pointer = datum.cast_mut_ptr::<pg_sys::varlena>();
        if pgrx::varlena::varatt_is_1b_e(pointer) || pgrx::varlena::varatt_is_4b_c(pointer) {
            pointer = pg_sys::pg_detoast_datum_packed(pointer);
        }
        pgrx::varlena::varlena_to_byte_slice(pointer)
    }
}

/// The bytes of a varlena that is neither compressed nor elsewhere, where they lie. What is stored has a 1-byte header
/// (its lowest bit is set, the rest is the length with the header), what was just made one of 4 bytes (two bits clear).
///
/// # Safety
/// `datum` is a pointer to a valid varlena.
#[inline]
unsafe fn plain_bytes<'a>(datum: pg_sys::Datum) -> Option<&'a [u8]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: by contract; a 4-byte header is aligned.
    unsafe {
        let place = datum.cast_mut_ptr::<u8>();
        let (start, length) = match *place {
            1 => return None,
            header if header & 1 == 1 => (1, usize::from(header >> 1)),
            header if header & 3 == 0 => (4, (*place.cast::<u32>() >> 2) as usize),
            _ => return None,
        };
        Some(std::slice::from_raw_parts(place.add(start), length.checked_sub(start)?))
    }
}
