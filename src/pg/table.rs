//! Reads a small table of ours row by row, without the executor and as of now, so that it works
//! inside any statement, in any isolation level, and on a standby.

use pgrx::{FromDatum, pg_sys};

/// One row; columns are counted from 0 in the order of the table's declaration.
pub struct Row {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Row {
    /// Column `i`, None for NULL (or a column that a later version will add).
    pub fn get<T: FromDatum>(&self, i: usize) -> Option<T> {
        let (value, null) = (self.values.get(i)?, self.nulls.get(i)?);
        // SAFETY: the caller names the type that sql/ declares.
        unsafe { T::from_datum(*value, *null) }
    }
}

/// Calls `each` for every row of the table.
pub fn scan(table: pg_sys::Oid, mut each: impl FnMut(Row)) {
    // SAFETY: an ordinary heap scan; each row's datums are read before the next tuple is fetched, and the lock
    // goes with the relation.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        // In parallel mode a new snapshot may not be taken; the leader's is as good.
        let snapshot = if pg_sys::IsInParallelMode() {
            pg_sys::RegisterSnapshot(pg_sys::GetActiveSnapshot())
        } else {
            pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())
        };
        let descriptor = (*relation).rd_att;
        let columns = (*descriptor).natts as usize;
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            snapshot,
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut row =
                Row { values: vec![pg_sys::Datum::from(0usize); columns], nulls: vec![true; columns] };
            pg_sys::heap_deform_tuple(tuple, descriptor, row.values.as_mut_ptr(), row.nulls.as_mut_ptr());
            each(row);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
}
