//! Functions that take card numbers without comparing them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::catalog;

/// Built-in functions that take card numbers, or arrays and rows of them, without comparing them.
const HARMLESS: &[&str] = &[
    "any_value",
    "array_agg",
    "array_append",
    "array_cat",
    "array_dims",
    "array_fill",
    "array_length",
    "array_lower",
    "array_ndims",
    "array_prepend",
    "array_reverse",
    "array_sample",
    "array_shuffle",
    "array_to_json",
    "array_to_string",
    "array_upper",
    "cardinality",
    "concat",
    "concat_ws",
    "count",
    "first_value",
    "format",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "json_populate_record",
    "json_populate_recordset",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "num_nonnulls",
    "num_nulls",
    "pg_column_compression",
    "pg_column_size",
    "pg_column_toast_chunk_id",
    "pg_typeof",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "textanycat",
    "anytextcat",
    "to_json",
    "to_jsonb",
    "trim_array",
    "unnest",
];

// Fixed by pg_language.dat; pgrx does not bind them.
const INTERNAL_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(12);
const C_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(13);

thread_local! {
    static HARMLESS_OIDS: RefCell<HashMap<pg_sys::Oid, bool>> = RefCell::new(HashMap::new());
}

/// Concatenation of anything with text prints; all else may compare.
pub fn is_harmless_operator(operator: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    is_harmless(unsafe { pg_sys::get_opcode(operator) })
}

/// Functions of ours check for themselves, those in SQL or a procedural language are made of statements that
/// are checked; built-in ones are harmless if listed; other C code is not trusted not to compare.
pub fn is_harmless(function: pg_sys::Oid) -> bool {
    if let Some(known) = HARMLESS_OIDS.with_borrow(|map| map.get(&function).copied()) {
        return known;
    }
    // SAFETY: syscache look-ups; the tuple is released.
    let harmless = unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let name = CStr::from_ptr((*form).proname.data.as_ptr()).to_string_lossy().into_owned();
        let (namespace, language) = ((*form).pronamespace, (*form).prolang);
        pg_sys::ReleaseSysCache(tuple);
        // All functions of ours are in C: a superuser can put others beside them, by names of PostgreSQL's own.
        let ours = language == C_LANGUAGE && catalog::get().is_some_and(|c| c.namespace == namespace);
        if ours {
            true
        } else if function.to_u32() < pg_sys::FirstNormalObjectId {
            HARMLESS.contains(&name.as_str())
        } else {
            language != C_LANGUAGE && language != INTERNAL_LANGUAGE
        }
    };
    HARMLESS_OIDS.with_borrow_mut(|map| map.insert(function, harmless));
    harmless
}
