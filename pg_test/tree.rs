//! Query trees and plans made by hand, past the hooks.
#![allow(unsafe_code, reason = "tests hand trees to what walks them")]

use std::ffi::CString;

use pgrx::{PgList, pg_sys};

/// The tree of one statement.
pub fn query(sql: &str) -> *mut pg_sys::Query {
    let text = match CString::new(sql) {
        Ok(text) => text,
        Err(error) => panic!("{error}"),
    };
    // SAFETY: parsed and analysed in the current memory context, which outlives the test; the text is leaked
    // because trees point into it.
    unsafe {
        let text = text.into_raw();
        let raw = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text));
        assert_eq!(raw.len(), 1, "one statement");
        let Some(statement) = raw.head() else { panic!("no statement") };
        let types = std::ptr::null();
        let queries =
            pg_sys::pg_analyze_and_rewrite_fixedparams(statement, text, types, 0, std::ptr::null_mut());
        match PgList::<pg_sys::Query>::from_pg(queries).head() {
            Some(query) => query,
            None => panic!("no query"),
        }
    }
}

/// The plan of one statement, by PostgreSQL's own planner alone.
pub fn plan(sql: &str) -> *mut pg_sys::PlannedStmt {
    let options = pg_sys::CURSOR_OPT_PARALLEL_OK as i32;
    // SAFETY: a query of our own; the planner may scribble on it.
    unsafe { pg_sys::standard_planner(query(sql), std::ptr::null(), options, std::ptr::null_mut()) }
}
