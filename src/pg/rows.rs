//! The rows of a function that returns a table, all at once.

use pgrx::{IntoDatum, pg_sys};

use crate::pg::call::Call;

/// A value of a row.
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// A number, of type bigint or integer.
    Number(i64),
    /// A moment, in microseconds since 1970.
    Time(i64),
    /// Yes or no.
    Bool(bool),
    /// A text, in UTF-8; what the database's encoding has not is written as `\uhhhh`.
    Text(&'a str),
    /// A list of texts.
    Texts(Vec<String>),
}

/// Microseconds from 1970 to PostgreSQL's epoch, 2000.
const EPOCH: i64 = 946_684_800_000_000;

/// Where the rows go.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    columns: pg_sys::TupleDesc,
    /// What a row's values are made in.
    scratch: pg_sys::MemoryContext,
    is_utf8: bool,
}

impl Rows {
    /// Begins the result of a call; None if the caller takes no table.
    pub fn new(call: &Call) -> Option<Rows> {
        // SAFETY: PostgreSQL's protocol of functions that materialise their result.
        unsafe {
            let info = call.result_info().cast::<pg_sys::ReturnSetInfo>().as_mut()?;
            let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            if info.type_ != pg_sys::NodeTag::T_ReturnSetInfo
                || info.allowedModes & materialize as i32 == 0
                || info.expectedDesc.is_null()
            {
                return None;
            }
            let before = pg_sys::MemoryContextSwitchTo((*info.econtext).ecxt_per_query_memory);
            let columns = pg_sys::CreateTupleDescCopy(info.expectedDesc);
            let store = pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            info.returnMode = materialize;
            info.setResult = store;
            info.setDesc = columns;
            let scratch =
                pg_sys::AllocSetContextCreateInternal(before, c"pgpci row".as_ptr(), 0, 8192, 8192 * 1024);
            let is_utf8 = pg_sys::GetDatabaseEncoding() as u32 == pg_sys::pg_enc::PG_UTF8;
            Some(Rows { store, columns, scratch, is_utf8 })
        }
    }

    /// Adds a row, with as many cells as the function declares columns.
    pub fn push(&mut self, cells: &[Cell]) {
        // SAFETY: the descriptor has the columns that sql/ declares; the values are copied into the store.
        unsafe {
            assert_eq!(cells.len(), (*self.columns).natts as usize, "columns of a table function");
            let before = pg_sys::MemoryContextSwitchTo(self.scratch);
            let mut nulls = vec![false; cells.len()];
            let mut values: Vec<_> = cells.iter().map(|cell| self.datum(cell)).collect();
            let mut datums: Vec<pg_sys::Datum> = values
                .iter_mut()
                .zip(&mut nulls)
                .map(|(value, null)| {
                    *null = value.is_none();
                    value.unwrap_or(pg_sys::Datum::from(0usize))
                })
                .collect();
            pg_sys::tuplestore_putvalues(self.store, self.columns, datums.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.scratch);
        }
    }

    fn datum(&self, cell: &Cell) -> Option<pg_sys::Datum> {
        match cell {
            Cell::Null => None,
            Cell::Number(number) => Some(pg_sys::Datum::from(*number)),
            Cell::Time(micros) => Some(pg_sys::Datum::from(micros - EPOCH)),
            Cell::Bool(yes) => Some(pg_sys::Datum::from(*yes)),
            Cell::Text(text) => self.text(text).into_owned().into_datum(),
            Cell::Texts(texts) => {
                texts.iter().map(|text| self.text(text).into_owned()).collect::<Vec<_>>().into_datum()
            }
        }
    }

    fn text<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        if self.is_utf8 || text.is_ascii() {
            return text.into();
        }
        let mut ascii = String::new();
        for letter in text.chars() {
            if letter.is_ascii() { ascii.push(letter) } else { ascii.extend(letter.escape_unicode()) }
        }
        ascii.into()
    }
}
