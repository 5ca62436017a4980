//! Statistics of card-number columns: how many NULLs and how wide. Nothing that tells which values are equal;
//! the planner is told that all differ, which is right for what is looked up.

use pgrx::{pg_guard, pg_sys};

use crate::error::Result;
use crate::pg::call::{Call, Value};

/// `pan_typanalyze(internal)`
pub fn typanalyze(call: &mut Call) -> Result<Value> {
    // SAFETY: ANALYZE passes its own structure.
    unsafe {
        let stats = call.pointer(0).cast::<pg_sys::VacAttrStats>();
        (*stats).compute_stats = Some(compute);
        // As PostgreSQL does for its standard statistics at the default target.
        (*stats).minrows = 300 * 100;
    }
    Ok(true.into())
}

#[pg_guard]
unsafe extern "C-unwind" fn compute(
    stats: *mut pg_sys::VacAttrStats,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
    rows: i32,
    _total: f64,
) {
    // SAFETY: ANALYZE calls it with its own structures; the fetch function only reads the sample.
    unsafe {
        let Some(fetch) = fetch else { return };
        let (mut nulls, mut bytes) = (0, 0.0);
        for row in 0..rows {
            let mut is_null = false;
            #[allow(ffi_unwind_calls, reason = "no value with a destructor is alive")]
            let value = fetch(stats, row, &mut is_null);
            if is_null {
                nulls += 1;
            } else {
                bytes += crate::pg::call::varlena_bytes(value).len() as f32 + 1.0;
            }
        }
        if rows > 0 {
            (*stats).stats_valid = true;
            (*stats).stanullfrac = nulls as f32 / rows as f32;
            (*stats).stawidth = if rows > nulls { (bytes / (rows - nulls) as f32) as i32 } else { 0 };
            (*stats).stadistinct = (*stats).stanullfrac - 1.0;
        }
    }
}
